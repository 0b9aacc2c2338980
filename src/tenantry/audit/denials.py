"""Floods of denials: the first of a kind in a window are records, those behind are counted.

What makes two denials alike is `about`: who was denied what, and why, in canonical JSON.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from tenantry.audit import record
from tenantry.audit.record import Kind

WINDOW_S = 60.0
# How many kinds are told apart; beyond that, denials of a new kind are all counted.
KINDS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Denial:
    """One denial that is counted; `time_us` in microseconds since the epoch."""

    about: str
    time_us: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How many denials of a kind were counted, and when the first and the last was."""

    about: str
    count: int
    first: int
    last: int

    def summary(self) -> bytes:
        """The record that takes the counter's place."""
        return record.encode(
            Kind.DENIALS_SUMMARISED,
            time_us=self.last,
            count=self.count,
            first=self.first,
            last=self.last,
            **json.loads(self.about),
        )


def about(**fields: str | None) -> str:
    """Write down what makes denials alike, as fields of a record."""
    return record.canonical({name: value for name, value in fields.items() if value is not None}).decode()


def counted(denials: Iterable[Denial]) -> list[Counted]:
    """Count denials by their kind."""
    found: dict[str, Counted] = {}
    for denial in denials:
        known = found.get(denial.about, Counted(denial.about, 0, denial.time_us, denial.time_us))
        first, last = min(known.first, denial.time_us), max(known.last, denial.time_us)
        found[denial.about] = Counted(denial.about, known.count + 1, first, last)
    return list(found.values())


class DenialWindows:
    """Says which denials are records: the first `most` of their kind in each window."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._windows: dict[str, tuple[float, int]] = {}

    def admits(self, about: str, now: float) -> bool:
        """Take notice of a denial at `now`, in seconds; tell whether it is to be a record of its own."""
        began, admitted = self._windows.get(about, (now, 0))
        if now - began >= WINDOW_S:
            began, admitted = now, 0
        if admitted >= self._most:
            return False
        if about not in self._windows and len(self._windows) >= KINDS_MAX:
            self._forget(now)
            if len(self._windows) >= KINDS_MAX:
                return False
        self._windows[about] = (began, admitted + 1)
        return True

    def _forget(self, now: float) -> None:
        self._windows = {about: window for about, window in self._windows.items() if now - window[0] < WINDOW_S}
