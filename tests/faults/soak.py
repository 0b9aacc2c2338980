"""Everything at once for long: sessions, streams, calls of every end, logins and refreshes, all held against the log.

`python -m tests.faults.soak --minutes 60 --callers 16`. Prints how memory, descriptors, threads and tasks of the
server went (memory's slope by least squares, behind the first fifth), and compares all that the clients saw with the
log. A record that is taken out of the comparison must be missed, and one that is there twice be noticed, else the run
fails.
"""

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import linear_regression
from typing import Any
from urllib.request import urlopen

from tenantry.audit import record
from tenantry.server import audit_log
from tests.faults.callers import CONFIG, Caller, calling
from tests.histories import CALLS, differences
from tests.running import RunningServer, free_port, running_server

ROOT = Path(__file__).parents[2]
LOGINS = 0.002
WARM_UP = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server had at one moment."""

    at_s: float
    memory_kib: int
    descriptors: int
    threads: int
    tasks: int


@dataclass
class Tally:
    """What came of a run."""

    seconds: float = 0.0
    answered: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def slope_kib_per_h(self) -> float:
        """How fast memory grew after the first fifth of the run."""
        late = [sample for sample in self.samples if sample.at_s >= WARM_UP * self.seconds]
        if len(late) < 2:
            return 0.0
        slope = linear_regression([s.at_s for s in late], [s.memory_kib for s in late]).slope
        return slope * 3600


def sample(server: RunningServer, management_port: int, began: float) -> Sample:
    """Look at the server; how many tasks it has is a second old."""
    with urlopen(f"http://127.0.0.1:{management_port}/metrics", timeout=10) as answer:
        tasks = re.search(rb"^tenantry_tasks(?:\{.*\})? ([0-9.]+)$", answer.read(), re.MULTILINE)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    values = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(
        at_s=time.monotonic() - began,
        memory_kib=int(values["VmRSS"].split()[0]),
        descriptors=server.descriptors(),
        threads=int(values["Threads"]),
        tasks=int(float(tasks[1])) if tasks else 0,
    )


def soak(data: Path, *, seconds: float, callers: int, every_s: float, seed: int) -> Tally:
    """Serve and load for so long, sampling the server; then stop it and compare."""
    tally = Tally(seconds=seconds)
    port = free_port()
    with running_server(data, "--config", str(CONFIG), "--management-port", str(port), cwd=ROOT) as server:
        clients = [Caller(server.issuer, f"s{number}", random.Random(seed + number)) for number in range(callers)]
        began = time.monotonic()
        with calling(clients, partial(Caller.step, logins=LOGINS), breaks=False):
            while time.monotonic() - began < seconds:
                time.sleep(every_s)
                tally.samples.append(sample(server, port, began))
        logged = server.logged()
        server.stop()
    if "[error" in logged or "Traceback" in logged:
        tally.problems.append(f"the server complained: {logged[-2000:]}")
    stands, problem = audit_log.verify(data / audit_log.FILE_NAME)
    tally.problems += [] if problem is None else [f"behind record {stands}: {problem}"]
    entries = [record.decode(body) for _, body in audit_log.read(data / audit_log.FILE_NAME)]
    histories = [client.history for client in clients]
    tally.problems += differences(histories, entries)
    tally.answered = sum(history.answered.total() for history in histories)
    for entry in entries:
        tally.kinds[entry["kind"]] += 1
        tally.outcomes[entry.get("outcome", "-")] += 1
    for client in clients:
        tally.refused += client.refused
    if unnoticed(clients, entries, random.Random(seed)):
        tally.problems.append("a record was taken out or doubled, and nothing was noticed")
    return tally


def tenths(values: list[int]) -> list[int]:
    """The last value of each tenth: where a bound is reached, they stop growing."""
    return [values[max(len(values) * part // 10 - 1, 0)] for part in range(1, 11)]


def unnoticed(clients: list[Caller], entries: list[Mapping[str, Any]], rng: random.Random) -> bool:
    """Take a record of a call away, then double it: tell whether the comparison is blind to either."""
    histories = [client.history for client in clients]
    chosen = rng.choice([at for at, entry in enumerate(entries) if entry["kind"] in CALLS])
    without = entries[:chosen] + entries[chosen + 1 :]
    doubled = [*entries, entries[chosen]]
    return not differences(histories, without) or not differences(histories, doubled)


def main() -> int:
    """Run and say what came of it; exit status 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    seconds = options.minutes * 60
    with tempfile.TemporaryDirectory() as directory:
        tally = soak(
            Path(directory) / "data",
            seconds=seconds,
            callers=options.callers,
            every_s=min(5.0, seconds / 10),
            seed=options.seed,
        )
    print(f"{seconds:.0f} s, {options.callers} callers: {tally.answered} answers, {tally.answered / seconds:.0f}/s")
    print(f"recorded: {dict(tally.kinds)}")
    print(f"outcomes: {dict(tally.outcomes)}; refused: {dict(tally.refused)}")
    for name in ("memory_kib", "descriptors", "threads", "tasks"):
        values = [getattr(each, name) for each in tally.samples]
        print(f"{name}: first {values[0]}, last {values[-1]}, least {min(values)}, most {max(values)}")
    print(f"memory_kib by tenths: {tenths([each.memory_kib for each in tally.samples])}")
    print(f"memory's slope behind the first fifth: {tally.slope_kib_per_h:+.0f} KiB/h")
    print(f"{len(tally.problems)} problems")
    for problem in tally.problems[:20]:
        print(f"  {problem}")
    return int(bool(tally.problems))


if __name__ == "__main__":
    sys.exit(main())
