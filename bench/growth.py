"""What grows with what is stored: the cost of a call at more and more users, sessions, clients and audit records.

`python -m bench.growth [--kinds users sessions clients records] [--sizes 10 1000 100000]` prints a table and writes
results/growth.json. For each size a server runs over data that was filled before it started; all sizes of a kind are
measured in turn, and ratios are to the smallest. Rows are copies of a real one, put in by SQL while nobody serves;
records come by the log's own commits.
"""

import argparse
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from conformance.login import sign_in
from tests.crash.million import build

from bench.held import resident_kib
from bench.load import open_session
from bench.plot import Point, lines, write
from bench.rounds import RESULTS, Process, alternate, configured, flush_ms, measure, ratio, save, serve, started
from bench.rounds import surroundings as place_and_time

SIZES = (10, 1_000, 100_000)
CALLERS = (1, 16)
LIMITS = """
[limits]
sessions_per_tenant = 10000000
"""
MANY = "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?) "
ROWS = {
    "users": "INSERT INTO added_person SELECT 'user' || n, 'tenant-a', 'tools:call', '$argon2id$none' FROM many",
    "sessions": (
        "INSERT INTO mcp_session SELECT randomblob(32), tenant, subject, client, revision, state, last_seen,"
        " client_side, family FROM many, (SELECT * FROM mcp_session LIMIT 1)"
    ),
    "clients": (
        "INSERT INTO client (client_id, metadata, registered_at, used_at)"
        " SELECT hex(randomblob(16)), metadata, registered_at, registered_at FROM many, (SELECT * FROM client LIMIT 1)"
    ),
}
KINDS = (*ROWS, "records")


def fill(kind: str, size: int, config: Path, data: Path) -> None:
    """Make the data of a server that has so many of a kind."""
    if kind == "records":
        data.mkdir(mode=0o700)
        build(data / "audit-0.db", size)
        return
    with started(serve(config, data, mode="sessionful")) as server:  # who makes the tables, and the row to copy
        open_session(server.url, sign_in(server.url, user="alice", password="demo").access_token)
    with closing(sqlite3.connect(data / "state.db")) as connection, connection:
        connection.execute(MANY + ROWS[kind], (size,))


def calls(server: Process, token: str, *, callers: int, seconds: float) -> float:
    """Call in one session and give calls/s."""
    figures = measure(server, token, callers=callers, seconds=seconds, era="legacy", session=True)
    return float(figures["calls_per_s"])


def login_ms(server: Process) -> float:
    """Give the milliseconds of a whole login, from discovery to tokens."""
    began = time.perf_counter()
    sign_in(server.url, user="alice", password="demo")
    return 1000 * (time.perf_counter() - began)


def grow(kind: str, sizes: list[int], directory: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure one kind at each size."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        servers: dict[str, tuple[Process, str]] = {}
        for size in sizes:
            config = configured(directory, LIMITS)
            data = directory / f"{kind}-{size}"
            fill(kind, size, config, data)
            began = time.perf_counter()
            server = stack.enter_context(started(serve(config, data, mode="sessionful")))
            ready = time.perf_counter() - began
            servers[str(size)] = server, sign_in(server.url, user="alice", password="demo").access_token
            found[str(size)] = {"ready_s": ready, "resident_kib": resident_kib(server)}
        for callers in CALLERS:
            contenders: dict[str, Callable[[], float]] = {
                stored: partial(calls, server, token, callers=callers, seconds=seconds)
                for stored, (server, token) in servers.items()
            }
            figures = alternate(rounds, contenders)
            for stored, values in figures.items():
                found[stored][f"calls_per_s, {callers} callers"] = values
                found[stored][f"ratio, {callers} callers"] = ratio(values, figures[str(sizes[0])])
        logins = alternate(rounds, {stored: partial(login_ms, server) for stored, (server, _) in servers.items()})
        for stored, values in logins.items():
            found[stored]["login_ms"] = statistics.median(values)
            found[stored]["login_ratio"] = ratio(values, logins[str(sizes[0])])
    return found


def plot(results: dict[str, Any]) -> str:
    """Draw the ratio to the smallest, for 16 callers, over the sizes."""
    at = sorted({int(size) for found in results["kinds"].values() for size in found})
    series = {
        kind: [Point(*found[str(size)]["ratio, 16 callers"]) if str(size) in found else None for size in at]
        for kind, found in results["kinds"].items()
    }
    names = [f"{size:,}" for size in at]
    return lines("calls/s against the smallest, 16 callers", across="stored", up="ratio", at=names, series=series)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--records", type=int, default=1_000_000, help="the size that audit records have beside")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {**place_and_time(), "rounds": options.rounds, "kinds": {}}
    with tempfile.TemporaryDirectory() as directory:
        results["flush_ms"] = flush_ms(Path(directory))
        print(
            f"{'kind':<9} {'stored':>9} {'ready s':>8} {'MiB':>6}  calls/s alone, of 16; login: ratios to the smallest"
        )
        for kind in options.kinds:
            sizes = [*options.sizes, *([options.records] if kind == "records" and options.records else [])]
            found = grow(kind, sizes, Path(directory), rounds=options.rounds, seconds=options.seconds)
            results["kinds"][kind] = found
            for size, figures in found.items():
                told = ", ".join(
                    "{:.2f} ({:.2f}-{:.2f})".format(*figures[name])
                    for name in ("ratio, 1 callers", "ratio, 16 callers", "login_ratio")
                )
                mib = figures["resident_kib"] / 1024
                print(f"{kind:<9} {size:>9} {figures['ready_s']:>8.2f} {mib:>6.0f}  {told}", flush=True)
            subprocess.run(["find", directory, "-name", "*.db*", "-delete"], check=True)
    print(save("growth", results, options.results))
    print(write(options.results / "growth.svg", plot(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
