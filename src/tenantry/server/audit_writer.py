"""The one task that writes the audit log: records are handed in, and acknowledged when durable.

What is handed in while one commit is flushing becomes the next batch, and those that call without a break share one.
Who is alone or calls seldom is written down on the spot, in the very step, where the disk is quick. After a failed
commit nothing is acknowledged and nothing is tried again on that file handle, for what a failed flush left can't be
known: the file is opened afresh, held against what was acknowledged, and only then written to again.

Handing in and waiting are two steps, so that whoever waits can first let go of all that made the record: what a
hundred callers hold while they wait is fetched back into the processor's cache when they go on.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import chain
from typing import Protocol

import structlog
import trio

from tenantry.audit import record
from tenantry.audit.denials import WINDOW_S, Denial, DenialWindows
from tenantry.audit.record import Kind
from tenantry.server.beside import Beside
from tenantry.server.company import Company

# More rows lengthen one flush for all of its callers and gain little beyond this.
BATCH_MAX = 256
# Between two tries to open a log that failed.
RETRY_S = 3.0
# A record waits no longer than that for a checkpoint over it.
CHECKPOINT_S = 10.0
# What as many commits left in the log's write-ahead log is then moved into its file, beside the commits.
BACKFILL_EVERY = 32
DEADLINE_S = 10.0
DENIALS_RECORDED = 100

_log = structlog.get_logger()


class AuditUnavailable(Exception):
    """The record is not known to be durable: whoever asked must not be answered with success."""


class State(Enum):
    """How it goes with the log."""

    OK = "ok"
    SLOW = "slow"
    """A flush takes longer than its callers wait."""
    FAILING = "failing"
    """A commit failed, and the log was not opened again yet."""


@dataclass(frozen=True, slots=True)
class AuditHealth:
    """What to tell an operator."""

    state: State
    since: float
    """Seconds since the epoch."""
    reason: str = ""


class Ticket:
    """An entry that was handed in, and the task that waits for it; one at the most."""

    __slots__ = ("_tell", "due", "entry", "is_durable", "is_late", "is_settled", "task", "why")

    def __init__(self, entry: bytes | Denial, due: float) -> None:
        self.entry = entry
        self.due = due
        """When nobody waits for it any longer: trio's clock, seconds."""
        self.is_durable = self.is_late = self.is_settled = False
        self.why: Exception | None = None
        self.task: trio.lowlevel.Task | None = None
        self._tell: Callable[[], None] | None = None

    def when_settled(self, tell: Callable[[], None]) -> None:
        """Call `tell`, one for a ticket, once the entry is durable or known not to be in time; at once where it is."""
        if self.is_settled:
            tell()
        else:
            self._tell = tell

    async def durable(self) -> None:
        """Return when the entry is durable.

        Nothing cancels that: an entry that was handed in will be written, and who answers for it must know. Raises
        `AuditUnavailable` where the log failed, and at the deadline; after that the entry may still become a record.
        """
        if not self.is_settled:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        if self.is_late:
            raise AuditUnavailable("the audit log is slow")
        if not self.is_durable:
            raise AuditUnavailable("the audit log failed") from self.why

    def settle(self, why: Exception | None = None) -> None:
        """Wake whoever waits; more than once is no more than once. `why` says what keeps it from being durable."""
        if not self.is_settled:
            self.is_settled = True
            self.why = why
            if self.task is not None:
                trio.lowlevel.reschedule(self.task)
            if self._tell is not None:
                self._tell()


class Recorder(Protocol):
    """What everything that leaves a trace is given."""

    def hand_in(self, entry: bytes, *, tenant: str = "") -> Ticket:
        """Take `entry`: nothing may be answered before its ticket says that it is durable."""

    def hand_in_denial(self, entry: bytes, denial: Denial, *, tenant: str = "") -> Ticket:
        """Do as `hand_in`, or where there were many alike count `denial` as durably instead."""

    async def append(self, entry: bytes) -> None:
        """Return when `entry` is durable; raise `AuditUnavailable` if it is not known to be."""

    async def append_denial(self, entry: bytes, denial: Denial) -> None:
        """Do as `append`, or where there were many alike count `denial` as durably instead."""

    def check(self) -> None:
        """Raise `AuditUnavailable` where a record would have little hope: ask before doing what needs one."""


class Log(Protocol):
    """What the writer writes to: blocking, and but for `backfill` used by one thread at a time."""

    def commit(
        self,
        entries: Sequence[bytes],
        *,
        sign: bool = False,
        denials: Iterable[Denial] = (),
        summarise: bool = False,
    ) -> None:
        """Write the entries in their order, and with `sign` a checkpoint; return once they are durable.

        `denials` are counted, and with `summarise` records are made of what was counted.
        """

    def reopen(self) -> None:
        """After a failed commit: open the file afresh; raise where it lacks what was acknowledged."""

    def backfill(self) -> None:
        """Move what was committed to where it stays, while another thread may commit; nothing depends on it."""


class AuditWriter:
    """Turns concurrent appends into batches for a log.

    `queue_max` bounds the entries that wait: `check` refuses what would need one more. Nobody waits longer than
    `deadline_s`. In a minute the first `denials_recorded` denials of a kind are records of their own. With
    `on_the_spot` a batch is committed in the event loop's thread, as long as commits are quick. `clock` gives seconds
    since the epoch; `committed` is told the number of records and the seconds of each commit.
    """

    def __init__(
        self,
        log: Log,
        *,
        queue_max: int,
        deadline_s: float = DEADLINE_S,
        checkpoint_s: float = CHECKPOINT_S,
        denials_recorded: int = DENIALS_RECORDED,
        on_the_spot: bool = False,
        clock: Callable[[], float] = time.time,
        committed: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._audit_log = log
        self._committed = committed
        self._on_the_spot = on_the_spot
        self._queue: deque[Ticket] = deque()
        self._queue_max = queue_max
        self._batch: list[Ticket] = []
        self._last = 0
        self._is_writing = self._is_urgent = False
        self._come = trio.Event()
        self._commits = 0
        self._has_left_much = trio.Event()
        self._opens_file = trio.CapacityLimiter(1)
        self._deadline_s = deadline_s
        self._checkpoint_s = checkpoint_s
        self._sign_at = -math.inf
        self._summarise_at = -math.inf
        self._beside = Beside()
        self._company = Company()
        self._windows = DenialWindows(most=denials_recorded)
        self._clock = clock
        self._closed = trio.Event()
        self.health = AuditHealth(State.OK, clock())
        self.failure: Exception | None = None
        """Why the log fails, until it has recovered."""
        self.under_way: Callable[[], float] = lambda: math.inf
        """Gives how many requests are under way: where all of them wait for one commit, nobody else has to."""
        self.news = trio.Event()
        """Set, and another put in its place, when there are new records: take it before reading, to miss none."""

    @property
    def waiting(self) -> int:
        """How many entries wait to be written."""
        return len(self._queue)

    def check(self) -> None:
        """Raise `AuditUnavailable` while the log is slow or failing, or too much waits for it."""
        if self.health.state is not State.OK:
            raise AuditUnavailable(f"the audit log is {self.health.state.value}: {self.health.reason}")
        if len(self._queue) >= self._queue_max:
            raise AuditUnavailable("too many records wait for the audit log")

    def hand_in(self, entry: bytes, *, tenant: str = "") -> Ticket:
        """Take an entry, which becomes a record whatever happens to whoever handed it in.

        `tenant` is on whose behalf: one that calls seldom waits for nobody else's, and the record may be durable when
        this returns. Raises `AuditUnavailable` once the log is closed and while it is failing.
        """
        return self._take(entry, tenant)

    def hand_in_denial(self, entry: bytes, denial: Denial, *, tenant: str = "") -> Ticket:
        """Do as `hand_in` for the first denials of a kind in a minute; count the others, as durably."""
        alone = self._windows.admits(denial.about, denial.time_us / 1_000_000)
        return self._take(entry if alone else denial, tenant)

    async def append(self, entry: bytes) -> None:
        """Return when `entry` is durable; raises as `hand_in` and `Ticket.durable` do."""
        await self.hand_in(entry).durable()

    async def append_denial(self, entry: bytes, denial: Denial) -> None:
        """Do as `append`, with `hand_in_denial`."""
        await self.hand_in_denial(entry, denial).durable()

    def _take(self, entry: bytes | Denial, tenant: str) -> Ticket:
        if self.health.state is State.FAILING:
            raise AuditUnavailable("the audit log is failing") from self.failure
        if self._closed.is_set():
            raise AuditUnavailable("the audit log is closed") from self.failure
        now = trio.current_time()
        is_first = not self._queue and not self._batch and not self._is_writing
        self._is_urgent |= self._company.is_urgent(tenant, now, first=is_first)
        ticket = Ticket(entry, now + self._deadline_s)
        self._queue.append(ticket)
        if self._is_urgent and self._can_write_here():
            self._write_here()
        else:
            self._come.set()
        return ticket

    def close(self) -> None:
        """Take no more entries; `run` writes what is queued and returns."""
        self._closed.set()
        self._come.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until `close`; shielded, so that nothing else ends it.

        Raises what `commit` raised where the log still failed at the end, after everyone who waits has been told.
        """
        with trio.CancelScope(shield=True):
            task_status.started()
            with self._beside:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_time)
                    nursery.start_soon(self._backfill)
                    await self._run()
                    nursery.cancel_scope.cancel()
            if self.failure is not None:
                raise self.failure

    async def _run(self) -> None:
        try:
            while await self._has_work():
                self._gather()
                await self._gather_more()
                if self.failure is None:
                    now = trio.current_time()
                    await self._write(sign=now >= self._sign_at, summarise=now >= self._summarise_at)
                if self.failure is not None:
                    await self._recover(self.failure)
            if self.failure is None:
                await self._write(sign=True, summarise=True)
        finally:
            self._refuse_waiting()

    @property
    def _due(self) -> float:
        """When a checkpoint or a summary has to be written, if nothing else comes."""
        return min(self._sign_at, self._summarise_at)

    async def _has_work(self) -> bool:
        """Return when there is something to write, or it is time for a checkpoint; False when no more will come."""
        if self.failure is not None:  # only a close ends the tries to recover
            return False
        if not self._queue and not self._closed.is_set():
            self._come = trio.Event()
            with trio.move_on_at(self._due):
                await self._come.wait()
            return bool(self._queue) or not self._closed.is_set()
        return bool(self._queue)

    async def _keep_time(self) -> None:
        """Settle what nobody waits for any longer: one timer for all, for the oldest entry is due first."""
        while True:
            oldest = next(self._unsettled(), None)
            await trio.sleep_until(trio.current_time() + self._deadline_s if oldest is None else oldest.due)
            for ticket in self._unsettled():
                if ticket.due > trio.current_time():
                    break
                ticket.is_late = True
                ticket.settle()
                if self.health.state is State.OK:
                    self._become(State.SLOW, f"a record took longer than {self._deadline_s:g} s")

    async def _backfill(self) -> None:
        """Tidy up behind the commits: one that did it itself would hold up everybody for tens of flushes."""
        while True:
            await self._has_left_much.wait()
            self._has_left_much = trio.Event()
            try:
                await trio.to_thread.run_sync(self._audit_log.backfill, limiter=self._opens_file)
            except Exception as error:  # noqa: BLE001  # all of it is durable where it is; the next try takes it along
                _log.warning("the audit log's file can't take what its write-ahead log holds", error=repr(error))

    def _unsettled(self) -> Iterator[Ticket]:
        return (ticket for ticket in chain(self._batch, self._queue) if not ticket.is_settled)

    def _gather(self) -> None:
        while self._queue and len(self._batch) < BATCH_MAX:
            self._batch.append(self._queue.popleft())

    async def _gather_more(self) -> None:
        """Wait for others while they come, where any are expected."""
        batch = self._batch
        if not batch or self._is_urgent:
            return
        wait = self._company.wait(trio.current_time())
        while not self._is_urgent and len(batch) < BATCH_MAX and not wait.is_over(len(batch), trio.current_time()):
            await trio.lowlevel.checkpoint()
            if self._batch is not batch:  # somebody was in a hurry, and all of it is written
                return
            self._gather()
        self._company.learn(len(batch))

    def _can_write_here(self) -> bool:
        return self._on_the_spot and not self._is_writing and self._beside.is_sure()

    def _write_here(self) -> None:
        """Write all that waits in this very step: two rounds of the loop earlier than the writer's task would."""
        due = self._due
        self._gather()
        with self._written(sign=False, summarise=False) as commit:
            self._beside.run_here(commit)
        if self.failure is not None or self._due != due:
            self._come.set()  # for the writer's task waits until then

    async def _write(self, *, sign: bool, summarise: bool) -> None:
        if self._batch or sign or summarise:
            # Those whose records come together have much else to do, unless all of them are here.
            busy = (self._last > 1 or len(self._batch) > 1) and self.under_way() > len(self._batch)
            with self._written(sign=sign, summarise=summarise) as commit:
                await self._beside.run(commit, here=self._on_the_spot, busy=busy)

    @contextmanager
    def _written(self, *, sign: bool, summarise: bool) -> Iterator[Callable[[], None]]:
        """Give what commits the batch, and when the block has done that tell everyone how it went."""
        batch = self._batch
        entries = [ticket.entry for ticket in batch if isinstance(ticket.entry, bytes)]
        denials = [ticket.entry for ticket in batch if isinstance(ticket.entry, Denial)]
        commit = partial(self._audit_log.commit, entries, sign=sign, denials=denials, summarise=summarise)
        self._is_writing, self._is_urgent = True, False
        began = trio.current_time()
        try:
            yield commit
        except Exception as error:  # noqa: BLE001  # whatever it was, nothing of the batch may be acknowledged
            self._fail(error)
        else:
            ended = trio.current_time()
            for ticket in batch:
                ticket.is_durable = True
                ticket.is_late = ended > ticket.due  # the timer stands still with the loop
            self._committed(len(batch), ended - began)
            self._commits += 1
            if self._commits % BACKFILL_EVERY == 0:
                self._has_left_much.set()
            self.news.set()
            self.news = trio.Event()
            self._succeed(recorded=bool(entries) or summarise, counted=bool(denials), signed=sign, summarised=summarise)
        finally:
            self._is_writing = False
            self._last, self._batch = len(batch), []
            for ticket in batch:
                ticket.settle(self.failure)

    def _succeed(self, *, recorded: bool, counted: bool, signed: bool, summarised: bool) -> None:
        now = trio.current_time()
        if signed:
            self._sign_at = math.inf
        elif recorded:
            self._sign_at = min(self._sign_at, now + self._checkpoint_s)
        if summarised:
            self._summarise_at = math.inf
        if counted:
            self._summarise_at = min(self._summarise_at, now + WINDOW_S)
        if self.health.state is State.SLOW:
            self._become(State.OK)

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self._become(State.FAILING, str(error))
        self._refuse_waiting()

    async def _recover(self, error: Exception) -> None:
        while not self._closed.is_set():
            with trio.move_on_after(RETRY_S):
                await self._closed.wait()
                return
            try:
                await trio.to_thread.run_sync(self._begin_again, str(error), limiter=self._opens_file)
            except Exception as again:  # noqa: BLE001  # the medium is not back; the next try opens it afresh
                _log.debug("the audit log can't be opened", error=repr(again))
            else:
                self.failure = None
                self._become(State.OK)
                return

    def _begin_again(self, reason: str) -> None:
        self._audit_log.reopen()
        now_us = int(self._clock() * 1_000_000)
        self._audit_log.commit([record.encode(Kind.LOG_RECOVERED, time_us=now_us, reason=reason)], sign=True)

    def _become(self, state: State, reason: str = "") -> None:
        self.health = AuditHealth(state, self._clock(), reason)
        (_log.info if state is State.OK else _log.error)(f"the audit log is {state.value}", reason=reason or None)

    def _refuse_waiting(self) -> None:
        while self._queue:
            self._queue.popleft().settle(self.failure)
