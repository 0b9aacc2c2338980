"""What the host costs: an unaudited tools/call by either way of speaking HTTP/1.1, beside bare trio and h11.

`python -m bench.host [--rounds 5] [--seconds 3]` prints a table and writes results/host.json. CPU a call is the
server's own time, which says more than calls/s on a machine that others use too.
"""

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from conformance.login import SignedIn

from bench.audit import UNAUDITED
from bench.rounds import Server, alternate, measure, ratio, running, save, surroundings

CALLERS = (1, 16, 64)
BARE = "bare trio + h11"
PROFILES = ("lean", "stock")


def command(profile: str, data: Path) -> list[str]:
    """The command line of an unaudited server."""
    start = [sys.executable, "-c", UNAUDITED, "serve", "--demo", "--port", "0", "--mode", "stateless"]
    return [*start, "--host-profile", profile, "--data", str(data / profile)]


def cpu_s(server: Server) -> float:
    """The CPU time that a server has used, in seconds."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bare(stack: ExitStack) -> Server:
    """Start the peer, at which nobody signs in."""
    path = Path(__file__).parent / "peers" / "bare_h11.py"
    process = stack.enter_context(Popen([sys.executable, str(path)], stdout=PIPE, text=True))
    stack.callback(process.terminate)
    url = (process.stdout.readline() if process.stdout else "").split()[-1]
    return Server(url, process, SignedIn.__new__(SignedIn))


def compare(servers: dict[str, Server], *, callers: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure all in turn; give calls/s, CPU a call in microseconds, and the ratios to the bare peer."""
    tokens = {name: "none" if name == BARE else server.new_token() for name, server in servers.items()}
    cpu: dict[str, list[float]] = {name: [] for name in servers}

    def once(name: str) -> float:
        before = cpu_s(servers[name])
        found = measure(servers[name], tokens[name], callers=callers, seconds=seconds, era="modern", session=False)
        cpu[name].append(1_000_000 * (cpu_s(servers[name]) - before) / found["calls"])
        return float(found["calls_per_s"])

    figures = alternate(rounds, {name: partial(once, name) for name in servers})
    return {
        name: {
            "calls_per_s": values,
            "median": statistics.median(values),
            "cpu_us": statistics.median(cpu[name]),
            "ratio": ratio(values, figures[BARE]),
            "cpu_ratio": ratio(cpu[BARE], cpu[name]),
        }
        for name, values in figures.items()
    }


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--callers", type=int, nargs="+", default=list(CALLERS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "rounds": options.rounds, "seconds": options.seconds, "callers": {}}
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        servers = {name: stack.enter_context(running(command(name, Path(directory)))) for name in PROFILES}
        servers[BARE] = bare(stack)
        print(f"{'server':<16} {'callers':>7} {'calls/s':>9} {'CPU us':>7}   of the bare peer: calls/s (range), CPU")
        for callers in options.callers:
            found = compare(servers, callers=callers, rounds=options.rounds, seconds=options.seconds)
            results["callers"][str(callers)] = found
            for name, figures in found.items():
                middle, least, greatest = figures["ratio"]
                print(
                    f"{name:<16} {callers:>7} {figures['median']:>9.0f} {figures['cpu_us']:>7.0f}"
                    f"   {middle:.2f} ({least:.2f}-{greatest:.2f}), {figures['cpu_ratio'][0]:.2f}",
                    flush=True,
                )
    print(save("host", results, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
