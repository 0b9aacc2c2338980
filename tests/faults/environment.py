"""A server under load whose disk fills, fails, or takes its time, and is well again: what the clients see meanwhile.

`python -m tests.faults.environment`. For each fault: calm, the fault for a while, calm again. Prints which answers came
in each phase and how long the slowest took, and how soon calls succeeded again without a restart; then the server
stops in good order, its log is verified and held against what each client saw. An answer of 200 without its record
and anything but 200 and 503 is a problem, and a server that takes a failed commit for a success must be caught. The
process that is stopped for a while and the clock that jumps are here too: records stand in the order of their commits.
"""

import argparse
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

from tenantry.audit import record
from tenantry.server import audit_log, audit_writer, sessions
from tests.faults.callers import Caller, calling, every
from tests.faults.forks import forked_server
from tests.faults.shim import Faults, Mode
from tests.faults.subject import deaf_commit, nothing
from tests.histories import differences
from tests.running import free_port

DISK_BYTES = 8 * 1024 * 1024
CALM_S = 0.5
# What is done in the background must also meet the fault.
WRITE_BACK_S = 0.2
RECOVERY_S = 30.0
PHASES = ("before", "meanwhile", "afterwards")

Fault = Callable[[int, Path, Faults], AbstractContextManager[None]]
"""Makes the fault for the server of that process id and data directory, as long as the block runs."""


@contextmanager
def failing(_: int, __: Path, faults: Faults, *, error: int, last: int | None = None) -> Iterator[None]:
    """Every call on the log's files fails, or only the first `last` of them."""
    faults.set(Mode.FAIL, error=error, **({} if last is None else {"last": last}))
    yield


@contextmanager
def short(_: int, __: Path, faults: Faults) -> Iterator[None]:
    """Every write takes half of what it is given."""
    faults.set(Mode.SHORT)
    yield


@contextmanager
def slow(_: int, __: Path, faults: Faults, *, delay_s: float) -> Iterator[None]:
    """Every flush takes its time."""
    faults.set(Mode.OFF, delay_ms=delay_s * 1000)
    yield


@contextmanager
def full_disk(_: int, data: Path, __: Faults) -> Iterator[None]:
    """The file system that the data directory is on has no space left."""
    ballast = data / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    yield
    ballast.unlink()


@contextmanager
def file_size_limit(server: int, data: Path, _: Faults) -> Iterator[None]:
    """No file of the server may grow beyond what the smallest of the log has now."""
    size = (data / audit_log.FILE_NAME).stat().st_size
    before = resource.prlimit(server, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(server, resource.RLIMIT_FSIZE, before)


@contextmanager
def stopped(server: int, _: Path, __: Faults) -> Iterator[None]:
    """The process stands still, as in a debugger or a machine that is moved."""
    os.kill(server, signal.SIGSTOP)
    yield
    os.kill(server, signal.SIGCONT)


@contextmanager
def clock_jump(_: int, __: Path, faults: Faults, *, hours: int) -> Iterator[None]:
    """The wall clock jumps, and back again at the end."""
    faults.set(Mode.OFF, jump_s=hours * 3600)
    yield


FAULTS: dict[str, Fault] = {
    "EIO once": partial(failing, error=errno.EIO, last=1),
    "EIO for a while": partial(failing, error=errno.EIO),
    "ENOSPC for a while": partial(failing, error=errno.ENOSPC),
    "a full disk": full_disk,
    "a limit on file sizes": file_size_limit,
    "short writes": short,
    "flushes of 0.5 s": partial(slow, delay_s=0.5),
    "flushes of 5 s": partial(slow, delay_s=5),
    "flushes of 12 s": partial(slow, delay_s=12),
    "a stopped process": stopped,
    "a clock an hour ahead": partial(clock_jump, hours=1),
    "a clock an hour back": partial(clock_jump, hours=-1),
}
# Access tokens are of another time then; their clients get new ones.
REFUSED = {"a clock an hour ahead": 401, "a clock an hour back": 401}


@dataclass
class Phase:
    """What clients saw in one phase."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def take(self, took_s: float, status: int) -> None:
        """Note one answer."""
        self.statuses[status] += 1
        self.slowest_s = max(self.slowest_s, took_s)


@dataclass
class Tally:
    """What came of one fault."""

    phases: dict[str, Phase] = field(default_factory=lambda: {name: Phase() for name in PHASES})
    back_s: float = 0.0
    """From the end of the fault to the next success."""
    recoveries: int = 0
    """How often the log says that it was opened afresh."""
    problems: list[str] = field(default_factory=list)


class Watch:
    """Knows which phase it is, and tells when a call has succeeded in it."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._lock = threading.Lock()
        self._phase = PHASES[0]
        self._success = threading.Event()

    def begin(self, phase: str) -> None:
        """What is answered from now on belongs to that phase."""
        with self._lock:
            self._phase = phase
            self._success.clear()

    def take(self, took_s: float, status: int) -> None:
        """Note one answer."""
        with self._lock:
            self._tally.phases[self._phase].take(took_s, status)
            if status == 200:
                self._success.set()

    def success(self) -> bool:
        """Wait for a call to succeed; give whether one has."""
        return self._success.wait(RECOVERY_S)


def call(caller: Caller) -> None:
    """Call in either era, now and then in a new session, without haste."""
    if caller.rng.random() < 0.02:
        caller.try_new_session()
    caller.call("quick", legacy=caller.rng.random() < 0.5)
    time.sleep(0.005)


def suffer(
    data: Path,
    faults: Faults,
    fault: Fault,
    *,
    hold_s: float,
    callers: int,
    statuses: tuple[int, ...] = (),
    end: int = signal.SIGTERM,
    plant: Callable[[], AbstractContextManager[None]] = nothing,
) -> Tally:
    """Serve and load, make the fault, end it, and compare; `statuses` are answers that may come besides.

    Only in a process without threads, which it forks.
    """
    tally = Tally()
    watch = Watch(tally)
    port = free_port()
    clients = [
        Caller(f"http://localhost:{port}", f"e{number}", random.Random(number), watch=watch.take)
        for number in range(callers)
    ]
    faults.clear()
    with forked_server(data, port, plant, end=end) as server:
        every(clients, Caller.sign_in)
        every(clients, partial(Caller.call, tool="quick", legacy=True))
        with calling(clients, call, breaks=False):
            time.sleep(CALM_S)
            watch.begin("meanwhile")
            with fault(server, data, faults):
                time.sleep(hold_s)
            faults.clear()
            ended = time.monotonic()
            watch.begin("afterwards")
            if not watch.success():
                tally.problems.append(f"no call succeeded within {RECOVERY_S:g} s after the fault")
            tally.back_s = time.monotonic() - ended
            time.sleep(CALM_S)
    _compare(tally, data, clients, statuses=(200, 503, *statuses))
    return tally


def _compare(tally: Tally, data: Path, clients: list[Caller], *, statuses: tuple[int, ...]) -> None:
    seen = sum((phase.statuses for phase in tally.phases.values()), Counter[int]())
    tally.problems += [f"{count} answers of {status}" for status, count in seen.items() if status not in statuses]
    stands, problem = audit_log.verify(data / audit_log.FILE_NAME)
    tally.problems += [] if problem is None else [f"behind record {stands}: {problem}"]
    entries = [record.decode(body) for _, body in audit_log.read(data / audit_log.FILE_NAME)]
    tally.problems += differences([client.history for client in clients], entries)
    tally.recoveries = sum(entry["kind"] == "log_recovered" for entry in entries)


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own at `path`."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def run(directory: Path, faults: Faults, *, names: list[str], hold_s: float, callers: int) -> dict[str, Tally]:
    """Let a server suffer each of the faults, and one with a planted bug a failing disk."""
    tallies = {}
    directory.mkdir()
    for name in names:
        data = directory / name.replace(" ", "-").replace(".", "-")
        with small_disk(data) if name == "a full disk" else nullcontext():
            hold = max(hold_s, 13.0) if name == "flushes of 12 s" else hold_s
            statuses = (REFUSED[name],) if name in REFUSED else ()
            tallies[name] = suffer(data, faults, FAULTS[name], hold_s=hold, callers=callers, statuses=statuses)
    # Half of a second of a disk that loses everything: the log must not be believed to be whole.
    fault = partial(suffer, directory / "planted", faults, FAULTS["ENOSPC for a while"], hold_s=0.5, callers=callers)
    tallies["planted"] = fault(plant=deaf_commit, end=signal.SIGKILL)
    return tallies


def main() -> int:
    """Run and say what came of it; exit status 1 where there is a problem, or none with the planted bug."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", action="append", choices=FAULTS, help="all, where none is named")
    parser.add_argument("--hold", type=float, default=6.0, help="seconds that a fault lasts")
    parser.add_argument("--retry", type=float, default=audit_writer.RETRY_S, help="seconds between two recoveries")
    parser.add_argument("--callers", type=int, default=8)
    options = parser.parse_args()
    if "FAULTS" not in os.environ:
        return _in_a_world_of_its_own()
    made = Path(os.environ["FAULTS"]).parent
    retry = patch.object(audit_writer, "RETRY_S", options.retry)
    with retry, patch.object(sessions, "WRITE_BACK_EVERY_S", WRITE_BACK_S):
        tallies = run(
            made / "runs",
            Faults(made),
            names=options.fault or list(FAULTS),
            hold_s=options.hold,
            callers=options.callers,
        )
    planted = tallies.pop("planted")
    for name, tally in tallies.items():
        print(f"{name}: back after {tally.back_s:.2f} s, {tally.recoveries} recoveries, {len(tally.problems)} problems")
        for phase in PHASES:
            seen = tally.phases[phase]
            print(f"  {phase}: {dict(seen.statuses)}, slowest {seen.slowest_s:.2f} s")
        for problem in tally.problems[:10]:
            print(f"  {problem}")
    print(f"planted deaf commit: {len(planted.problems)} problems")
    return int(any(tally.problems for tally in tallies.values()) or not planted.problems)


def _in_a_world_of_its_own() -> int:
    """Start again with the shim, and with the right to mount: as another user, in a namespace of mounts."""
    with tempfile.TemporaryDirectory() as directory:
        faults = Faults.make(Path(directory), under=Path(directory) / "runs")
        alone = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
        command = [*alone, sys.executable, "-m", "tests.faults.environment", *sys.argv[1:]]
        return subprocess.run(command, check=False, env=faults.environment).returncode


if __name__ == "__main__":
    sys.exit(main())
