"""Cut the power at any moment: replay what a disk may hold then, open it, and compare with what was acknowledged.

`python -m tests.faults.power --states 2000`. strace records each write, flush and name of the log's files and, in the
same order, the acknowledgements; `disk` says what of it may be there after any prefix. Three planted bugs must lose
something, else the run fails: flushing as NORMAL and OFF do, and an early acknowledgement.
"""

import argparse
import random
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import disk, judge, trace
from tests.faults.disk import Acknowledge, Disk, Event

CONTROLS = ("normal", "off", "early")


@dataclass
class Tally:
    """What came of the states of one trace."""

    states: int = 0
    acknowledged: int = 0
    bad: list[str] = field(default_factory=list)
    """The first problem of each state that has any."""


def replay(events: list[Event], *, states: int, seed: int) -> Tally:
    """Cut `states` times, evenly over the trace and right behind acknowledgements, and judge each."""
    rng = random.Random(seed)
    acknowledgements = [at for at, event in enumerate(events, start=1) if isinstance(event, Acknowledge)]
    cuts = [len(events) * number // states for number in range(states - states // 4)]
    cuts = sorted(cuts + rng.choices(acknowledgements, k=states // 4))
    tally, medium, done = Tally(), Disk(), 0
    acknowledged: list[int] = []
    some = disk.some_of_it(rng)
    with tempfile.TemporaryDirectory(dir=disk.quick_directory()) as directory:
        for cut in cuts:
            for event in events[done:cut]:
                medium.take(event)
                if isinstance(event, Acknowledge):
                    acknowledged.append(event.number)
            done = cut
            state = Path(directory) / str(tally.states)
            _lay_out(state, medium.after_power_cut(rng, rng.choice((disk.none_of_it, some, some, disk.all_of_it))))
            found = judge.problems(state, acknowledged)
            tally.states += 1
            tally.bad += found[:1]
            _clear(state)
    tally.acknowledged = len(acknowledgements)
    return tally


def _lay_out(state: Path, files: dict[str, bytes]) -> None:
    state.mkdir()
    for name, content in files.items():
        (state / name).write_bytes(content)


def _clear(state: Path) -> None:
    for path in state.iterdir():
        path.unlink()
    state.rmdir()


def run(directory: Path, *, states: int, seed: int, sessions: int, callers: int, records: int) -> dict[str, Tally]:
    """Record and replay the product and each control."""
    tallies = {}
    for plant in ("none", *CONTROLS):
        events = trace.record(directory / plant, plant, sessions=sessions, callers=callers, records=records)
        tallies[plant] = replay(events, states=states, seed=seed)
    return tallies


def main() -> int:
    """Say what came of it; exit status 1 where the product lost something or a control did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=2000, help="of the product, and of each control")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--records", type=int, default=60)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as directory:
        tallies = run(Path(directory), **options)
    for plant, tally in tallies.items():
        first = f": {tally.bad[0]}" if tally.bad else ""
        print(f"{plant}: {len(tally.bad)} bad of {tally.states} states, {tally.acknowledged} acknowledged{first}")
    return int(bool(tallies["none"].bad) or not all(tallies[control].bad for control in CONTROLS))


if __name__ == "__main__":
    sys.exit(main())
