"""What the measurements are made with: private databases, the program, and the load generators."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.request

SKUS = 10_000
USERS = 100_000
BODIES = 50_000
# Of PostgreSQL's log between two checkpoints: by default it is 1 GB, less than half a minute of full load.
LOG_GIGABYTES = 4
LOMS = pathlib.Path("target/release/loms").resolve()
LOAD = pathlib.Path("load")
POSTGRES = os.environ["LOMS_TEST_POSTGRES"].rstrip("/")


def postgres_programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else pathlib.Path(shutil.which("pgbench")).parent


PROGRAMS = postgres_programs()


def psql(database, *arguments):
    command = [PROGRAMS / "psql", "-qAt", "-v", "ON_ERROR_STOP=1", f"{POSTGRES}/{database}", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def create(database):
    psql("postgres", "-c", f"create database {database}")


def write_log_ahead():
    """A database that has run for a while writes over old files of its log. A new one makes each of them under load: 16 MiB
    of zeros and a flush, for which everybody waits."""
    reload = "select pg_reload_conf()"
    # No checkpoint before they are all there.
    psql("postgres", *commands((setting("min_wal_size", LOG_GIGABYTES), setting("max_wal_size", 4 * LOG_GIGABYTES), reload)))
    fill = ("select pg_logical_emit_message(false, 'fill', '')", "select pg_switch_wal()")
    psql("postgres", *commands(fill * (LOG_GIGABYTES * 1024 // 16)))
    psql("postgres", *commands((setting("max_wal_size", LOG_GIGABYTES), reload, "checkpoint")))


def setting(name, gigabytes):
    return f"alter system set {name} = '{gigabytes}GB'"


def commands(statements):
    return (part for statement in statements for part in ("-c", statement))


def sku(number):
    return f"S{number:05}"


def write_inputs(folder, purchases=BODIES):
    """A catalogue, its stock, and orders to post: three lines each, hot ones with one SKU in every order."""
    with open(folder / "catalog.csv", "w") as catalog, open(folder / "stock.csv", "w") as stock:
        catalog.write("sku,name,price_minor_units\n")
        stock.write("sku,warehouse_id,on_hand\n")
        for number in range(SKUS):
            catalog.write(f"{sku(number)},Product {sku(number)},100\n")
            stock.write(f"{sku(number)},1,1000000000\n")
    draw = random.Random(7)
    for name, hot in (("uniform", False), ("hot", True)):
        with open(folder / f"{name}.bodies", "w") as bodies:
            for _ in range(BODIES):
                numbers = [0 if hot else draw.randrange(3333), draw.randrange(3333, 6666), draw.randrange(6666, SKUS)]
                items = [{"sku": sku(number), "count": 1} for number in numbers]
                bodies.write(json.dumps({"user": f"user-{draw.randrange(USERS)}", "items": items}) + "\n")
    with open(folder / "recording.csv", "w") as recording:
        recording.write("timestamp,user_id,invoice,kind,sku,count,price_minor\n")
        for invoice in range(purchases):
            second, user = f"{invoice // 3600 % 24:02}:{invoice // 60 % 60:02}:{invoice % 60:02}", draw.randrange(USERS)
            for number in draw.sample(range(SKUS), 3):
                recording.write(f"2026-01-01T{second},{user},{invoice},order_line,{sku(number)},1,100\n")


class Server:
    """The program on a database of its own, which must be right in the end."""

    def __init__(self, folder, name, database_url, **settings):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("LOMS_", "AMQP_"))}
        self.environment = environment | {
            "DATABASE_URL": database_url,
            "LOMS_LISTEN": "127.0.0.1:0",
            "LOMS_CATALOG": str(folder / "catalog.csv"),
            "LOMS_STOCK": str(folder / "stock.csv"),
            "LOMS_PAYMENT_TIMEOUT": "1d",
        } | settings
        self.folder, self.name, self.database_url = folder, name, database_url
        self.log = folder / f"{name}.log"
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [LOMS], cwd=folder, env=self.environment, stdout=subprocess.PIPE, stderr=open(self.log, "w"), text=True)
        line = self.process.stdout.readline()
        if "listening on" not in line:
            raise SystemExit(f"{name} did not start:\n{self.log.read_text()}")
        self.url = line.split()[-1]

    def get(self, path):
        return urllib.request.urlopen(self.url + path, timeout=30).read().decode()

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, body.encode(), {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=30).read().decode()

    def metrics(self):
        """Each sample by its name and labels, as written."""
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in lines}

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def database_cpu_seconds(self):
        """Of the connections to its database; nothing where it is a file."""
        if not self.database_url.startswith(POSTGRES):
            return 0.0
        name = self.database_url.rsplit("/", 1)[1]
        pids = psql("postgres", "-c", f"select pid from pg_stat_activity where datname = '{name}'").split()
        return sum(cpu_seconds(pid) for pid in pids)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        verify = [LOMS, "verify"]
        verified = subprocess.run(verify, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if verified.returncode != 0:
            raise SystemExit(f"the books of {self.name} are wrong:\n{verified.stdout}{verified.stderr}")

    def kill(self):
        self.process.kill()
        self.process.wait()


def cpu_seconds(process_id):
    try:
        fields = pathlib.Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def oha(server, seconds, connections, path, *arguments, bodies=None):
    """Requests per second that were answered with 2xx, latencies in ms, and the cores that each process had."""
    command = ["oha", "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-c", str(connections), *arguments]
    if bodies:
        command += ["-m", "POST", "-T", "application/json", "-Z", str(bodies)]
    before = server.cpu_seconds(), server.database_cpu_seconds()
    output = subprocess.run([*command, server.url + path], check=True, capture_output=True, text=True).stdout
    spent = server.cpu_seconds() - before[0], server.database_cpu_seconds() - before[1]
    report = json.loads(output)
    codes = report["statusCodeDistribution"]
    good = sum(count for code, count in codes.items() if code.startswith("2"))
    if not good or good != sum(codes.values()):
        raise SystemExit(f"{path}: {codes} {report['errorDistribution']}")
    latency = report["latencyPercentiles"]
    return {
        "rate": good / report["summary"]["total"], "mean_ms": report["summary"]["average"] * 1e3,
        "p50_ms": latency["p50"] * 1e3, "p99_ms": latency["p99"] * 1e3,
        "server_cores": spent[0] / seconds, "database_cores": spent[1] / seconds,
    }


def wrk(server, seconds, connections, bodies, keys):
    """Orders per second where `keys` ("half" or "none") of the requests have an Idempotency-Key of their own."""
    command = ["wrk", "-t", "2", "-c", str(connections), "-d", f"{seconds}s", "-s", LOAD / "keyed.lua", server.url]
    environment = os.environ | {"BODIES": str(bodies), "KEYS": keys}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"/orders by wrk:\n{output}")
    return {"rate": float(re.search(r"Requests/sec:\s*([\d.]+)", output).group(1))}


def visit(server, connections, paths):
    """Each of the paths once."""
    def visit_some(some):
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        for path in some:
            connection.request("GET", path)
            connection.getresponse().read()

    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        list(pool.map(visit_some, (paths[first::connections] for first in range(connections))))


def pgbench(database, script, seconds, clients):
    command = [PROGRAMS / "pgbench", "-n", "-M", "prepared", "-T", str(seconds), "-c", str(clients), "-j", "2",
               "-f", LOAD / f"{script}.pgbench", f"{POSTGRES}/{database}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    mean_ms = float(re.search(r"latency average = ([\d.]+)", output).group(1))
    return {"rate": float(re.search(r"tps = ([\d.]+)", output).group(1)), "mean_ms": mean_ms}


def replay(server, seconds_max, connections):
    """Whole purchases per second: three lines added, the cart listed, purchased and payed."""
    command = [LOMS, "replay", "--catalog", server.folder / "catalog.csv", "--events", server.folder / "recording.csv",
               "--url", server.url, "--stock-factor", "1000000", "--unpaid", "0", "--connections", str(connections)]
    began = time.monotonic()
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds_max).stdout
    payed = int(re.search(r"^\s*payed\s+([\d,]+)", output, re.M).group(1).replace(",", ""))
    return {"rate": payed / (time.monotonic() - began)}


def histogram_quantile(before, after, name, quantile):
    """Of a Prometheus histogram, between two looks at it; linear within a bucket, as Prometheus has it."""
    bounds = {}
    for sample in after:
        found = re.fullmatch(name + r'_bucket\{le="([^"]+)"\}', sample)
        if found:
            bounds[float(found.group(1))] = after[sample] - before.get(sample, 0.0)
    wanted = quantile * bounds[float("inf")]
    lower, below = 0.0, 0.0
    for upper, count in sorted(bounds.items()):
        if count >= wanted and upper != float("inf"):
            return lower + (upper - lower) * (wanted - below) / max(count - below, 1.0)
        if upper != float("inf"):
            lower, below = upper, count
    return lower
