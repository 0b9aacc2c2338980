"""The noisy neighbour: how long a quiet tenant's calls take, alone and beside another tenant that is all noise.

`python -m bench.neighbour [--kinds calls logins ...] [--rounds 5] [--seconds 10] [--flush-ms 0.3]` prints a table and
writes results/neighbour.json. The victim calls at a modest, fixed rate over one connection; the neighbour has 64
connections and waits for nothing but its answers. Quiet and flooded time follow each other in each round, and the ratio
of their p99 is taken within it. Logins are hashed and registrations stored, every one: the throttles, which would end
such floods at once, are set too high to help. The Node peer stands beside it for calls.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from conformance.login import sign_in

from bench.disk import disk
from bench.flood import KINDS
from bench.load import called, request_builder, whole_answer
from bench.peers import PEERS, Signer
from bench.rounds import RESULTS, configured, flush_ms, ratio, save, serve, started, surroundings

NEIGHBOURS = 64
# So that every login is hashed, and every registration stored.
LIMITS = """
[limits]
failed_logins = 1000000
failed_logins_window_s = 1
registrations_per_minute = 1000000
registrations_per_minute_in_all = 1000000
"""


class Victim:
    """Somebody who calls now and then."""

    def __init__(self, url: str, token: str, *, rate: float) -> None:
        """Connect; `rate` is in calls a second."""
        parts = urlsplit(url)
        self._sock = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._build = request_builder(url, token, era="legacy", session=None)
        self._interval = 1 / rate
        self._number = 0
        self.errors = 0

    def latencies(self, seconds: float) -> list[float]:
        """Call for so long; give milliseconds, counted from when a call was due where the one before held it up."""
        taken = []
        due = time.perf_counter()
        until = due + seconds
        while due < until:
            late = time.perf_counter() > due
            time.sleep(max(0.0, due - time.perf_counter()))
            began = due if late else time.perf_counter()
            self._call()
            taken.append(1000 * (time.perf_counter() - began))
            due += self._interval
        return taken

    def _call(self) -> None:
        self._number += 1
        self._sock.sendall(self._build(self._number))
        status, body = whole_answer(self._sock)
        self.errors += not called(status, body, self._number)


class Neighbour:
    """A flood in a process of its own, from entering to leaving; `figures` then."""

    def __init__(self, kind: str, url: str, token: str, *, seconds: float) -> None:
        self._command = [sys.executable, "-m", "bench.flood", kind, "--url", url, "--callers", str(NEIGHBOURS)]
        self._command += ["--seconds", str(seconds)]
        self._token = token
        self.figures: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self._token + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "begun\n":
            raise RuntimeError("the neighbour did not begin")
        return self

    def __exit__(self, *_: object) -> None:
        output, _unused = self._process.communicate(timeout=120)
        self.figures = json.loads(output)


def p(part: float, values: list[float]) -> float:
    """Give a quantile."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def measure(
    url: str, quiet_token: str, loud_token: str, kind: str, *, rounds: int, seconds: float, rate: float
) -> dict[str, Any]:
    """Take the victim's latencies quiet and under one kind of flood, in turn."""
    victim = Victim(url, quiet_token, rate=rate)
    victim.latencies(0.5)
    quiet, flooded, floods = [], [], []
    for _ in range(rounds):
        quiet.append(victim.latencies(seconds))
        with Neighbour(kind, url, loud_token, seconds=seconds + 1) as neighbour:
            time.sleep(0.5)
            flooded.append(victim.latencies(seconds))
        floods.append(neighbour.figures)
    louder = statistics.median(flood["calls_per_s"] for flood in floods)
    return {
        "quiet": _summary(quiet),
        "flooded": _summary(flooded),
        "p50_ratio": ratio([p(0.5, each) for each in flooded], [p(0.5, each) for each in quiet]),
        "p99_ratio": ratio([p(0.99, each) for each in flooded], [p(0.99, each) for each in quiet]),
        "victim_calls": sum(map(len, quiet + flooded)),
        "victim_errors": victim.errors,
        "neighbour_per_s": louder,
        "times_louder": louder / rate,
        "neighbour_statuses": floods[-1]["statuses"],
    }


def _summary(rounds: list[list[float]]) -> dict[str, Any]:
    every = [value for each in rounds for value in each]
    return {
        "p50_ms": statistics.median(p(0.5, each) for each in rounds),
        "p99_ms": statistics.median(p(0.99, each) for each in rounds),
        "p99_ms_of_all": p(0.99, every),
        "max_ms": max(every),
        "p99_ms_by_round": [p(0.99, each) for each in rounds],
    }


def main() -> int:
    """Measure and print; exit status 1 where a call of the victim failed here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--no-peer", action="store_true", help="without the Node peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--flush-ms", type=float, default=0.0, help="have data in memory, and each flush take so long")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    how = {"rounds": options.rounds, "seconds": options.seconds, "rate": options.rate}
    results: dict[str, Any] = {**surroundings(), **how, "workers": options.workers, "ours": {}, "node": {}}
    with disk(options.flush_ms) as (data, environment), ExitStack() as stack:
        results["flush_ms"] = options.flush_ms or flush_ms(data)
        print(f"{results['machine']}, {results['date']}, one flush {results['flush_ms']:.2f} ms")
        print(f"{'server':<7} {'flood':<14} {'quiet p50':>9} {'p99':>7} {'flooded p50':>12} {'p99':>7}  ratio of p99")
        command = serve(configured(data, LIMITS), data / "ours", workers=options.workers)
        if options.kinds:
            ours = stack.enter_context(started(command, environment))
            quiet, loud = (sign_in(ours.url, user=user, password="demo").access_token for user in ("carol", "alice"))
            for kind in options.kinds:
                results["ours"][kind] = measure(ours.url, quiet, loud, kind, **how)
                _print("ours", kind, results["ours"][kind])
        if not options.no_peer:
            signer = Signer()
            peers = {**environment, **signer.environment, "PEER_DATA": str(data)}
            node = stack.enter_context(started(PEERS["node"].command(), peers))
            quiet, loud = signer.token("tenant-b"), signer.token("tenant-a")
            results["node"]["calls"] = measure(node.url, quiet, loud, "calls", **how)
            _print("node", "calls", results["node"]["calls"])
    name = "neighbour" + ("" if options.workers == 1 else f"-{options.workers}")
    print(save(name + (f"-{options.flush_ms:g}ms" if options.flush_ms else ""), results, options.results))
    return 1 if any(found["victim_errors"] for found in results["ours"].values()) else 0


def _print(server: str, kind: str, found: dict[str, Any]) -> None:
    quiet, flooded = found["quiet"], found["flooded"]
    middle, least, greatest = found["p99_ratio"]
    print(
        f"{server:<7} {kind:<14} {quiet['p50_ms']:>9.2f} {quiet['p99_ms']:>7.2f} {flooded['p50_ms']:>12.2f}"
        f" {flooded['p99_ms']:>7.2f}  {middle:.2f} ({least:.2f}-{greatest:.2f}), {found['times_louder']:.0f} times"
        f" louder {found['neighbour_statuses']}, victim's errors: {found['victim_errors']}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
