"""Alternating rounds: what is compared is measured in turn, A B A B, and a ratio is taken within each round.

Machines are shared and drift; a ratio of neighbours in time holds where a figure alone does not.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conformance.login import SignedIn, sign_in

from bench.load import open_session, request_parts

FLUSHES = 200
SCRIPT = Path(__file__).with_name("wrk.lua")
RESULTS = Path(__file__).parent / "results"
DEMO = Path(__file__).parents[1] / "src" / "tenantry" / "demo" / "demo.toml"
# A run lasts longer than a usual token lives.
LONG = "\n[lifetimes]\naccess_token_s = 3600\n"
START_TIMEOUT_S = 30


# Run before anything of the server: its records then seem durable and are written nowhere.
WITHOUT_AUDIT = """
from tenantry.server.audit_writer import AuditWriter, Ticket

def hand_in(self, entry, **_):
    ticket = Ticket(entry, float("inf"))
    ticket.is_durable = True
    ticket.settle()
    return ticket

AuditWriter.hand_in = hand_in
"""


@dataclass(slots=True)
class Server:
    """A server that runs, and somebody who has signed in there."""

    url: str
    process: subprocess.Popen[str]
    signed_in: SignedIn

    def new_token(self) -> str:
        """Get an access token that has its whole life before it; a refresh token is good for one."""
        self.signed_in = self.signed_in.refreshed()
        return self.signed_in.access_token


@dataclass(frozen=True, slots=True)
class Process:
    """A server's process that is ready at its MCP URL."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def started(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Start a server that prints a line with its MCP URL when it is ready; stop it by SIGTERM in the end.

    `environment` is what it has beside this process's own.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            urls = [word for word in line.split() if word.startswith("http")]
            if not urls:
                raise RuntimeError(f"{command} did not become ready: {line!r}")
            yield Process(urls[0], process)
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


@contextmanager
def running(command: list[str], *, user: str = "alice", password: str = "demo") -> Iterator[Server]:
    """Start one of our servers and sign somebody in there."""
    with started(command) as server:
        yield Server(server.url, server.process, sign_in(server.url, user=user, password=password))


def measure(
    server: Server | Process, token: str, *, callers: int, seconds: float, era: str, session: bool
) -> dict[str, Any]:
    """Run wrk once against a server and give its figures; raises RuntimeError for failed calls.

    wrk counts whole seconds.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("the benchmarks' load comes from wrk: apt install wrk")
    head, tail = request_parts(server.url, token, era=era, session=open_session(server.url, token) if session else None)
    duration = max(1, round(seconds))
    done = subprocess.run(
        [wrk, "-t1", f"-c{callers}", f"-d{duration}s", "--timeout=10s", f"--script={SCRIPT}", server.url],
        env={**os.environ, "BENCH_HEAD": head.decode(), "BENCH_TAIL": tail.decode()},
        stdout=subprocess.PIPE,
        text=True,
        timeout=duration + 60,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if figures["failures"]:
        raise RuntimeError(f"{figures['failures']} calls failed, the first: {figures['first_failure']}")
    return figures


def processes(process: int) -> list[int]:
    """Give a server's process and its children; a child belongs to the thread that started it, as long as it lives."""
    children: list[int] = []
    for each in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # the thread may be gone by now
            children += map(int, each.read_text().split())
    return [process, *children]


def processor_s(process: int) -> float:
    """Give the processor time that a server has used, its children's included; no neighbour's load adds to that."""
    ticks = 0
    for each in processes(process):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def serve(config: Path, data: Path, *, workers: int = 1, mode: str = "stateless", port: int = 0) -> list[str]:
    """The command line of one of our servers, of the configuration `config`."""
    flags = ["--config", str(config), "--data", str(data), "--mode", mode, "--workers", str(workers)]
    return [sys.executable, "-m", "tenantry", "serve", *flags, "--port", str(port), "--management-port", "off"]


def configured(directory: Path, more: str = "") -> Path:
    """Write the demo's configuration with long-lived access tokens and `more`, and give the file."""
    path = directory / "bench.toml"
    path.write_text(DEMO.read_text() + LONG + more)
    return path


def alternate(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure each contender once a round; every second round in the opposite order."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 == 0 else reversed(names):
            figures[name].append(contenders[name]())
    return figures


def ratio(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """Give the median, least and greatest ratio, taken round by round."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def flush_ms(directory: Path) -> float:
    """Give the median time in milliseconds of a 4 KiB append and fdatasync on the directory's disk."""
    path = directory / "flush.tmp"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    times = []
    try:
        for _ in range(FLUSHES):
            os.write(descriptor, b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
        path.unlink()
    return 1000 * statistics.median(times)


def pace_us() -> float:
    """Give the least time in microseconds of ten thousand additions: builds of one Python differ by half."""

    def once() -> float:
        began, total = time.perf_counter(), 0
        for number in range(10_000):
            total += number
        return time.perf_counter() - began

    return 1e6 * min(once() for _ in range(50))


def surroundings() -> dict[str, str]:
    """What a figure needs beside it to mean anything."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {model}",
        "python": f"{platform.python_version()}, ten thousand additions in {pace_us():.0f} us",
        "commit": commit.stdout.strip() or "unknown",
    }


def save(name: str, results: dict[str, Any], directory: Path) -> Path:
    """Write results as JSON beside the benchmarks and give the path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path
