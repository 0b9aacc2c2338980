"""Sessionful against stateless: the same tools/call in an MCP session, without one, and in the modern era.

`python -m bench.modes [--rounds 5] [--seconds 3]` prints a table and writes results/modes.json.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.rounds import Server, alternate, flush_ms, measure, ratio, running, save, surroundings

CALLERS = (1, 16, 64)
# name -> (mode of the server, era of the client, whether in a session)
CONTENDERS = {
    "legacy, with a session": ("sessionful", "legacy", True),
    "legacy, stateless": ("stateless", "legacy", False),
    "modern (2026-07-28)": ("stateless", "modern", False),
}
BASE = "legacy, stateless"


def command(mode: str, data: Path) -> list[str]:
    """The command line of a server in that mode."""
    return [sys.executable, "-m", "tenantry", "serve", "--demo", "--port", "0", "--mode", mode, "--data", str(data)]


def compare(servers: dict[str, Server], *, callers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all contenders in turn; give calls/s and the ratio to the stateless legacy client."""
    tokens = {mode: server.new_token() for mode, server in servers.items()}

    def once(mode: str, era: str, *, session: bool) -> float:
        figures = measure(servers[mode], tokens[mode], callers=callers, seconds=seconds, era=era, session=session)
        return float(figures["calls_per_s"])

    figures = alternate(
        rounds,
        {name: partial(once, mode, era, session=session) for name, (mode, era, session) in CONTENDERS.items()},
    )
    return {
        name: {
            "calls_per_s": values,
            "median": statistics.median(values),
            "ratio": ratio(values, figures[BASE]),
        }
        for name, values in figures.items()
    }


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "rounds": options.rounds, "seconds": options.seconds}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        data = Path(directory)
        results["flush_ms"] = flush_ms(data)
        servers = {
            mode: stack.enter_context(running(command(mode, data / mode))) for mode in ("sessionful", "stateless")
        }
        print(f"{results['machine']}, {results['date']}, one flush {results['flush_ms']:.2f} ms")
        print(f"{'client':<24} {'callers':>7} {'calls/s':>9}   ratio to stateless (least-greatest)")
        results["callers"] = {}
        for callers in CALLERS:
            found = compare(servers, callers=callers, rounds=options.rounds, seconds=options.seconds)
            results["callers"][str(callers)] = found
            for name, figures in found.items():
                middle, least, greatest = figures["ratio"]
                print(
                    f"{name:<24} {callers:>7} {figures['median']:>9.0f}   {middle:.2f} ({least:.2f}-{greatest:.2f})",
                    flush=True,
                )
    print(save("modes", results, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
