"""The figures, one function each: what is run beside what, and what comes of it.

A figure that needs many orders in the database writes them with SQL before the program starts; what
it measures goes through HTTP.
"""

import statistics
import time

from idle_group import IdleGroup
from rabbitmq_node import RabbitNode
from servers import (LOAD, POSTGRES, Server, USERS, create, histogram_quantile, oha, pgbench, psql, replay, visit, wrk)

CONNECTIONS = 64
MANY_CONNECTIONS = 512
# A loop is open only while a connection is free at each intended start: 64 are all taken when a flush takes long.
OPEN_CONNECTIONS = 256


class Bench:
    def __init__(self, folder, quick):
        self.folder = folder
        self.rounds, self.seconds = (3, 2) if quick else (5, 8)
        self.users, self.user_url = (10_000, "/carts/user-0[0-9]{4}") if quick else (USERS, "/carts/user-[0-9]{5}")
        self.waiting_orders, self.old_orders, self.due_orders, self.purchases = (
            (200_000, 200_000, 10_000, 3_000) if quick else (1_000_000, 10_000_000, 100_000, 15_000))
        self.due_after, self.due_seconds = (5, 6) if quick else (20, 60)
        self.pgbench_clients = [8, 32] if quick else [4, 8, 16, 32, 64]
        self.sweep = [1, 64, 512] if quick else [1, 4, 16, 64, 256, 512]
        self.sides = {}
        self.notes = {}
        self.servers = []

    def uniform(self, server, *arguments, connections=CONNECTIONS):
        bodies = self.folder / "uniform.bodies"
        return oha(server, self.seconds, connections, "/orders", *arguments, bodies=bodies)

    def server(self, name, database_url=None, **settings):
        if database_url is None:
            create(name)
            database_url = f"{POSTGRES}/{name}"
        server = Server(self.folder, name, database_url, **settings)
        self.servers.append(server)
        return server

    def end(self, *servers):
        for server in servers:
            self.servers.remove(server)
            server.stop()

    def interleaved(self, sides):
        """Every side in each round, one after the other: a slow minute of the machine hits all of them."""
        for number in range(self.rounds):
            for name, run in sides.items():
                figure = run()
                self.sides.setdefault(name, []).append(figure)
                print(f"round {number + 1} of {self.rounds}  {name:58} {figure['rate']:>9,.0f}/s", flush=True)

    def median(self, side, value="rate"):
        return statistics.median(figure[value] for figure in self.sides[side])

    def ratio(self, one, other, value="rate"):
        """Round by round, so that both had the same minute."""
        pairs = zip(self.sides[one], self.sides[other])
        return statistics.median(figure[value] / beside[value] for figure, beside in pairs)


UNIFORM, HOT = "POST /orders, PostgreSQL, 64 connections", "POST /orders, one hot SKU, PostgreSQL, 64 connections"
MANY, SQLITE = "POST /orders, PostgreSQL, 512 connections", "POST /orders, SQLite, 64 connections"
BASE, BASE_HOT = "one stored procedure per order, pgbench", "one stored procedure per order, one hot SKU, pgbench"
STATEMENTS, STATEMENTS_HOT = (
    "one transaction of nine statements per order, pgbench", "one transaction of nine statements per order, one hot SKU, pgbench")
LIVEZ, LIVEZ_MANY = "GET /livez, 64 connections", "GET /livez, 512 connections"
CART, ADD, PURCHASES = "GET /carts/{user} of 3 lines", "POST /carts/{user}/items", "whole purchases by loms replay"
ALONE, BASE_ALONE = "POST /orders, one connection", "one stored procedure per order, one client"
OPEN, LARGE = "POST /orders, open loop at 70 %", "POST /orders, many old orders in the database"
KEYED, UNKEYED = "POST /orders by wrk, half of them with an Idempotency-Key", "POST /orders by wrk"
WITH_BROKER = "POST /orders, events published to RabbitMQ"
WITH_IDLE_BROKER = "POST /orders, events published to an idle RabbitMQ"


def orders(bench):
    """P1 to P5, and P9."""
    server, sqlite = bench.server("bench"), bench.server("embedded", f"sqlite://{bench.folder}/bench.db")
    bench.end(bench.server("baseline"))
    psql("baseline", "-f", str(LOAD / "baseline.sql"))
    best = {
        script: max(bench.pgbench_clients, key=lambda clients: pgbench("baseline", script, bench.seconds, clients)["rate"])
        for script in ("uniform", "hot", "uniform_statements", "hot_statements")}
    bench.notes["clients"] = best
    bodies, hot = bench.folder / "uniform.bodies", bench.folder / "hot.bodies"
    baseline = lambda script: pgbench("baseline", script, bench.seconds, best[script])
    bench.interleaved({
        STATEMENTS: lambda: baseline("uniform_statements"),
        STATEMENTS_HOT: lambda: baseline("hot_statements"),
        BASE: lambda: baseline("uniform"),
        UNIFORM: lambda: bench.uniform(server),
        UNKEYED: lambda: wrk(server, bench.seconds, CONNECTIONS, bodies, "none"),
        KEYED: lambda: wrk(server, bench.seconds, CONNECTIONS, bodies, "half"),
        BASE_HOT: lambda: baseline("hot"),
        HOT: lambda: oha(server, bench.seconds, CONNECTIONS, "/orders", bodies=hot),
        SQLITE: lambda: bench.uniform(sqlite),
        MANY: lambda: bench.uniform(server, connections=MANY_CONNECTIONS),
        LIVEZ_MANY: lambda: oha(server, bench.seconds, MANY_CONNECTIONS, "/livez"),
        BASE_ALONE: lambda: pgbench("baseline", "uniform", bench.seconds, 1),
        ALONE: lambda: bench.uniform(server, connections=1),
    })
    before = server.metrics()
    bench.uniform(server)
    after = server.metrics()
    quantile = lambda name, share: histogram_quantile(before, after, name, share)
    bench.notes["batches"] = {
        "changes": (quantile("loms_batch_changes", 0.5), quantile("loms_batch_changes", 0.99)),
        "ms": (1e3 * quantile("loms_batch_seconds", 0.5), 1e3 * quantile("loms_batch_seconds", 0.99))}
    bench.end(sqlite)
    return server


def open_loop(bench, server):
    """P10: the latency counts from the moment at which a request should have been sent."""
    rate = int(0.7 * bench.median(UNIFORM))
    tails = []

    def run():
        before = server.metrics()
        figure = bench.uniform(server, "-q", str(rate), "--latency-correction", connections=OPEN_CONNECTIONS)
        tails.append(1e3 * histogram_quantile(before, server.metrics(), "loms_batch_seconds", 0.99))
        return figure

    bench.interleaved({OPEN: run})
    bench.notes["open_loop"] = statistics.median(
        figure["p99_ms"] / tail for figure, tail in zip(bench.sides[OPEN], tails))


def carts(bench):
    """P6 and P7, and P8 beside P1: users with three lines each."""
    bench.end(bench.server("carts"))
    psql("carts", "-v", f"users={bench.users}", "-f", str(LOAD / "carts.sql"))
    server = bench.server("carts", f"{POSTGRES}/carts")
    # Each once, so that all of them are in memory, as they are in a shop that has run for a while.
    visit(server, 16, [f"/carts/user-{number:05}" for number in range(bench.users)])
    add = ["-m", "POST", "-T", "application/json", "-d", '{"sku": "S00001", "count": 1}', "--rand-regex-url"]
    bench.interleaved({
        LIVEZ: lambda: oha(server, bench.seconds, CONNECTIONS, "/livez"),
        CART: lambda: oha(server, bench.seconds, CONNECTIONS, bench.user_url, "--rand-regex-url"),
        ADD: lambda: oha(server, bench.seconds, CONNECTIONS, bench.user_url + "/items", *add),
        UNIFORM + ", beside purchases": lambda: bench.uniform(server),
        PURCHASES: lambda: replay(server, 300, CONNECTIONS),
    })
    bench.end(server)


def waiting(bench):
    """P11, P13 and P14: orders that wait for payment when the program starts."""
    server = bench.server("waiting")
    time.sleep(2)
    empty = server.resident_bytes()
    bench.end(server)
    fill("waiting", bench.waiting_orders, "awaiting_payment", "1 day", "1 second")
    server = bench.server("waiting", f"{POSTGRES}/waiting")
    server.post("/orders", '{"user": "first", "items": [{"sku": "S00001", "count": 1}]}')
    bench.notes["start_seconds"] = time.monotonic() - server.started
    wait_until(lambda: server.metrics()["loms_orders_live"] >= bench.waiting_orders, 300)
    time.sleep(2)
    bench.notes["bytes_per_order"] = (server.resident_bytes() - empty) / bench.waiting_orders
    bench.end(server)

    bench.end(bench.server("due"))
    fill("due", bench.due_orders, "awaiting_payment", f"{bench.due_after} seconds", f"{bench.due_seconds} seconds")
    server = bench.server("due", f"{POSTGRES}/due")
    rate = int(0.5 * bench.median(UNIFORM))
    oha(server, bench.due_after + bench.due_seconds, CONNECTIONS, "/orders", "-q", str(rate), bodies=bench.folder / "uniform.bodies")
    late = """select count(*) || ' ' || 1000 * coalesce(percentile_disc(0.999) within group (
                  order by extract(epoch from updated_at - expires_at)), 0)
              from orders where status = 'cancelled' and reason = 'payment_timeout'"""
    wait_until(lambda: int(psql("due", "-c", late).split()[0]) >= bench.due_orders, 60)
    bench.notes["lateness_ms"] = float(psql("due", "-c", late).split()[1])
    bench.end(server)


def large(bench, server):
    """P12: old orders in the database, beside a database without any."""
    bench.end(bench.server("large"))
    fill("large", bench.old_orders, "payed", "-1 day", "1 second")
    old = bench.server("large", f"{POSTGRES}/large")
    bench.interleaved({
        UNIFORM + ", beside many old orders": lambda: bench.uniform(server),
        LARGE: lambda: bench.uniform(old),
    })
    bench.end(old)


def sweep(bench, server):
    """For the picture: rate and p99 against connections, beside the baseline's rate against clients."""
    points = {"uniform": [], "hot": [], "baseline": [], "baseline, hot": []}
    seconds = max(2, bench.seconds // 2)
    for connections in bench.sweep:
        for script, baseline in (("uniform", "baseline"), ("hot", "baseline, hot")):
            figure = oha(server, seconds, connections, "/orders", bodies=bench.folder / f"{script}.bodies")
            points[script].append((connections, figure["rate"], figure["p99_ms"]))
            clients = min(connections, CONNECTIONS)
            points[baseline].append((connections, pgbench("baseline", script, seconds, clients)["rate"], None))
        print(f"sweep  {connections} connections", flush=True)
    bench.notes["sweep"] = points


def broker(bench, server):
    """P15: the same beside a server that publishes its events. Nobody consumes them.

    Once more with a broker that takes only what the others leave of the processors, as if it had a machine of its own:
    that tells what publishing costs from what RabbitMQ costs.
    """
    folder = bench.folder / "rabbitmq"
    folder.mkdir()
    idle, node = IdleGroup(), RabbitNode(folder)
    try:
        publishing = bench.server("publishing", AMQP_URL=node.url)
        waited = []

        def run():
            figure = bench.uniform(publishing)
            began, left = time.monotonic(), publishing.metrics()["loms_events_waiting"]
            wait_until(lambda: publishing.metrics()["loms_events_waiting"] == 0, 120)
            waited.append((left, time.monotonic() - began))
            # Nobody consumes them, and the queue takes a million.
            node.purge_queue("notifications")
            return figure

        bench.interleaved({
            UNIFORM + ", beside a broker": lambda: bench.uniform(server),
            WITH_BROKER: run,
        })
        bench.notes["backlog"] = max(waited)
        waited.clear()
        idle.take(node.process.pid)
        bench.interleaved({
            UNIFORM + ", beside an idle broker": lambda: bench.uniform(server),
            WITH_IDLE_BROKER: run,
        })
        bench.notes["idle_backlog"] = max(waited)
        bench.end(publishing)
    finally:
        node.end()
        idle.end()


def fill(database, count, status, first, spread):
    variables = {"orders": count, "status": status, "first": first, "spread": spread}
    psql(database, *(part for name, value in variables.items() for part in ("-v", f"{name}={value}")),
         "-f", str(LOAD / "orders.sql"))


def wait_until(comes_true, seconds_max):
    deadline = time.monotonic() + seconds_max
    while not comes_true():
        if time.monotonic() > deadline:
            raise SystemExit("the program did not come to it in time")
        time.sleep(0.2)
