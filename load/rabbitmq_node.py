"""A RabbitMQ node of one measurement's own, from the installed programs, in a temporary folder."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

START_SECONDS_MAX = 120
# Evaluates on the node what it reads, a line each. It stays: to start Erlang takes a second of processor.
CONTROL = """
    Go = fun Go() ->
        {ok, Tokens, _} = erl_scan:string(io:get_line("")),
        {ok, Parsed} = erl_parse:parse_exprs(Tokens),
        Value = rpc:call(list_to_atom(os:getenv("RABBITMQ_NODENAME")), erl_eval, exprs, [Parsed, []]),
        io:format("~0tp~n", [Value]),
        Go()
    end,
    Go().
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("127.0.0.1", 0))
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def programs():
    packaged = pathlib.Path("/usr/lib/rabbitmq/bin")
    found = packaged if (packaged / "rabbitmq-server").exists() else None
    server = shutil.which("rabbitmq-server")
    if not found and not server:
        raise SystemExit("RabbitMQ's programs are not installed: sudo tests/install-tools.sh rabbitmq")
    return found or pathlib.Path(server).parent


class RabbitNode:
    def __init__(self, folder, idle=None):
        """`idle` is the group that it runs in, if any."""
        self.folder, self.idle = folder, idle
        self.port, distribution, names = free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        self.environment = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(folder),
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": "loms-load@localhost", "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": f"{folder}/state", "RABBITMQ_LOG_BASE": f"{folder}/logs", "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf", "RABBITMQ_CONFIG_FILES": f"{folder}/conf.d",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/rabbitmq-env.conf",
        }
        self.names = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(names)], stdout=subprocess.DEVNULL)
        self.process, self.control = None, None
        self.start()
        erl = ["erl", "-noshell", "-hidden", "-sname", "control@localhost", "+S", "1", "+sbwt", "none", "-eval", CONTROL]
        self.control = subprocess.Popen(
            self.command(*erl), cwd=folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def command(self, *command):
        return self.idle.command(*command) if self.idle else command

    def start(self):
        log = self.folder / "node.log"
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            # The script then turns into the node: its id is the node's.
            environment = self.environment | {"RUNNING_UNDER_SYSTEMD": "true"}
            self.process = subprocess.Popen(
                self.command(programs() / "rabbitmq-server"), cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=open(log, "w"), stderr=subprocess.STDOUT)
            # After a kill the name service may hold the node's name for a moment: then once more.
            while self.process.poll() is None and time.monotonic() < deadline:
                if "Server startup complete" in log.read_text():
                    return
                time.sleep(0.05)
        raise SystemExit("the node does not start:\n" + log.read_text())

    def evaluate(self, expression):
        """Of Erlang, on the node: what rabbitmqctl would have it do."""
        self.control.stdin.write(expression + ".\n")
        self.control.stdin.flush()
        answer = self.control.stdout.readline()
        if not answer.startswith("{value,"):
            raise SystemExit(f"{expression}: {answer or 'the control has ended'}")

    def limit_memory(self, share):
        """Of the machine's; with 0 every publisher is blocked."""
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({float(share)})")

    def delete_queue(self, queue):
        self.evaluate(f"{{ok, _}} = {self.on_queue(queue)} rabbit_amqqueue:delete(Queue, false, false, <<\"test\">>) end)")

    def purge_queue(self, queue):
        self.evaluate(f"{{ok, _}} = {self.on_queue(queue)} rabbit_amqqueue:purge(Queue) end)")

    @staticmethod
    def on_queue(queue):
        return f"rabbit_amqqueue:with(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>), fun(Queue) ->"

    def limit_queue(self, queue, messages):
        """Whatever is published past it is refused."""
        name, limit = f"<<\"^{queue}$\">>", f"<<\"{{\\\"max-length\\\": {messages}}}\">>"
        self.evaluate(f"ok = rabbit_policy:parse_set(<<\"/\">>, <<\"limit\">>, {name}, {limit}, <<\"0\">>, <<\"queues\">>, <<\"test\">>)")

    def lift_queue_limit(self):
        self.evaluate("ok = rabbit_policy:delete(<<\"/\">>, <<\"limit\">>, <<\"test\">>)")

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def end(self):
        for process in (self.control, self.process, self.names):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
