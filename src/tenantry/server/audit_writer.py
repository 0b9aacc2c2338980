"""The one task that writes the audit log: records in over a bounded channel, acknowledged when durable.

While one commit is flushing, what arrives gathers in the channel and becomes the next batch; there is no timer,
so a lone caller never waits for company. After a failed commit nothing more is written or acknowledged: what a
failed flush left on the disk can't be known.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

# More rows lengthen one flush for all of its callers and gain little beyond this.
BATCH_MAX = 256


class AuditUnavailable(Exception):
    """The record is not durable and won't be: whoever asked must not be answered with success."""


class Recorder(Protocol):
    """What everything that leaves a trace is given."""

    async def append(self, entry: bytes) -> None:
        """Return when `entry` is durable; raise `AuditUnavailable` if it is not."""


class _Ticket:
    __slots__ = ("done", "durable", "entry")

    def __init__(self, entry: bytes) -> None:
        self.entry = entry
        self.done = trio.Event()
        self.durable = False


class AuditWriter:
    """Turns concurrent appends into batches for `commit`.

    `commit` writes the entries in their order and returns once they are durable; it runs in a thread. `queue_max`
    bounds the entries that wait; a full queue makes `append` wait, which slows callers instead of losing records.
    """

    def __init__(self, commit: Callable[[Sequence[bytes]], None], *, queue_max: int) -> None:
        self._commit = commit
        self._send, self._receive = trio.open_memory_channel[_Ticket](queue_max)
        self.failure: BaseException | None = None

    async def append(self, entry: bytes) -> None:
        """Return when `entry` is durable.

        Shielded: a caller that is cancelled still waits, because an entry that was handed over will be written,
        and its caller must know. Raises `AuditUnavailable` once the log is closed or has failed.
        """
        ticket = _Ticket(entry)
        with trio.CancelScope(shield=True):
            try:
                await self._send.send(ticket)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                raise AuditUnavailable("the audit log is closed") from self.failure
            await ticket.done.wait()
        if not ticket.durable:
            raise AuditUnavailable("the audit log failed") from self.failure

    def close(self) -> None:
        """Take no more entries; `run` writes what is queued and returns."""
        self._send.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until `close`; shielded, so that only `close` or a failure ends it.

        Raises what `commit` raised, after everyone who waits has been told.
        """
        with trio.CancelScope(shield=True):
            task_status.started()
            try:
                async for first in self._receive:
                    await self._write(self._gather(first))
            except BaseException as error:
                self.failure = error
                raise
            finally:
                self._refuse_waiting()

    def _gather(self, first: _Ticket) -> list[_Ticket]:
        batch = [first]
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        return batch

    async def _write(self, batch: list[_Ticket]) -> None:
        try:
            await trio.to_thread.run_sync(self._commit, [ticket.entry for ticket in batch])
            for ticket in batch:
                ticket.durable = True
        finally:
            for ticket in batch:
                ticket.done.set()

    def _refuse_waiting(self) -> None:
        # Whoever is queued or blocked in `send` wakes without an acknowledgement.
        while True:
            try:
                self._receive.receive_nowait().done.set()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        self._receive.close()
