"""What the audit costs: calls/s audited and durable against the same server with its audit, or its tree, taken out.

`python -m bench.audit [--against treeless] [--rounds 5] [--seconds 3]` prints a table and writes results/audit.json
or results/tree.json. The unaudited and the treeless server exist here alone: the product has no switch for them.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.rounds import WITHOUT_AUDIT, Server, alternate, flush_ms, measure, ratio, running, save, surroundings

CALLERS = (1, 16, 64)
UNAUDITED = f"""
{WITHOUT_AUDIT}
from tenantry.cli import main
main()
"""
# As durable, and with the same columns: only what the tree needs is not computed and not written.
TREELESS = """
from tenantry.server.audit_log import AuditLog

def commit(self, entries, **_):
    first = getattr(self, "stored", 0) + 1
    self._connection.execute("BEGIN IMMEDIATE")
    rows = ((seq, b"", body) for seq, body in enumerate(entries, start=first))
    self._connection.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
    self._connection.execute("COMMIT")
    self.stored = first - 1 + len(entries)

AuditLog.commit = commit
from tenantry.cli import main
main()
"""
SCRIPTS = {"unaudited": UNAUDITED, "treeless": TREELESS}


def command(name: str, data: Path) -> list[str]:
    """The command line of the audited server or of one that something was taken out of."""
    start = ["-c", SCRIPTS[name]] if name in SCRIPTS else ["-m", "tenantry"]
    return [sys.executable, *start, "serve", "--demo", "--port", "0", "--mode", "stateless", "--data", str(data / name)]


def compare(servers: dict[str, Server], *, callers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure both in turn; give calls/s, latency and the ratio of the audited to the other."""
    *_, other = servers
    tokens = {name: server.new_token() for name, server in servers.items()}
    latencies: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}

    def once(name: str) -> float:
        figures = measure(servers[name], tokens[name], callers=callers, seconds=seconds, era="modern", session=False)
        latencies[name].append((figures["p50_ms"], figures["p99_ms"]))
        return float(figures["calls_per_s"])

    figures = alternate(rounds, {name: partial(once, name) for name in servers})
    return {
        **{
            name: {
                "calls_per_s": values,
                "median": statistics.median(values),
                "p50_ms": statistics.median(p50 for p50, _ in latencies[name]),
                "p99_ms": statistics.median(p99 for _, p99 in latencies[name]),
            }
            for name, values in figures.items()
        },
        "ratio": ratio(figures["audited"], figures[other]),
    }


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--against", choices=list(SCRIPTS), default="unaudited")
    options = parser.parse_args()
    other = options.against
    results: dict[str, Any] = {**surroundings(), "rounds": options.rounds, "seconds": options.seconds}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        data = Path(directory)
        results["flush_ms"] = flush_ms(data)
        servers = {name: stack.enter_context(running(command(name, data))) for name in ("audited", other)}
        print(f"{results['machine']}, {results['date']}, one flush {results['flush_ms']:.2f} ms")
        print(
            f"{'callers':>7} {'audited/s':>10} {'p50 ms':>7} {'p99 ms':>7} {other + '/s':>12}   ratio (least-greatest)"
        )
        results["callers"] = {}
        for callers in CALLERS:
            found = compare(servers, callers=callers, rounds=options.rounds, seconds=options.seconds)
            results["callers"][str(callers)] = found
            middle, least, greatest = found["ratio"]
            audited = found["audited"]
            print(
                f"{callers:>7} {audited['median']:>10.0f} {audited['p50_ms']:>7.2f} {audited['p99_ms']:>7.2f}"
                f" {found[other]['median']:>12.0f}   {middle:.2f} ({least:.2f}-{greatest:.2f})",
                flush=True,
            )
    print(save("tree" if other == "treeless" else "audit", results, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
