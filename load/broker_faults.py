"""Runs the measurements of load/broker-faults, and prints them as they stand in load/RESULTS.md.

Orders come at a fixed rate (an open loop; a latency counts from the intended start), the faults one after
the other, each beside as much time without one, by turns before it and after it: windows of a machine that
others use, too, differ from one minute to the next by more than most faults change. A fault lasts until its
window ends; then the broker is repaired, and the time is taken in which the events that wait are handed over.
"""

import csv
import io
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from amqp_publish import message_bytes, publish_rate
from idle_group import IdleGroup
from rabbitmq_node import RabbitNode
from servers import LOMS, POSTGRES, Server, create, psql, write_inputs, write_log_ahead

QUICK = os.environ.get("QUICK") == "1"
ROUNDS = 1 if QUICK else 10
SECONDS = 6 if QUICK else 10
PAUSE_SECONDS = 12 if QUICK else 30
ORDERS_PER_SECOND = int(os.environ.get("ORDERS_PER_SECOND", "400"))
FAULT_AFTER_SECONDS = 2
RECOVERY_SECONDS_MAX = 120
# What a deleted queue has lost is looked for among all of the day's events, with rests: some 3,000 a second.
TOLD_SECONDS_MAX = 1_200
TOLD_PROGRESS_SECONDS = 30
RESAMPLES = 200
# For the rates: orders as fast as they can be taken, while the broker takes nothing.
BACKLOG_SECONDS = 4 if QUICK else 10
BARE_SECONDS = 3
WINDOWS = [100, 500, 2000]
QUEUE = "notifications"
STRANGER = "another one started"


class Shop(Server):
    """The server on a database of its own, and a notifier that can be stopped: an idle one."""

    def __init__(self, folder, database, broker, idle):
        create(database)
        super().__init__(folder, database, f"{POSTGRES}/{database}", AMQP_URL=broker.url, LOMS_LOG="warn")
        self.database, self.idle, self.notifier = database, idle, None

    def start_notifier(self):
        self.notifier = subprocess.Popen(self.idle.command(LOMS, "notifications"), cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL,
                                         stderr=open(self.folder / "notifier.log", "a"))

    def stop_notifier(self):
        if self.notifier:
            self.notifier.send_signal(signal.SIGTERM)
            self.notifier.wait(timeout=60)
        self.notifier = None

    def waiting(self):
        return json.loads(self.get("/readyz"))["events_waiting"]

    def drain(self):
        """Waits until nothing waits any more; events per second from the first movement on."""
        began = time.monotonic()
        # A look at the time of each: the rate is that of the middle 90 percent, without the pause
        # before the relay's next attempt.
        looks = [(began, self.waiting())]
        while looks[-1][1] > 0:
            if time.monotonic() - began > RECOVERY_SECONDS_MAX:
                raise SystemExit(f"events still wait: {looks[-1][1]}")
            time.sleep(0.02)
            looks.append((time.monotonic(), self.waiting()))
        most = max(count for _, count in looks)
        first = next(at for at, count in looks if count <= 0.95 * most)
        last = next(at for at, count in looks if count <= 0.05 * most)
        return most, 0.9 * most / (last - first) if last > first else float("nan"), looks[-1][0] - began

    def check(self):
        """Every event was told once, at the first attempt, and none is parked. Gives how many there are, and how long it took
        until the last one was told."""
        began, said = time.monotonic(), 0.0
        while (untold := self.untold()) and time.monotonic() - began < TOLD_SECONDS_MAX:
            if time.monotonic() - said > TOLD_PROGRESS_SECONDS:
                said = time.monotonic()
                print(f"{len(untold):,} events are still to be told, the first ones {untold[:3]}, the last one {untold[-1]}", flush=True)
            time.sleep(2)
        if untold:
            raise SystemExit(f"events were lost: {untold}\n{(self.folder / 'notifier.log').read_text()}")
        took = time.monotonic() - began
        again = psql(self.database, "-c", "select count(*) from notifications where outcome <> 'sent' or attempts <> 1")
        parked = subprocess.run([LOMS, "notifications", "redrive", "--dry-run"], cwd=self.folder, env=self.environment,
                                check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        if again != "0" or not parked.startswith("0 parked"):
            raise SystemExit(f"{again} were told again; {parked}")
        return int(psql(self.database, "-c", "select count(*) from events where status <> 'new'")), took

    def untold(self):
        """The events of which nothing is recorded."""
        ids = "select writer_id || '-' || seq from events where status <> 'new' except select event_id from notifications"
        return sorted(psql(self.database, "-c", ids).split(), key=lambda id: [int(part) for part in id.split("-")])

    def end(self):
        self.stop_notifier()
        self.stop()


def start_load(shop, seconds, rate=None):
    command = ["oha", "--no-tui", "--output-format", "csv", "-z", f"{seconds}s", "-c", "64", "-m", "POST",
               "-T", "application/json", "-Z", str(shop.folder / "uniform.bodies")]
    command += ["-q", str(rate), "--latency-correction"] if rate else []
    return subprocess.Popen(command + [shop.url + "/orders"], stdout=subprocess.PIPE, text=True)


def end_load(load):
    """The latency of each order in ms, and how many were refused."""
    answers = list(csv.DictReader(io.StringIO(load.communicate(timeout=300)[0])))
    latencies = [1e3 * float(answer["request-duration"]) for answer in answers if answer["status"] == "201"]
    refused = len(answers) - len(latencies)
    if refused:
        print(f"orders were refused: {refused}", flush=True)
    return latencies, refused


def p99(*windows):
    """Of all of them together: in a single one, half a second in which the machine does something else decides."""
    return statistics.quantiles(itertools.chain(*windows), n=100)[98]


def spread(without, with_fault):
    """Between what the ratio of their p99s would lie in nine of ten repetitions, as the rounds differ among themselves:
    drawn again from the same pairs of windows, with a fixed seed."""
    draw, rounds, ratios = random.Random(1), list(zip(without, with_fault)), []
    for _ in range(RESAMPLES):
        before, during = zip(*draw.choices(rounds, k=len(rounds)))
        ratios.append(p99(*during) / p99(*before))
    ratios.sort()
    return ratios[RESAMPLES // 20], ratios[-RESAMPLES // 20]


def nothing():
    """Neither breaks anything nor mends it."""


def faults(shop, broker, stranger):
    """What breaks the broker during the load, and what mends it afterwards; and, for comparison, what the start of a
    broker that nobody here uses takes of the processors."""

    def fill():
        shop.stop_notifier()
        broker.limit_queue(QUEUE, 10)

    def make_room():
        broker.lift_queue_limit()
        shop.start_notifier()

    def restart():
        broker.stop()
        broker.start()

    return {
        "SIGKILL": (broker.kill, broker.start, SECONDS),
        "restarted at once": (restart, nothing, SECONDS),
        STRANGER: (stranger.start, stranger.stop, SECONDS),
        f"SIGSTOP, {PAUSE_SECONDS} s": (lambda: broker.signal(signal.SIGSTOP), lambda: broker.signal(signal.SIGCONT), PAUSE_SECONDS),
        "queue deleted": (lambda: broker.delete_queue(QUEUE), nothing, SECONDS),
        "memory alarm": (lambda: broker.limit_memory(0), lambda: broker.limit_memory(0.6), SECONDS),
        "queue full": (fill, make_room, SECONDS),
    }


def window(shop, seconds, act):
    load = start_load(shop, seconds + FAULT_AFTER_SECONDS, ORDERS_PER_SECOND)
    time.sleep(FAULT_AFTER_SECONDS)
    act()
    return end_load(load)


def measure_faults(shop, broker, stranger):
    """Of each fault, round by round: the latencies without it and with it, how many orders were refused, and how the
    backlog drained."""
    figures = {}
    for number in range(ROUNDS):
        for name, (damage, mend, seconds) in faults(shop, broker, stranger).items():
            seen = {}
            for act, repair in ((nothing, nothing), (damage, mend))[:: 1 if number % 2 == 0 else -1]:
                latencies, refused = window(shop, seconds, act)
                repair()
                seen[act] = latencies, refused, shop.drain()
            without, (with_fault, refused, drained) = seen[nothing][0], seen[damage]
            figures.setdefault(name, []).append((without, with_fault, refused, drained))
            print(f"round {number + 1} of {ROUNDS}  {name:20} p99 {p99(with_fault):6.2f} ms, without {p99(without):6.2f}; {refused} refused;"
                  f" {drained[0]:,} events waited, drained at {drained[1]:,.0f}/s, all within {drained[2]:.1f} s", flush=True)
    return figures


def measure_rates(shop, broker):
    """The relay alone on a backlog; RabbitMQ alone with messages of the same size."""
    shop.stop_notifier()
    size, relay, ceiling = 0, [], {messages: [] for messages in WINDOWS}
    for number in range(ROUNDS):
        broker.limit_memory(0)
        taken = len(end_load(start_load(shop, BACKLOG_SECONDS))[0]) / BACKLOG_SECONDS
        broker.limit_memory(0.6)
        most, rate, _ = shop.drain()
        relay.append(rate)
        size = message_bytes(broker.port, QUEUE, 100)
        print(f"round {number + 1} of {ROUNDS}  {taken:,.0f} orders/s, then {most:,} events of {size} bytes, relayed at {rate:,.0f}/s", flush=True)
        broker.purge_queue(QUEUE)
        for messages in WINDOWS:
            rate = publish_rate(broker.port, "loms.orders", "order.awaiting_payment", size, messages, BARE_SECONDS)
            ceiling[messages].append(rate)
            print(f"round {number + 1} of {ROUNDS}  bare, {messages} at a time: {rate:,.0f}/s", flush=True)
            broker.purge_queue(QUEUE)
    return size, relay, ceiling


def report(figures, rates, told):
    size, relay, ceiling = rates
    median = statistics.median
    print(f"\n{ROUNDS} rounds, {ORDERS_PER_SECOND} orders/s of 3 lines, PostgreSQL, RabbitMQ, notifier and load generator on {os.cpu_count()} cores."
          f" {told:,} events, each told once, none parked.\n")
    print("| fault | p99 without, ms | p99 with, ms | ratio | in nine of ten cases | orders refused | events that waited | drained at, events/s | until all were handed over, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rounds in figures.items():
        without, with_fault, refused, drained = zip(*rounds)
        waited, rates, took = zip(*drained)
        rates = [rate for rate in rates if rate == rate]
        rate = f"{median(rates):,.0f}" if rates else "–"
        low, high = spread(without, with_fault)
        print(f"| {name} | {p99(*without):.2f} | {p99(*with_fault):.2f} | {p99(*with_fault) / p99(*without):.2f} | {low:.2f} to {high:.2f} | {sum(refused)}"
              f" | {median(waited):,.0f} | {rate} | {median(took):.1f} |")
    print(f"\n| publishing with confirms, messages of {size} bytes | per second | of RabbitMQ's best |")
    print("| --- | ---: | ---: |")
    best = max(median(rates) for rates in ceiling.values())
    for messages, rates in ceiling.items():
        print(f"| RabbitMQ alone, {messages} at a time | {median(rates):,.0f} | {median(rates) / best:.2f} |")
    print(f"| outbox relay, out of the database | {median(relay):,.0f} | {median(relay) / best:.2f} |")


def main():
    # So that what was started is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loms-faults-"))
    broker_folders = [pathlib.Path(tempfile.mkdtemp(prefix="loms-broker-")) for _ in range(2)]
    idle, brokers, shop = IdleGroup(), [], None
    try:
        write_inputs(folder)
        write_log_ahead()
        brokers += [RabbitNode(broker_folder, idle) for broker_folder in broker_folders]
        broker, stranger = brokers
        stranger.stop()
        shop = Shop(folder, "faults", broker, idle)
        shop.start_notifier()
        window(shop, 2, lambda: None)
        figures = measure_faults(shop, broker, stranger)
        told, took = shop.check()
        print(f"all {told:,} events were told {took:.0f} s after the last fault", flush=True)
        rates = measure_rates(shop, broker)
        shop.end()
        report(figures, rates, told)
    finally:
        for process in (shop and shop.notifier, shop and shop.process):
            if process:
                process.kill()
        for started in brokers:
            started.end()
        idle.end()
        for made in (folder, *broker_folders):
            shutil.rmtree(made)


main()
