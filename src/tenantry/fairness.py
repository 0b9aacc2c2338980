"""Who goes next when several tenants want the same thing, and how fast one of them may go.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): each tenant's next item carries a virtual start time, the
smallest goes first, and a tenant's clock moves on by one over its weight. Over any time in which several tenants
have something waiting, each gets its share, however much the others bring.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Line(Generic[T]):
    start: float
    weight: float
    items: deque[T] = field(default_factory=deque)


class FairQueue(Generic[T]):
    """Items in a line a tenant; `pop` takes them in fair turns, first come first served within a tenant."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line[T]] = {}
        self._now = 0.0
        """Virtual time: the start of what was taken last."""
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Give each tenant with the number of its items that wait."""
        return ((tenant, len(line.items)) for tenant, line in self._lines.items() if line.items)

    def waiting(self, tenant: str) -> int:
        """How many items of the tenant wait."""
        line = self._lines.get(tenant)
        return 0 if line is None else len(line.items)

    def push(self, tenant: str, item: T, *, weight: float = 1.0) -> None:
        """Put an item at the end of the tenant's line; a weight of 2 is twice the share of a weight of 1."""
        self._line(tenant, weight).items.append(item)
        self._length += 1

    def passes(self, tenant: str, *, weight: float = 1.0) -> bool:
        """Take what has not come to wait yet, where `pop` would take it next; False where others come first."""
        line = self._line(tenant, weight)
        if line.items or line.start > self._now:
            return False
        line.start += 1 / line.weight
        return True

    def _line(self, tenant: str, weight: float) -> _Line[T]:
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = _Line(self._now, weight)
        line.weight = weight
        if not line.items:  # who had nothing to do saves no turns up
            line.start = max(line.start, self._now)
        return line

    def pop(self, may: Callable[[str], bool] = lambda _: True) -> T | None:
        """Take the next item of the tenants that `may` admits; None where there is none."""
        tenant = self._next(may)
        return None if tenant is None else self._pop(tenant)

    def pop_round(self, most: int) -> list[T]:
        """Take what comes next, up to the second item of a tenant and `most` in all."""
        served: set[str] = set()
        taken: list[T] = []
        while len(taken) < most and (tenant := self._next()) is not None and tenant not in served:
            served.add(tenant)
            taken.append(self._pop(tenant))
        return taken

    def _next(self, may: Callable[[str], bool] = lambda _: True) -> str | None:
        ready = [tenant for tenant, line in self._lines.items() if line.items and may(tenant)]
        return min(ready, key=lambda tenant: self._lines[tenant].start, default=None)

    def _pop(self, tenant: str) -> T:
        line = self._lines[tenant]
        self._now = max(self._now, line.start)
        line.start += 1 / line.weight
        item = line.items.popleft()
        self._length -= 1
        if not self._length:
            self._lines.clear()
        return item

    def remove(self, tenant: str, item: T) -> bool:
        """Take out an item that no longer waits for its turn; False where it had it already."""
        line = self._lines.get(tenant)
        if line is None or item not in line.items:
            return False
        line.items.remove(item)
        self._length -= 1
        return True


@dataclass(slots=True)
class Bucket:
    """At most `rate` a second over time, and `burst` at once."""

    rate: float
    burst: float
    level: float = 0.0
    """How much of the burst is used up."""
    at: float = 0.0

    def take(self, now: float) -> float:
        """Take one where that is possible and give 0, else the seconds until it is; `now` in seconds."""
        self.level = max(0.0, self.level - (now - self.at) * self.rate)
        self.at = now
        if self.level + 1 > self.burst:
            return (self.level + 1 - self.burst) / self.rate
        self.level += 1
        return 0.0
