"""Tenants that share a server: the calls of two, added up, against those of one that has it to itself.

`python -m bench.sharing [--callers 64] [--rounds 5] [--seconds 2]` prints a table and writes results/sharing.json. The
callers are the same number in all, so the ratio is what taking turns costs; beside it stands the smaller tenant's part
of the calls, a half where turns are fair. The third case is of a tenant with an eighth of the callers.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from conformance.login import sign_in

from bench.rounds import (
    RESULTS,
    Server,
    alternate,
    configured,
    flush_ms,
    measure,
    ratio,
    running,
    save,
    serve,
    surroundings,
)

PEOPLE = ("alice", "carol")
"""One of each tenant."""
SHARES: dict[str, tuple[float, ...]] = {"one": (1.0,), "two alike": (0.5, 0.5), "two, one with few": (0.125, 0.875)}
"""Of the callers, by tenant."""


def calls_per_s(server: Server, tokens: Sequence[str], callers: Sequence[int], seconds: float) -> list[float]:
    """Let each tenant's callers call at the same time; give the calls a second of each."""

    def once(token: str, number: int) -> float:
        figures = measure(server, token, callers=number, seconds=seconds, era="legacy", session=False)
        return float(figures["calls_per_s"])

    with ThreadPoolExecutor(len(callers)) as pool:
        return list(pool.map(once, tokens, callers))


def compare(server: Server, *, callers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all cases in turn; give calls/s, the smaller tenant's part of them, and the ratio to one tenant."""
    tokens = [sign_in(server.url, user=person, password="demo").access_token for person in PEOPLE]
    parts: dict[str, list[float]] = {name: [] for name in SHARES}

    def once(name: str) -> float:
        found = calls_per_s(server, tokens, [round(callers * share) for share in SHARES[name]], seconds)
        parts[name].append(min(found) / sum(found))
        return sum(found)

    figures = alternate(rounds, {name: partial(once, name) for name in SHARES})
    return {
        name: {
            "calls_per_s": values,
            "smaller_part": statistics.median(parts[name]),
            "ratio": ratio(values, figures["one"]),
        }
        for name, values in figures.items()
    }


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        results: dict[str, Any] = {**surroundings(), "callers": options.callers, "flush_ms": flush_ms(data)}
        with running(serve(configured(data), data / "data")) as server:
            found = compare(server, callers=options.callers, rounds=options.rounds, seconds=options.seconds)
    print(f"{results['machine']}, {results['date']}, one flush {results['flush_ms']:.2f} ms, {options.callers} callers")
    print(f"{'tenants':<18} {'calls/s':>8} {'smaller part':>13}   ratio to one (least-greatest)")
    for name, figures in found.items():
        middle, least, greatest = figures["ratio"]
        rate, part = statistics.median(figures["calls_per_s"]), figures["smaller_part"]
        print(f"{name:<18} {rate:>8.0f} {part:>13.2f}   {middle:.2f} ({least:.2f}-{greatest:.2f})")
    print(save("sharing", {**results, "cases": found}, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
