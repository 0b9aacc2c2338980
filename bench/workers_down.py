"""One of two workers is killed under load: how many calls fail, and how soon all is as before.

`python -m bench.workers_down [--kills 10]` prints the figures and writes results/workers_down.json. The callers
connect anew when their connection is lost; what they had asked at that moment is the failed share.
"""

import argparse
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from conformance.login import sign_in

from bench.load import LEGACY
from bench.plot import Point, lines, write
from bench.rounds import RESULTS, Process, configured, flush_ms, processes, save, serve, started, surroundings

CALLERS = 16
BEFORE_S, AFTER_S = 2.0, 4.0
BIN_S = 0.1
RETURN_TIMEOUT_S = 15.0


def workers_of(process: int) -> list[int]:
    """Give the worker processes of a supervisor."""
    found = []
    for child in processes(process)[1:]:
        with suppress(OSError):  # it may be gone by now
            if b"tenantry.server.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found


def rate(moments: list[float], since: float, until: float) -> float:
    """Give answers a second between two moments."""
    return sum(since <= moment < until for moment in moments) / (until - since)


def longest_pause(moments: list[float], since: float) -> float:
    """Give the longest time without any answer behind `since`, in seconds."""
    behind = [since, *sorted(moment for moment in moments if moment >= since)]
    return max((later - earlier for earlier, later in itertools.pairwise(behind)), default=0.0)


def kill_one(server: Process, token: str) -> dict[str, Any]:
    """Kill a worker in the middle of a run and give what the callers saw."""
    command = [sys.executable, "-m", "bench.load", "--url", server.url, "--callers", str(CALLERS), "--era", "legacy"]
    command += ["--seconds", str(BEFORE_S + AFTER_S), "--reconnect"]
    before = set(workers_of(server.process.pid))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        load.stdin.write(token + "\n")
        load.stdin.close()
        load.stdin = None
        assert load.stdout is not None
        load.stdout.readline()
        began = time.perf_counter()
        time.sleep(BEFORE_S)
        killed = time.perf_counter() - began
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        while not set(workers_of(server.process.pid)) - before:
            if time.perf_counter() - began - killed > RETURN_TIMEOUT_S:
                raise RuntimeError("the dead worker was not replaced")
            time.sleep(0.005)
        replaced = time.perf_counter() - began - killed
        output, _ = load.communicate(timeout=60)
    figures = json.loads(output)
    moments = figures["answered_after_s"]
    bins = int((BEFORE_S + AFTER_S) / BIN_S)
    return {
        "calls": figures["calls"],
        "failed": figures["failures"],
        "first_failure": figures["first_failure"],
        "share_failed": figures["failures"] / (figures["calls"] + figures["failures"]),
        "longest_pause_s": longest_pause(moments, killed),
        "new_process_after_s": replaced,
        "before_per_s": rate(moments, BIN_S, killed),
        "first_second_per_s": rate(moments, killed, killed + 1),
        "last_second_per_s": rate(moments, BEFORE_S + AFTER_S - 1, BEFORE_S + AFTER_S),
        "killed_after_s": killed,
        "per_bin": [rate(moments, each * BIN_S, (each + 1) * BIN_S) for each in range(bins)],
    }


def plot(kills: list[dict[str, Any]]) -> str:
    """Draw calls/s over time, each kill's in the spread."""
    columns = list(zip(*(each["per_bin"] for each in kills), strict=True))
    points = [Point(statistics.median(each), min(each), max(each)) for each in columns]
    at = [f"{number * BIN_S:.0f}" if number % 10 == 0 else "" for number in range(len(points))]
    title = f"one of two workers killed after {BEFORE_S:g} s"
    return lines(title, across="seconds", up="calls/s", at=at, series={"answered": points})


def main() -> int:
    """Kill and print; exit status 1 where the log does not verify in the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "callers": CALLERS, "revision": LEGACY}
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        results["flush_ms"] = flush_ms(data)
        with started(serve(configured(data), data / "data", workers=2)) as server:
            token = sign_in(server.url, user="alice", password="demo").access_token
            kills = [kill_one(server, token) for _ in range(options.kills)]
        verify = [sys.executable, "-m", "tenantry", "audit", "verify", "--data", str(data / "data")]
        verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    results["kills"] = kills
    results["verified"] = verified.returncode == 0
    for name in ("calls", "failed", "share_failed", "longest_pause_s", "new_process_after_s"):
        values = [kill[name] for kill in kills]
        print(f"{name:<22} median {statistics.median(values):.4g}  least {min(values):.4g}  greatest {max(values):.4g}")
    for name in ("before_per_s", "first_second_per_s", "last_second_per_s"):
        print(f"{name:<22} {statistics.median(kill[name] for kill in kills):.0f}")
    print(f"failed calls in all: {sum(kill['failed'] for kill in kills)} of {sum(kill['calls'] for kill in kills)}")
    print(f"audit verify: {re.sub(chr(10), '; ', verified.stdout.strip())[:300]}, exit status {verified.returncode}")
    print(save("workers_down", results, options.results))
    print(write(options.results / "workers_down.svg", plot(kills)))
    return 0 if results["verified"] else 1


if __name__ == "__main__":
    sys.exit(main())
