"""Kill the server with -9 under load, again and again: what was answered must stand in the log, and nothing else.

`python -m tests.crash.kills --kills 1000`. A kill does not test the flush (the page cache survives it: that is
`tests.faults.power`); it tests recovery, torn batches and answers that overtake their records. Each client's history
is held against the whole log, which is verified every now and then and at the end. A server that answers before its
record is durable must be caught, else the run fails.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tenantry.audit import record
from tenantry.server import audit_log
from tests.faults.callers import Caller, calling, every
from tests.faults.forks import forked_server
from tests.faults.subject import early_and_slow, nothing
from tests.histories import CALLS, differences
from tests.running import TENANTRY, free_port

CALLERS_MIN = 16
VERIFIED_EACH = 25
VERIFIER = Path(__file__).parents[2] / "conformance" / "verifier.py"


@dataclass
class Tally:
    """What came of a run."""

    kills: int = 0
    callers: int = 0
    answered: int = 0
    recorded: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    slowest_start_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def kill_under_load(
    data: Path, *, kills: int, callers_max: int, seed: int, plant: Callable[[], AbstractContextManager[None]] = nothing
) -> Tally:
    """Serve, load, kill, and again; then compare. Only in a process without threads, which it forks."""
    rng = random.Random(seed)
    port = free_port()
    callers = [Caller(f"http://localhost:{port}", f"c{number}", random.Random(number)) for number in range(callers_max)]
    with forked_server(data, port, nothing):
        every(callers, Caller.sign_in)
    tally = Tally(callers=len(callers))
    for number in range(1, kills + 1):
        began = time.monotonic()
        with forked_server(data, port, plant) as server:
            tally.slowest_start_s = max(tally.slowest_start_s, time.monotonic() - began)
            with calling(
                rng.sample(callers, rng.randint(CALLERS_MIN, callers_max)),
                partial(Caller.step, logins=0.0),
                breaks=True,
            ):
                time.sleep(rng.uniform(0.1, 0.6))
                os.kill(server, signal.SIGKILL)
        tally.kills = number
        if number % VERIFIED_EACH == 0 or number == kills:
            stands, problem = audit_log.verify(data / audit_log.FILE_NAME)
            tally.problems += [] if problem is None else [f"after {number} kills, behind record {stands}: {problem}"]
    with forked_server(data, port, nothing, end=signal.SIGTERM):
        pass  # what is counted of denials becomes a record at a stop in good order
    tally.problems += independent_verdicts(data)
    entries = [record.decode(body) for _, body in audit_log.read(data / audit_log.FILE_NAME)]
    tally.problems += differences([caller.history for caller in callers], entries)
    tally.answered = sum(caller.history.answered.total() for caller in callers)
    tally.recorded = sum(entry["kind"] in CALLS for entry in entries)
    for caller in callers:
        for status, count in caller.refused.items():
            tally.refused[status] = tally.refused.get(status, 0) + count
    return tally


def independent_verdicts(data: Path) -> list[str]:
    """What the command and the verifier that shares no code with the server say against the log."""
    key = subprocess.run([*TENANTRY, "audit", "key", "--data", str(data)], capture_output=True, text=True, check=True)
    commands = (
        [*TENANTRY, "audit", "verify", "--data", str(data)],
        [sys.executable, str(VERIFIER), str(data), "--key", key.stdout.strip()],
    )
    runs = [subprocess.run(command, capture_output=True, text=True, check=False) for command in commands]
    return [f"{run.args}: {run.stdout}{run.stderr}" for run in runs if run.returncode]


def main() -> int:
    """Run and say what came of it; exit status 1 where anything differs, or the planted bug is not noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--callers", type=int, default=64, help=f"at the most; at least {CALLERS_MIN}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        load = partial(kill_under_load, callers_max=options.callers, seed=options.seed)
        tally = load(Path(directory) / "data", kills=options.kills)
        planted = load(Path(directory) / "planted", kills=3, plant=early_and_slow)
    print(
        f"{tally.kills} kills, {tally.callers} callers, {tally.answered} answers, {tally.recorded} calls recorded, "
        f"refused {tally.refused}, slowest start {tally.slowest_start_s:.2f} s, {len(tally.problems)} problems"
    )
    for problem in tally.problems[:20]:
        print(f"  {problem}")
    print(f"planted early acknowledgement: {len(planted.problems)} problems in {planted.kills} kills")
    return int(bool(tally.problems) or not planted.problems)


if __name__ == "__main__":
    sys.exit(main())
