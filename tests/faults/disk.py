"""What a medium may hold after a power cut: what was flushed, and any part of what was written since.

Of the changes of a file that were not flushed there may be none, all, or some in any order, and some torn at the bounds
of sectors. Names (a file made or removed) hold once their directory was flushed; until then any prefix of them may.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

SECTORS = (512, 4096)


@dataclass(frozen=True, slots=True)
class Write:
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Flush:
    name: str
    """A file's, or "" for the directory's."""


@dataclass(frozen=True, slots=True)
class Create:
    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    name: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    number: int


Event: TypeAlias = Write | Truncate | Flush | Create | Remove | Acknowledge


@dataclass
class File:
    """What of a file is on the medium, and what may be."""

    flushed: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)

    def flush(self) -> None:
        for change in self.pending:
            _apply(change, self.flushed)
        self.pending.clear()


Choice: TypeAlias = Callable[[Write | Truncate], list[Write | Truncate]]


class Disk:
    """A directory as the medium may hold it."""

    def __init__(self) -> None:
        self._names: list[dict[str, File]] = [{}]
        """As flushed, and as after each change of names since."""

    def take(self, event: Event) -> None:
        now = self._names[-1]
        if isinstance(event, Create):
            if event.name not in now:
                self._names.append({**now, event.name: File()})
        elif isinstance(event, Remove):
            self._names.append({name: file for name, file in now.items() if name != event.name})
        elif isinstance(event, Flush):
            if event.name:
                now[event.name].flush()
            else:
                self._names = [now]
        elif isinstance(event, Write | Truncate):
            now[event.name].pending.append(event)

    def after_power_cut(self, rng: random.Random, choose: Choice) -> dict[str, bytes]:
        """What may be found when the power is back."""
        names = self._names[_prefix(rng, len(self._names), choose)]
        return {name: _left(file, choose) for name, file in names.items()}


def _prefix(rng: random.Random, count: int, choose: Choice) -> int:
    if choose is none_of_it:
        return 0
    return count - 1 if choose is all_of_it else rng.randrange(count)


def _left(file: File, choose: Choice) -> bytes:
    content = bytearray(file.flushed)
    for change in file.pending:
        for part in choose(change):
            _apply(part, content)
    return bytes(content)


def _apply(change: Write | Truncate, content: bytearray) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def none_of_it(_: Write | Truncate) -> list[Write | Truncate]:
    """Nothing that was not flushed is there."""
    return []


def all_of_it(change: Write | Truncate) -> list[Write | Truncate]:
    """All is there."""
    return [change]


def some_of_it(rng: random.Random) -> Choice:
    """Half of the changes are there, and some of them in part."""

    def choose(change: Write | Truncate) -> list[Write | Truncate]:
        if rng.random() < 0.5:
            return []
        if isinstance(change, Truncate) or rng.random() < 0.6:
            return [change]
        return [sector for sector in _sectors(change, rng.choice(SECTORS)) if rng.random() < 0.5]

    return choose


def _sectors(write: Write, size: int) -> list[Write]:
    end = write.offset + len(write.data)
    bounds = [write.offset, *range((write.offset // size + 1) * size, end, size), end]
    return [
        Write(write.name, start, write.data[start - write.offset : stop - write.offset])
        for start, stop in pairwise(bounds)
    ]


def quick_directory() -> str | None:
    """Where to lay out many small states, None for the usual place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
