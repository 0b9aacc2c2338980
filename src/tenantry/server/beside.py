"""A thread beside the event loop, for short blocking work that the loop had better wait for.

A commit takes a fraction of a millisecond on most disks. Handing it to a thread and going on costs more than that: the
thread and the loop fight for the interpreter, and the result comes back rounds later. So the loop stands still for a
moment; where the work is not done by then, it goes on and is told. A disk that stalls holds up no one who needs no
record. Where the loop has much else to do it stands idle for less: the price of handing over and no more.

Waking the thread and being woken takes a seventh of what a lone caller waits, and costs the caches of both. Work may
therefore be done on the spot, after much work in a row that was quick: the first stall of a disk then holds up
everybody, and the next ones nobody.
"""

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, NoReturn, Self, TypeVar

import trio

T = TypeVar("T")

# What may be lost by standing idle: as long as a few requests take, where there is little else to do.
PATIENCE_S = 0.002
# And what handing over costs, where there is much.
BUSY_PATIENCE_S = 0.0005
# Of so many pieces of work in a row that each take longer than that, one is waited for.
PAUSE_MAX = 64
# After so many in a row that did not, the next one may be done on the spot.
SURE_AFTER = 16


class Patience:
    """Whether to wait for the next piece of work: after one that took too long not for one, then two, then four.

    Work that nobody waits for seems long, because its thread fights with the loop; so how long it took is not asked.
    """

    def __init__(self, most_s: float = PATIENCE_S) -> None:
        self.most_s = most_s
        """What is too long."""
        self._pause = self._left = 0
        self._kept = 0

    @property
    def is_sure(self) -> bool:
        """Whether there was no stall for long enough to risk one."""
        return self._kept >= SURE_AFTER

    def has(self) -> bool:
        """Tell, once for each piece of work."""
        if self._left:
            self._left -= 1
            return False
        return True

    def kept(self) -> None:
        """It was worth the wait."""
        self._pause = 0
        self._kept += 1

    def lost(self) -> None:
        """It took too long."""
        self._kept = 0
        self._pause = min(2 * self._pause or 1, PAUSE_MAX)
        self._left = self._pause


class Beside:
    """Runs one piece of work at a time in its own thread, from entering to leaving."""

    def __init__(self, *, patience_s: float = PATIENCE_S, busy_patience_s: float = BUSY_PATIENCE_S) -> None:
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._alone = Patience(patience_s)
        self._busy = Patience(busy_patience_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.put(None)

    async def run(self, work: Callable[[], T], *, here: bool = False, busy: bool = False) -> T:
        """Give what `work` gives; raises what it raises. It is never left behind: a cancellation waits for its end.

        With `here` it may be done in the event loop's own thread. `busy` says that the loop has much else to do.
        """
        patient = (self._busy if busy else self._alone).has()
        if here and patient and self.is_sure(busy=busy):
            return self.run_here(work)
        job = _Job(work)
        if not patient:
            self._jobs.put(job)  # type: ignore[arg-type]
            await job.wait()
        elif self._ends_soon(job):
            self._learn(job.idle_s)
        else:
            self._learn(math.inf)
            await job.wait()
        return job.outcome()

    def _ends_soon(self, job: "_Job[T]") -> bool:
        """Stand still until it has ended, or waited for too long for anything but the processor."""
        began, busy = time.monotonic(), self._processor_s()
        self._jobs.put(job)  # type: ignore[arg-type]
        left = self._alone.most_s
        while left > 0:
            if job.ended.acquire(timeout=left):
                return True
            left = self._alone.most_s - (time.monotonic() - began - (self._processor_s() - busy))
        return False

    def _processor_s(self) -> float:
        """For how long the thread has had a processor; always 0 where that can't be known."""
        if self._thread.ident is None or not hasattr(time, "pthread_getcpuclockid"):
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def is_sure(self, *, busy: bool = False) -> bool:
        """Tell whether work of late was so quick that it is worth doing on the spot."""
        return (self._busy if busy else self._alone).is_sure

    def run_here(self, work: Callable[[], T]) -> T:
        """Do as `run`, in this thread and without a checkpoint."""
        job = _Job(work)
        job.run()
        self._learn(job.idle_s)
        return job.outcome()

    def _learn(self, idle_s: float) -> None:
        for patience in (self._alone, self._busy):
            if idle_s < patience.most_s:
                patience.kept()
            else:
                patience.lost()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


class _Job(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._token = trio.lowlevel.current_trio_token()
        self._told = trio.Event()
        self._tell = False
        self.idle_s = 0.0
        """For how long the work waited for anything but the processor."""
        self.ended = threading.Lock()
        self.ended.acquire()
        self.outcome: Callable[[], T]

    def run(self) -> None:
        began, busy = time.monotonic(), time.thread_time()
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is wanted
            self.outcome = _raising(error)
        else:
            self.outcome = lambda: result
        self.idle_s = time.monotonic() - began - (time.thread_time() - busy)
        self.ended.release()
        if self._tell:
            self._token.run_sync_soon(self._told.set)

    async def wait(self) -> None:
        self._tell = True
        if self.ended.acquire(blocking=False):  # ended before it could see that it is to tell
            return
        with trio.CancelScope(shield=True):
            await self._told.wait()


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    def outcome() -> NoReturn:
        raise error

    return outcome
