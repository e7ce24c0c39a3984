"""How fast RabbitMQ takes persistent messages with confirms: frames made beforehand, sent as they are.

It speaks as much of AMQP 0-9-1 as that takes, and costs the machine next to nothing, so that what is
measured is the broker. https://www.rabbitmq.com/amqp-0-9-1-reference
"""

import socket
import struct
import time

METHOD, HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, b"\xce"
BASIC, CONFIRM = 60, 85
ACK = 80
PERSISTENT = 2
ANSWER_SECONDS_MAX = 30


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def method(channel, number, arguments=b""):
    return frame(METHOD, channel, struct.pack(">HH", *number) + arguments)


def short(text):
    return bytes([len(text)]) + text.encode()


def long(text):
    return struct.pack(">I", len(text)) + text


class Channel:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b""
        # All up to this number are confirmed, and those beyond it.
        self.confirmed, self.beyond = 0, set()
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        self.socket.sendall(method(0, (10, 11), long(b"") + short("PLAIN") + long(b"\x00guest\x00guest") + short("en_US")))
        tune = self.expect(10, 30)
        self.socket.sendall(method(0, (10, 31), tune[:6] + b"\x00\x00") + method(0, (10, 40), short("/") + b"\x00\x00"))
        self.expect(10, 41)
        self.socket.sendall(method(1, (20, 10), b"\x00"))
        self.expect(20, 11)
        self.socket.sendall(method(1, (CONFIRM, 10), b"\x00"))
        self.expect(CONFIRM, 11)

    def next_frame(self):
        while True:
            if len(self.bytes) >= 7:
                kind, _, length = struct.unpack(">BHI", self.bytes[:7])
                if len(self.bytes) >= length + 8:
                    payload, self.bytes = self.bytes[7:7 + length], self.bytes[length + 8:]
                    if kind != HEARTBEAT:
                        return payload
                    continue
            received = self.socket.recv(1 << 16)
            if not received:
                raise SystemExit("the broker has closed the connection")
            self.bytes += received

    def expect(self, family, number):
        payload = self.next_frame()
        got = struct.unpack(">HH", payload[:4])
        if got != (family, number):
            raise SystemExit(f"the broker answered {got} instead of {(family, number)}: {payload[4:]}")
        return payload[4:]

    def wait_for_confirms(self, last):
        """Until the broker has confirmed this number and all before it."""
        while self.confirmed < last:
            payload = self.next_frame()
            got = struct.unpack(">HH", payload[:4])
            if got != (BASIC, ACK):
                raise SystemExit(f"the broker refuses a message: {got}")
            tag, multiple = struct.unpack(">QB", payload[4:13])
            if multiple:
                self.confirmed = max(self.confirmed, tag)
            else:
                self.beyond.add(tag)
            while self.confirmed + 1 in self.beyond:
                self.confirmed += 1
                self.beyond.remove(self.confirmed)


def message_bytes(port, queue, messages):
    """How long the first messages of a queue are on average; they are taken out of it."""
    channel = Channel(port)
    sizes = []
    for _ in range(messages):
        channel.socket.sendall(method(1, (BASIC, 70), b"\x00\x00" + short(queue) + b"\x01"))
        channel.expect(BASIC, 71)
        _, _, left = struct.unpack(">HHQ", channel.next_frame()[:12])
        sizes.append(left)
        while left > 0:
            left -= len(channel.next_frame())
    channel.socket.close()
    return round(sum(sizes) / messages)


def publish_rate(port, exchange, key, size, messages, seconds):
    """Messages per second, so many at a time, each time until all of them are confirmed."""
    channel = Channel(port)
    # mandatory; a header with the delivery mode alone.
    publish = method(1, (BASIC, 40), b"\x00\x00" + short(exchange) + short(key) + b"\x01")
    header = frame(HEADER, 1, struct.pack(">HHQHB", BASIC, 0, size, 1 << 12, PERSISTENT))
    batch = (publish + header + frame(BODY, 1, b"x" * size)) * messages
    published, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        channel.socket.sendall(batch)
        published += messages
        channel.wait_for_confirms(published)
    took = time.monotonic() - began
    channel.socket.close()
    return published / took
