"""Runs the figures of load/bench, prints them beside their bars, and writes load/RESULTS.md and its picture."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import figures
import picture
from figures import (ADD, ALONE, BASE, BASE_ALONE, BASE_HOT, CART, HOT, KEYED, LARGE, LIVEZ, LIVEZ_MANY, MANY, PURCHASES,
                     SQLITE, STATEMENTS, STATEMENTS_HOT, UNIFORM, UNKEYED, WITH_BROKER, WITH_IDLE_BROKER, Bench)
from servers import LOAD, LOG_GIGABYTES, SKUS, write_inputs, write_log_ahead

QUICK = os.environ.get("QUICK") == "1"
# What is written by hand in load/RESULTS.md speaks of the figures of a full run.
FOLDER = LOAD.parent / "target/bench" if QUICK else LOAD
RESULTS = FOLDER / "RESULTS.md"
MARK = "<!-- written by hand from here on -->"


def bars(bench):
    """Id, what, against what, the figure, its bar, and whether more is better."""
    ratio, notes = bench.ratio, bench.notes
    beside = lambda what: f"{UNIFORM}, beside {what}"
    return [
        ("P1", "orders, uniform", "stored procedure", ratio(UNIFORM, BASE), 4.5, True),
        ("P1", "half of them with a key, by wrk", "stored procedure", ratio(KEYED, BASE), 4.5, True),
        ("P2", "orders, one hot SKU", "stored procedure, hot", ratio(HOT, BASE_HOT), 10, True),
        ("P3", "one hot SKU", "P1", ratio(HOT, UNIFORM), 1.0, True),
        ("P4", "orders, 512 connections", "GET /livez, 512 connections", ratio(MANY, LIVEZ_MANY), 0.25, True),
        ("P5", "orders, SQLite", "P1", ratio(SQLITE, UNIFORM), 0.9, True),
        ("P6", "GET /carts/{user}", "GET /livez", ratio(CART, LIVEZ), 0.7, True),
        ("P7", "POST /carts/{user}/items", "GET /livez", ratio(ADD, LIVEZ), 0.35, True),
        ("P8", "whole purchases", "P1", ratio(PURCHASES, beside("purchases")), 0.2, True),
        ("P9", "latency of one client", "one bare commit", ratio(ALONE, BASE_ALONE, "mean_ms"), 1.5, False),
        ("P10", "p99 at 70 % in an open loop", "p99 of a batch", notes["open_loop"], 4, False),
        ("P11", "bytes per waiting order", "", notes["bytes_per_order"], 1024, False),
        ("P12", "orders beside old ones", "P1", ratio(LARGE, beside("many old orders")), 0.9, True),
        ("P13", "lateness of cancels, p99.9, ms", "", notes["lateness_ms"], 250, False),
        ("P14", "seconds to the first answer", "", notes["start_seconds"], 2, False),
        ("P15", "orders with a broker", "without", ratio(WITH_BROKER, beside("a broker")), 0.8, True),
    ]


def report(bench):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    clients, batches, (left, drained) = bench.notes["clients"], bench.notes["batches"], bench.notes["backlog"]
    idle_left, idle_drained = bench.notes["idle_backlog"]
    beside_idle = bench.ratio(WITH_IDLE_BROKER, f"{UNIFORM}, beside an idle broker")
    lines = [
        "# Measurements", "",
        f"Written by `make bench`: {time.strftime('%Y-%m-%d')}, commit {commit}, {os.cpu_count()} cores"
        f" ({model.group(1) if model else 'unknown'}), databases, broker and load generator on the same machine.",
        f"{bench.rounds} rounds of {bench.seconds} s per side, interleaved; a ratio is the median of the rounds' ratios."
        " Durable: fsync and synchronous_commit on, SQLite FULL. As in production, PostgreSQL's log may grow to"
        f" {LOG_GIGABYTES} GB between two checkpoints (`max_wal_size`), and its files are there and written over.",
        "A bar is a target that was set before anything was measured."
        f" Orders of 3 lines over {SKUS:,} SKUs. The baseline is [one stored procedure per order](baseline.sql), which writes"
        f" the same rows, by pgbench at its best number of clients ({clients['uniform']} uniform, {clients['hot']} hot)."
        " The books were right after each run.", "",
        "Most would write a transaction of nine statements per order ([uniform](uniform_statements.pgbench),"
        " [hot](hot_statements.pgbench)) instead of that procedure. By pgbench, without the HTTP that it would have, and at its best"
        f" number of clients ({clients['uniform_statements']} and {clients['hot_statements']}), `POST /orders` has"
        f" **{bench.ratio(UNIFORM, STATEMENTS):.1f} times** its rate, and with one hot SKU"
        f" **{bench.ratio(HOT, STATEMENTS_HOT):.1f} times**.", "",
        "| | what | against | figure | bar | |", "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for name, what, against, figure, bar, more in bars(bench):
        reached = figure >= bar if more else figure <= bar
        shown = f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"
        lines.append(f"| {name} | {what} | {against} | {shown} | {'≥' if more else '≤'} {bar} | {'' if reached else 'not reached'} |")
    lines += [
        "", f"P11 and P14 with {bench.waiting_orders:,} waiting orders, P12 with {bench.old_orders:,} old ones, P13 with"
        f" {bench.due_orders:,} due within {bench.due_seconds} s under half load; lateness is that of the decision."
        f" After P15's load {left:,.0f} events waited and were published within {drained:.1f} s; with a broker that takes"
        " only what the others leave of the processors, as if it had a machine of its own, P15 is"
        f" {beside_idle:.2f}, and {idle_left:,.0f} events waited, for {idle_drained:.1f} s."
        f" With an Idempotency-Key of its own on every second request, the rate is {bench.ratio(KEYED, UNKEYED):.2f} of that"
        " without (both by wrk, for oha sends the same headers with each request); all other rows are without.", "",
        "![Rate and p99 against connections](rates.svg)", "",
        "| side | per second | spread | p50 ms | p99 ms | cores of the server | of the database |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rounds in bench.sides.items():
        rates = [figure["rate"] for figure in rounds]
        cells = [f"{bench.median(name):,.0f}", f"{min(rates):,.0f}–{max(rates):,.0f}"]
        for value in ("p50_ms", "p99_ms", "server_cores", "database_cores"):
            cells.append(f"{bench.median(name, value):.2f}" if value in rounds[0] else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    (changes, changes_p99), (ms, ms_p99) = batches["changes"], batches["ms"]
    lines += ["", f"Batches under 64 connections: {changes:.0f} changes in the median and {changes_p99:.0f} at p99;"
                  f" {ms:.1f} ms and {ms_p99:.1f} ms, commit and all.", ""]
    kept = RESULTS.read_text().split(MARK, 1)[1] if RESULTS.exists() and MARK in RESULTS.read_text() else "\n"
    RESULTS.write_text("\n".join(lines) + "\n" + MARK + kept)
    print("\n".join(lines))
    print(f"written to {RESULTS}")


def main():
    bench = Bench(pathlib.Path(tempfile.mkdtemp(prefix="loms-bench-")), QUICK)
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        write_inputs(bench.folder, bench.purchases)
        write_log_ahead()
        server = figures.orders(bench)
        figures.open_loop(bench, server)
        figures.sweep(bench, server)
        (FOLDER / "rates.svg").write_text(picture.draw(bench.notes["sweep"]))
        bench.end(server)
        # Another one, for that has millions of orders by now, which those beside it have not.
        server = bench.server("beside")
        figures.broker(bench, server)
        figures.large(bench, server)
        bench.end(server)
        figures.carts(bench)
        figures.waiting(bench)
        report(bench)
    finally:
        for server in bench.servers:
            server.kill()
        shutil.rmtree(bench.folder)


main()
