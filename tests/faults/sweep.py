"""Fail every call on the log's files, one after the other, and compare what is left with the acknowledgements.

`python -m tests.faults.sweep`. The N-th of all writes, flushes, truncations and removals is met by a kill, by EIO
alone, by a short write, and by ENOSPC from there on, for every N until a run ends before it (`--every K`: for each
K-th). Two planted bugs must lose something, else the run fails: an early acknowledgement under kills, and a commit
that takes a failure for a success.
"""

import argparse
import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.faults import judge, subject
from tests.faults.shim import Faults, Mode
from tests.faults.trace import CALLS

SESSIONS, CALLERS, RECORDS = 2, 3, 3
FAULTS: dict[str, Callable[[Faults, int], None]] = {
    "kill": lambda faults, number: faults.set(Mode.KILL, first=number),
    "EIO": lambda faults, number: faults.set(Mode.FAIL, error=errno.EIO, first=number, last=number),
    "ENOSPC": lambda faults, number: faults.set(Mode.FAIL, error=errno.ENOSPC, first=number),
    "short": lambda faults, number: faults.set(Mode.SHORT, first=number, last=number),
}
# What must be caught, and by which faults.
CONTROLS = {"early": ("kill",), "deaf": ("EIO", "ENOSPC")}
RUN_S = 60


@dataclass
class Tally:
    """What came of the runs of one plant."""

    runs: int = 0
    acknowledged: int = 0
    refused: int = 0
    recovered: int = 0
    """Runs in which something was acknowledged after something else had been refused."""
    bad: list[str] = field(default_factory=list)


def run_subject(data: Path, plant: str, *, callers: int = CALLERS) -> bytes:
    """Run the subject in a fork of this process, which has the shim in it already; give what it wrote."""
    data.mkdir()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(RUN_S)
        os.dup2(writing, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            subject.run(plant, data, sessions=SESSIONS, callers=callers, records=RECORDS)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        raise AssertionError(f"{data}: it hangs")
    return output


def sweep(directory: Path, faults: Faults, *, every: int) -> dict[str, Tally]:
    """Make each fault at each call, with the product and with each control."""
    directory.mkdir()
    check_that_the_shim_sees_all(directory, faults)
    kinds = {"none": tuple(FAULTS), **CONTROLS}
    return {plant: _sweep(directory, plant, faults, kinds[plant], every) for plant in kinds}


def _sweep(directory: Path, plant: str, faults: Faults, kinds: tuple[str, ...], every: int) -> Tally:
    tally = Tally()
    for kind in kinds:
        for number in count(1, every):
            data = directory / f"{plant}-{kind}-{number}"
            FAULTS[kind](faults, number)
            output = run_subject(data, plant)
            happened = faults.count >= number
            faults.clear()
            acknowledged = subject.acknowledged(output)
            tally.bad += [f"{kind} at {number}: {problem}" for problem in judge.problems(data, acknowledged)[:1]]
            if not happened:
                break
            tally.runs += 1
            tally.acknowledged += len(acknowledged)
            tally.refused += output.count(b"refused")
            tally.recovered += b"durable" in output.partition(b"refused")[2]
    return tally


def check_that_the_shim_sees_all(directory: Path, faults: Faults) -> None:
    """Count the calls of a run in which nothing gathers by chance, by the shim and by strace: they must agree."""
    faults.set(Mode.COUNT)
    output = run_subject(directory / "counted", "none", callers=1)
    counted = faults.count
    faults.clear()
    traced = _calls_by_strace(directory)
    if counted != traced or len(subject.acknowledged(output)) != SESSIONS * RECORDS:
        raise AssertionError(f"strace sees {traced} calls, the shim {counted}; the subject said {output!r}")


def _calls_by_strace(directory: Path) -> int:
    data, output = directory / "traced", directory / "strace"
    data.mkdir()
    how = [f"--sessions={SESSIONS}", "--callers=1", f"--records={RECORDS}"]
    command = [*subject.COMMAND, str(data), *how]
    subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-y", "-e", f"trace={CALLS}", "-o", str(output), *command],
        check=True,
        stdout=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
    )
    return len(re.findall(rf"^\d+ +\w+\([^,)]*{re.escape(str(data))}", output.read_text(), re.MULTILINE))


def main() -> int:
    """Say what came of it; exit status 1 where the product lost something or a control did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    if "FAULTS" not in os.environ:
        with tempfile.TemporaryDirectory() as directory:
            faults = Faults.make(Path(directory), under=Path(directory) / "runs")
            command = [sys.executable, "-m", "tests.faults.sweep", *sys.argv[1:]]
            return subprocess.run(command, check=False, env=faults.environment).returncode
    made = Path(os.environ["FAULTS"]).parent
    tallies = sweep(made / "runs", Faults(made), every=options.every)
    for plant, tally in tallies.items():
        print(
            f"{plant}: {len(tally.bad)} bad of {tally.runs} runs, "
            f"{tally.acknowledged} acknowledged, {tally.refused} refused, "
            f"{tally.recovered} recovered"
        )
        for problem in tally.bad[: None if plant == "none" else 1]:
            print(f"  {problem}")
    return int(bool(tallies["none"].bad) or not all(tallies[control].bad for control in CONTROLS))


if __name__ == "__main__":
    sys.exit(main())
