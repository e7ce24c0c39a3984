"""Runs the measurements of load/bench; prints them and writes load/RESULTS.md.

Every side runs for the same time in each round, one after the other, so that a slow minute of the
machine hits all of them. The books are verified at the end of each server's life.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request

QUICK = os.environ.get("QUICK") == "1"
ROUNDS = 3 if QUICK else 5
SECONDS = 4 if QUICK else 8
PGBENCH_CLIENTS = [8, 16, 32, 64]
SKUS = 10_000
BODIES = 50_000
LOMS = pathlib.Path("target/release/loms").resolve()
POSTGRES = os.environ["LOMS_TEST_POSTGRES"].rstrip("/")
RESULTS = pathlib.Path("load/RESULTS.md")


def postgres_programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found else pathlib.Path(shutil.which("pgbench")).parent


def sku(number):
    return f"S{number:05}"


def write_inputs(folder):
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
                numbers = [0 if hot else draw.randrange(3333), draw.randrange(3333, 6666), draw.randrange(6666, 10_000)]
                items = [{"sku": sku(number), "count": 1} for number in numbers]
                bodies.write(json.dumps({"user": f"user-{draw.randrange(100_000)}", "items": items}) + "\n")


class Server:
    """The program on a database of its own."""

    def __init__(self, folder, name, database_url):
        self.database_url = database_url
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LOMS_")}
        environment |= {
            "DATABASE_URL": database_url,
            "LOMS_LISTEN": "127.0.0.1:0",
            "LOMS_CATALOG": str(folder / "catalog.csv"),
            "LOMS_STOCK": str(folder / "stock.csv"),
            "LOMS_PAYMENT_TIMEOUT": "1d",
        }
        log = open(folder / f"{name}.log", "w")
        self.environment = environment
        self.folder = folder
        self.process = subprocess.Popen([LOMS], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if "listening on" not in line:
            raise SystemExit(f"{name} did not start: see {folder}/{name}.log\n" + (folder / f"{name}.log").read_text())
        self.url = line.split()[-1]

    def get(self, path):
        return urllib.request.urlopen(self.url + path, timeout=10).read().decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        verified = subprocess.run([LOMS, "verify"], cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if verified.returncode != 0:
            raise SystemExit("the books are wrong:\n" + verified.stdout + verified.stderr)


def cpu_seconds(process_id):
    fields = pathlib.Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def oha(server, connections, path, bodies=None):
    command = ["oha", "--no-tui", "--output-format", "json", "-z", f"{SECONDS}s", "-c", str(connections)]
    if bodies:
        command += ["-m", "POST", "-T", "application/json", "-Z", str(bodies)]
    before = cpu_seconds(server.process.pid)
    report = json.loads(subprocess.run(command + [server.url + path], check=True, capture_output=True, text=True).stdout)
    cpu = (cpu_seconds(server.process.pid) - before) / SECONDS
    codes = report["statusCodeDistribution"]
    good = sum(count for code, count in codes.items() if code.startswith("2"))
    if good != sum(codes.values()):
        raise SystemExit(f"{path}: {codes}")
    latency = report["latencyPercentiles"]
    return {"rate": good / report["summary"]["total"], "p50_ms": latency["p50"] * 1e3, "p99_ms": latency["p99"] * 1e3, "cpu": cpu}


def pgbench(database, script, clients):
    command = [PROGRAMS / "pgbench", "-n", "-M", "prepared", "-T", str(SECONDS), "-c", str(clients), "-j", "2",
               "-f", f"load/{script}.pgbench", f"{POSTGRES}/{database}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = float(re.search(r"tps = ([\d.]+)", output).group(1))
    latency = float(re.search(r"latency average = ([\d.]+)", output).group(1))
    return {"rate": rate, "p50_ms": latency, "p99_ms": float("nan"), "cpu": float("nan")}


def psql(database, *arguments):
    subprocess.run([PROGRAMS / "psql", "-q", "-v", "ON_ERROR_STOP=1", f"{POSTGRES}/{database}", *arguments], check=True)


def best_clients(database, script):
    """The number of clients at which the baseline is fastest: it is measured at its best."""
    return max(PGBENCH_CLIENTS, key=lambda clients: pgbench(database, script, clients)["rate"])


def measure(sides):
    figures = {name: [] for name in sides}
    for number in range(ROUNDS):
        for name, run in sides.items():
            figures[name].append(run())
            print(f"round {number + 1} of {ROUNDS}  {name:52} {figures[name][-1]['rate']:>10,.0f}/s", flush=True)
    return figures


def median(figures, name, value="rate"):
    return statistics.median(figure[value] for figure in figures[name])


def spread(figures, name):
    rates = [figure["rate"] for figure in figures[name]]
    return f"{min(rates):,.0f}–{max(rates):,.0f}"


def report(figures, clients, batches):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    lines = [
        "# Measurements", "",
        f"Written by `load/bench`: {time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} cores"
        f" ({model.group(1) if model else 'unknown'}), PostgreSQL and the load generator on the same machine.",
        f"{ROUNDS} rounds of {SECONDS} s per side, interleaved; medians. Durable: fsync and synchronous_commit on, SQLite FULL.",
        f"Orders of 3 lines over {SKUS:,} SKUs; \"hot\" has one SKU in every order. The baseline is"
        " [one stored procedure per order](baseline.sql), by pgbench at its best number of clients"
        f" ({clients['uniform']} uniform, {clients['hot']} hot).", "",
        "| side | per second | spread | p50 ms | p99 ms | server's CPU, cores |", "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in figures:
        values = [median(figures, name, value) for value in ("p50_ms", "p99_ms", "cpu")]
        shown = ["" if value != value else f"{value:.2f}" for value in values]
        lines.append(f"| {name} | {median(figures, name):,.0f} | {spread(figures, name)} | {' | '.join(shown)} |")
    lines += ["", "| what | ratio | bar |", "| --- | ---: | ---: |"]
    ratio = lambda one, other: median(figures, one) / median(figures, other)
    for text, one, other, bar in RATIOS:
        lines.append(f"| {text} | {ratio(one, other):.2f} | {bar} |")
    lines += ["", "Batches while the PostgreSQL side ran (from `/metrics`): " + batches + ".", ""]
    kept = RESULTS.read_text().split(MARK, 1)[1] if RESULTS.exists() and MARK in RESULTS.read_text() else "\n"
    RESULTS.write_text("\n".join(lines) + "\n" + MARK + kept)
    print("\n".join(lines))


MARK = "<!-- written by hand from here on -->"
UNIFORM, HOT = "POST /orders, PostgreSQL, 64 connections", "POST /orders hot, PostgreSQL, 64 connections"
MANY, CEILING = "POST /orders, PostgreSQL, 512 connections", "GET /livez, 512 connections"
SQLITE, BASE, BASE_HOT = "POST /orders, SQLite, 64 connections", "baseline, pgbench", "baseline hot, pgbench"
RATIOS = [
    ("uniform against the baseline", UNIFORM, BASE, "≥ 3 (P1: 4.5)"),
    ("hot against the baseline", HOT, BASE_HOT, "≥ 7 (P2: 10)"),
    ("hot against uniform", HOT, UNIFORM, "P3: 1.0"),
    ("512 connections against the HTTP ceiling", MANY, CEILING, "P4: 0.25"),
    ("SQLite against PostgreSQL", SQLITE, UNIFORM, "P5: 0.9"),
]


def batch_sizes(server):
    text = server.get("/metrics")
    value = lambda name: float(re.search(rf"^{name} ([\d.e+-]+)$", text, re.M).group(1))
    size = value("loms_batch_changes_sum") / value("loms_batch_changes_count")
    seconds = value("loms_batch_seconds_sum") / value("loms_batch_seconds_count")
    return f"{size:.0f} changes and {seconds * 1e3:.2f} ms on average"


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="loms-bench-"))
    servers = []
    try:
        write_inputs(folder)
        for database in ("bench", "baseline"):
            psql("postgres", "-c", f"create database {database}")
        servers.append(Server(folder, "baseline", f"{POSTGRES}/baseline"))
        servers.pop().stop()
        psql("baseline", "-f", "load/baseline.sql")
        postgres = Server(folder, "postgres", f"{POSTGRES}/bench")
        servers.append(postgres)
        sqlite = Server(folder, "sqlite", f"sqlite://{folder}/bench.db")
        servers.append(sqlite)
        clients = {script: best_clients("baseline", script) for script in ("uniform", "hot")}
        figures = measure({
            BASE: lambda: pgbench("baseline", "uniform", clients["uniform"]),
            UNIFORM: lambda: oha(postgres, 64, "/orders", folder / "uniform.bodies"),
            BASE_HOT: lambda: pgbench("baseline", "hot", clients["hot"]),
            HOT: lambda: oha(postgres, 64, "/orders", folder / "hot.bodies"),
            MANY: lambda: oha(postgres, 512, "/orders", folder / "uniform.bodies"),
            SQLITE: lambda: oha(sqlite, 64, "/orders", folder / "uniform.bodies"),
            CEILING: lambda: oha(postgres, 512, "/livez"),
        })
        batches = batch_sizes(postgres)
        while servers:
            servers.pop().stop()
        report(figures, clients, batches)
    finally:
        for server in servers:
            server.process.kill()
        shutil.rmtree(folder)


PROGRAMS = postgres_programs()
main()
