"""The one task that writes the audit log: records in over a bounded channel, acknowledged when durable.

While one commit is flushing, what arrives gathers in the channel and becomes the next batch; whatever else the loop
has to do comes first, and a lone caller, for whom there is nothing else to do, never waits for company. After a
failed commit nothing is acknowledged and nothing is tried again on that file handle, for what a failed flush left
can't be known: the file is opened afresh, held against what was acknowledged, and only then written to again.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

import structlog
import trio

from tenantry.audit import record
from tenantry.audit.denials import WINDOW_S, Denial, DenialWindows
from tenantry.audit.record import Kind
from tenantry.server.beside import Beside, Patience

# More rows lengthen one flush for all of its callers and gain little beyond this.
BATCH_MAX = 256
# And nobody waits longer than that for others to come: some ten requests, which then share one flush.
GATHER_S = 0.005
# Between two tries to open a log that failed.
RETRY_S = 3.0
# A record waits no longer than that for a checkpoint over it.
CHECKPOINT_S = 10.0
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


class Recorder(Protocol):
    """What everything that leaves a trace is given."""

    async def append(self, entry: bytes) -> None:
        """Return when `entry` is durable; raise `AuditUnavailable` if it is not known to be."""

    async def append_denial(self, entry: bytes, denial: Denial) -> None:
        """Do as `append`, or where there were many alike count `denial` as durably instead."""

    def check(self) -> None:
        """Raise `AuditUnavailable` where an append would have little hope: ask before doing what needs a record."""


class Log(Protocol):
    """What the writer writes to: blocking, used by one thread at a time."""

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


class _Ticket:
    """An entry on its way, and the task that waits for it."""

    __slots__ = ("due", "durable", "entry", "late", "settled", "task")

    def __init__(self, entry: bytes | Denial, due: float) -> None:
        self.entry = entry
        self.due = due
        self.durable = self.late = self.settled = False
        self.task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Return when it is settled. Nothing cancels that: no scope is needed to shield from what can't happen."""
        if not self.settled:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    def settle(self) -> None:
        """Wake whoever waits; more than once is no more than once."""
        if not self.settled:
            self.settled = True
            if self.task is not None:
                trio.lowlevel.reschedule(self.task)


class AuditWriter:
    """Turns concurrent appends into batches for a log.

    `queue_max` bounds the entries that wait; a full queue makes `append` wait, which slows callers instead of losing
    records. Nobody waits longer than `deadline_s`. In a minute the first `denials_recorded` denials of a kind are
    records of their own. With `on_the_spot` a batch is committed in the event loop's thread, as long as
    commits are quick. `clock` gives seconds since the epoch; `committed` is told the number of records and the
    seconds of each commit.
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
        self._send, self._receive = trio.open_memory_channel[_Ticket](queue_max)
        self._deadline_s = deadline_s
        self._checkpoint_s = checkpoint_s
        self._sign_at = -math.inf
        self._summarise_at = -math.inf
        self._beside = Beside()
        self._company = Patience()
        self._outstanding: dict[_Ticket, None] = {}
        self._windows = DenialWindows(most=denials_recorded)
        self._clock = clock
        self._closed = trio.Event()
        self.health = AuditHealth(State.OK, clock())
        self.failure: Exception | None = None
        """Why the log fails, until it has recovered."""
        self.news = trio.Event()
        """Set, and another put in its place, when there are new records: take it before reading, to miss none."""

    @property
    def waiting(self) -> int:
        """How many entries wait to be written."""
        return self._receive.statistics().current_buffer_used

    def check(self) -> None:
        """Raise `AuditUnavailable` while the log is slow or failing."""
        if self.health.state is not State.OK:
            raise AuditUnavailable(f"the audit log is {self.health.state.value}: {self.health.reason}")

    async def append(self, entry: bytes) -> None:
        """Return when `entry` is durable.

        Shielded: a caller that is cancelled still waits, because an entry that was handed over will be written,
        and its caller must know. Raises `AuditUnavailable` once the log is closed, while it is failing, and at the
        deadline; after that last one the entry may still become a record.
        """
        await self._put(entry)

    async def append_denial(self, entry: bytes, denial: Denial) -> None:
        """Do as `append` for the first denials of a kind in a minute; count the others, as durably."""
        alone = self._windows.admits(denial.about, denial.time_us / 1_000_000)
        await self._put(entry if alone else denial)

    async def _put(self, entry: bytes | Denial) -> None:
        ticket = _Ticket(entry, trio.current_time() + self._deadline_s)
        self._outstanding[ticket] = None
        try:
            await self._hand_over(ticket)
            await ticket.wait()
        finally:
            del self._outstanding[ticket]
        if ticket.late:
            if not ticket.durable and self.health.state is State.OK:
                self._become(State.SLOW, f"an append took longer than {self._deadline_s:g} s")
            raise AuditUnavailable("the audit log is slow")
        if not ticket.durable:
            raise AuditUnavailable("the audit log failed") from self.failure

    def close(self) -> None:
        """Take no more entries; `run` writes what is queued and returns."""
        self._send.close()
        self._closed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until `close`; shielded, so that nothing else ends it.

        Raises what `commit` raised where the log still failed at the end, after everyone who waits has been told.
        """
        with trio.CancelScope(shield=True):
            task_status.started()
            with self._beside:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_time)
                    await self._run()
                    nursery.cancel_scope.cancel()
            if self.failure is not None:
                raise self.failure

    async def _run(self) -> None:
        try:
            while (batch := await self._next()) is not None:
                await self._gather_more(batch)
                now = trio.current_time()
                await self._write(batch, sign=now >= self._sign_at, summarise=now >= self._summarise_at)
            if self.failure is None:
                await self._write([], sign=True, summarise=True)
        finally:
            self._refuse_waiting()
            self._receive.close()

    async def _keep_time(self) -> None:
        """Settle what nobody waits for any longer: one timer for all, for the oldest entry is due first."""
        while True:
            oldest = next(iter(self._outstanding), None)
            await trio.sleep_until(trio.current_time() + self._deadline_s if oldest is None else oldest.due)
            for ticket in self._outstanding:
                if ticket.due > trio.current_time():
                    break
                ticket.late = ticket.late or not ticket.settled
                ticket.settle()

    async def _hand_over(self, ticket: _Ticket) -> None:
        if self.health.state is State.FAILING:
            raise AuditUnavailable("the audit log is failing") from self.failure
        try:
            try:
                self._send.send_nowait(ticket)
            except trio.WouldBlock:
                with trio.CancelScope(shield=True, deadline=ticket.due):
                    await self._send.send(ticket)
                    return
                ticket.late = True
                ticket.settle()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise AuditUnavailable("the audit log is closed") from self.failure

    async def _next(self) -> list[_Ticket] | None:
        """Give what has gathered; nothing when it is time for a checkpoint, None when no more will come."""
        if self.failure is not None:  # only a close ends the tries to recover
            return None
        with trio.move_on_at(min(self._sign_at, self._summarise_at)):
            try:
                return self._gather([await self._receive.receive()])
            except trio.EndOfChannel:
                return None
        return []

    def _gather(self, batch: list[_Ticket]) -> list[_Ticket]:
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return batch

    async def _gather_more(self, batch: list[_Ticket]) -> None:
        """Wait a round of the loop, and one more as long as the last one brought something: one flush is for all.

        Where records come one by one there is nothing to wait for, and that is tried ever more seldom.
        """
        had = 0
        if len(batch) == 1 and not self._company.has():
            return
        until = trio.current_time() + GATHER_S
        while had < len(batch) < BATCH_MAX and trio.current_time() < until:
            had = len(batch)
            await trio.lowlevel.checkpoint()
            self._gather(batch)
        if len(batch) > 1:
            self._company.kept()
        else:
            self._company.lost()

    async def _write(self, batch: list[_Ticket], *, sign: bool, summarise: bool) -> None:
        entries = [ticket.entry for ticket in batch if isinstance(ticket.entry, bytes)]
        denials = [ticket.entry for ticket in batch if isinstance(ticket.entry, Denial)]
        commit = partial(self._audit_log.commit, entries, sign=sign, denials=denials, summarise=summarise)
        began = trio.current_time()
        try:
            await self._beside.run(commit, here=self._on_the_spot)
        except Exception as error:  # noqa: BLE001  # whatever it was, nothing of the batch may be acknowledged
            self._fail(error)
        else:
            ended = trio.current_time()
            for ticket in batch:
                ticket.durable = True
                ticket.late = ended > ticket.due  # the timer stands still with the loop
            self._committed(len(batch), ended - began)
            self.news.set()
            self.news = trio.Event()
            self._succeed(recorded=bool(entries) or summarise, counted=bool(denials), signed=sign, summarised=summarise)
        finally:
            for ticket in batch:
                ticket.settle()
        if self.failure is not None:
            await self._recover(self.failure)

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
                await trio.to_thread.run_sync(self._begin_again, str(error))
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
        # Whoever is queued or blocked in `send` wakes without an acknowledgement.
        while True:
            try:
                self._receive.receive_nowait().settle()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
