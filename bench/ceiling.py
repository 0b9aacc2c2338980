"""The audit's ceiling: audited and durable here, beside the same without its audit, beside others' servers.

`python -m bench.ceiling [--contenders audited node ...] [--callers 1 16 64] [--flush-ms 0.7]` prints a table and writes
results/NAME.json and a plot of it. Each contender is measured once a round; ratios are taken round by round.

With --flush-ms each flush of the disk takes so long, in our servers and the Node peer alike, and the files lie in
memory, so that the disk of the day does not decide. A server without its audit exists here alone.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conformance.login import sign_in

from bench.disk import disk
from bench.peers import PEERS, Signer
from bench.plot import Point, lines, write
from bench.rounds import (
    RESULTS,
    WITHOUT_AUDIT,
    Process,
    alternate,
    configured,
    flush_ms,
    measure,
    processor_s,
    ratio,
    save,
    serve,
    started,
    surroundings,
)

CALLERS = (1, 2, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class Ours:
    """One of our own servers."""

    workers: int
    audited: bool


OURS = {
    "audited": Ours(1, audited=True),
    "audited, 2 workers": Ours(2, audited=True),
    "unaudited": Ours(1, audited=False),
    "unaudited, 2 workers": Ours(2, audited=False),
}
CONTENDERS = (*OURS, *PEERS)
Running = tuple[Process, str]
"""A server and an access token for it."""


def start(name: str, directory: Path, environment: Mapping[str, str], signer: Signer, stack: ExitStack) -> Running:
    """Start a contender, with its data in `directory`, and give it with an access token."""
    data = directory / name.replace(", ", "-").replace(" ", "-")
    if name in PEERS:
        data.mkdir()
        peers = {**environment, **signer.environment, "PEER_DATA": str(data)}
        return stack.enter_context(started(PEERS[name].command(), peers)), signer.token()
    ours = OURS[name]
    if not ours.audited:
        patch = directory / "without-audit"
        patch.mkdir(exist_ok=True)
        (patch / "sitecustomize.py").write_text(WITHOUT_AUDIT)  # every worker's process runs that first
        environment = {**environment, "PYTHONPATH": f"{patch}:{environment.get('PYTHONPATH', '')}"}
    command = serve(configured(directory), data, workers=ours.workers)
    server = stack.enter_context(started(command, environment))
    return server, sign_in(server.url, user="alice", password="demo").access_token


def compare(running: Mapping[str, Running], *, callers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all in turn; give the calls/s and latencies of each."""
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in running}

    def once(name: str) -> float:
        server, token = running[name]
        before = processor_s(server.process.pid)
        figures = measure(server, token, callers=callers, seconds=seconds, era="legacy", session=False)
        figures["processor_us"] = 1e6 * (processor_s(server.process.pid) - before) / figures["calls"]
        taken[name].append(figures)
        return float(figures["calls_per_s"])

    figures = alternate(rounds, {name: partial(once, name) for name in running})
    return {
        name: {
            "calls_per_s": values,
            "median": statistics.median(values),
            "p50_ms": statistics.median(each["p50_ms"] for each in taken[name]),
            "p99_ms": statistics.median(each["p99_ms"] for each in taken[name]),
            "processor_us": [each["processor_us"] for each in taken[name]],
        }
        for name, values in figures.items()
    }


def with_ratios(found: dict[str, Any], base: str) -> dict[str, Any]:
    """Add to each contender its ratios to `base`, taken round by round: of calls/s, and of calls a processor second.

    The second says what holds where others use the processor too, which no round is spared from.
    """
    under = found[base]
    return {
        name: {
            **figures,
            "ratio": ratio(figures["calls_per_s"], under["calls_per_s"]),
            "processor_ratio": ratio(under["processor_us"], figures["processor_us"]),
        }
        for name, figures in found.items()
    }


def plot(results: Mapping[str, Any]) -> str:
    """Draw calls/s over callers."""
    callers = list(results["callers"])
    names = list(next(iter(results["callers"].values())))
    series = {
        name: [
            Point(found["median"], min(found["calls_per_s"]), max(found["calls_per_s"]))
            for found in (results["callers"][each][name] for each in callers)
        ]
        for name in names
    }
    title = f"tools/call, one flush {results['flush_ms']:.2f} ms"
    return lines(title, across="callers", up="calls/s", at=callers, series=series)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; the base is the Node peer where it takes part, else the first contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--callers", nargs="+", type=int, default=list(CALLERS))
    parser.add_argument("--flush-ms", type=float, default=0.0)
    parser.add_argument("--base", choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--name", help="of the results; ceiling, and the flush time, where it is not said")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(words)
    options.base = options.base or ("node" if "node" in options.contenders else options.contenders[0])
    if options.base not in options.contenders:
        parser.error(f"--base {options.base} is no contender")
    options.name = options.name or ("ceiling" + (f"-{options.flush_ms:g}ms" if options.flush_ms else ""))
    return options


def main() -> int:
    """Run the comparison and print it."""
    options = parse(sys.argv[1:])
    with disk(options.flush_ms) as (directory, environment), ExitStack() as stack:
        results: dict[str, Any] = {
            **surroundings(),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "flush_ms": options.flush_ms or flush_ms(directory),
            "base": options.base,
            "callers": {},
        }
        print(f"{results['machine']}, {results['date']}, one flush {results['flush_ms']:.2f} ms")
        print(
            f"{'contender':<22} {'callers':>7} {'calls/s':>8} {'p50 ms':>7} {'p99 ms':>7} {'cpu us':>7}"
            f"   ratios to {options.base}: of calls/s, of calls a processor second"
        )
        signer = Signer()
        running = {name: start(name, directory, environment, signer, stack) for name in options.contenders}
        for callers in options.callers:
            found = compare(running, callers=callers, rounds=options.rounds, seconds=options.seconds)
            results["callers"][str(callers)] = with_ratios(found, options.base)
            _print(callers, results["callers"][str(callers)])
    print(save(options.name, results, options.results))
    print(write(options.results / f"{options.name}.svg", plot(results)))
    return 0


def _print(callers: int, found: Mapping[str, Any]) -> None:
    for name, figures in found.items():
        ratios = ["{:.2f} ({:.2f}-{:.2f})".format(*figures[kind]) for kind in ("ratio", "processor_ratio")]
        print(
            f"{name:<22} {callers:>7} {figures['median']:>8.0f} {figures['p50_ms']:>7.2f} {figures['p99_ms']:>7.2f}"
            f" {statistics.median(figures['processor_us']):>7.0f}   {ratios[0]:<18} {ratios[1]}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
