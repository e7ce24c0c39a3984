"""A RabbitMQ node of one measurement's own, from the installed programs, in a temporary folder."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

START_SECONDS_MAX = 120


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
    def __init__(self, folder):
        self.folder = folder
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
        self.process = None
        self.start()

    def start(self):
        log = self.folder / "node.log"
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            # The script then turns into the node: its id is the node's.
            environment = self.environment | {"RUNNING_UNDER_SYSTEMD": "true"}
            self.process = subprocess.Popen(
                [programs() / "rabbitmq-server"], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=open(log, "w"), stderr=subprocess.STDOUT)
            # After a kill the name service may hold the node's name for a moment: then once more.
            while self.process.poll() is None and time.monotonic() < deadline:
                if "Server startup complete" in log.read_text():
                    return
                time.sleep(0.05)
        raise SystemExit("the node does not start:\n" + log.read_text())

    def control(self, *arguments):
        # A machine of its own, an Erlang one, which is to take no time from those who are measured.
        command = ["nice", "-n", "19", programs() / "rabbitmqctl", "--silent", *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True).stdout

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def end(self):
        for process in (self.process, self.names):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
