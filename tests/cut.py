"""Cuts a piece of work at its n-th wait, for every n: what must hold at each cancellation can then be shown for all."""

from collections.abc import Awaitable, Callable

import trio
from trio.abc import Instrument
from trio.lowlevel import Task


class CutAtWait(Instrument):
    """Calls `cut` once, when the tasks of a nursery and of those below it have waited `number` times."""

    def __init__(self, nursery: trio.Nursery, *, number: int, cut: Callable[[], None]) -> None:
        self._nursery = nursery
        self._left = number
        self._cut = cut

    @property
    def happened(self) -> bool:
        """Whether it came to the cut."""
        return self._left <= 0

    def after_task_step(self, task: Task) -> None:
        """Count; the task now waits, so a cancellation is delivered at this very wait unless it is shielded."""
        if self._left > 0 and task.coro.cr_frame is not None and self._is_below(task):
            self._left -= 1
            if self._left == 0:
                self._cut()

    def _is_below(self, task: Task) -> bool:
        nursery = task.parent_nursery
        while nursery is not None and nursery is not self._nursery:
            nursery = nursery.parent_task.parent_nursery
        return nursery is not None


async def cut_at(
    number: int, work: Callable[[], Awaitable[object]], *, leave: Callable[[], None] | None = None
) -> bool:
    """Do `work`, cancelled at its n-th wait or, with `leave`, told then by calling that; give whether it came to it."""
    async with trio.open_nursery() as nursery:
        cut = nursery.cancel_scope.cancel if leave is None else leave
        instrument = CutAtWait(nursery, number=number, cut=cut)
        trio.lowlevel.add_instrument(instrument)
        nursery.start_soon(work)
    trio.lowlevel.remove_instrument(instrument)
    return instrument.happened
