from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tenantry.server.audit_writer import BATCH_MAX, AuditUnavailable, AuditWriter


class Disk:
    """A commit function with a gate: it stands still inside the flush until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.entered = trio.Event()
        self.gate = trio.Event()
        self.failure: Exception | None = None

    def commit(self, entries: Sequence[bytes]) -> None:
        trio.from_thread.run_sync(self.entered.set)
        trio.from_thread.run(self.gate.wait)
        if self.failure is not None:
            raise self.failure
        self.batches.append(list(entries))


async def append_into(writer: AuditWriter, entry: bytes, outcomes: dict[bytes, str]) -> None:
    try:
        await writer.append(entry)
        outcomes[entry] = "durable"
    except AuditUnavailable:
        outcomes[entry] = "refused"


async def test_what_gathers_during_a_flush_is_one_batch_in_order():
    disk = Disk()
    writer = AuditWriter(disk.commit, queue_max=100)
    outcomes: dict[bytes, str] = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            async with trio.open_nursery() as callers:
                callers.start_soon(append_into, writer, b"first", outcomes)
                await disk.entered.wait()
                for number in range(10):
                    callers.start_soon(append_into, writer, b"%d" % number, outcomes)
                    await trio.testing.wait_all_tasks_blocked()
                assert outcomes == {}
                disk.gate.set()
            writer.close()

    assert disk.batches == [[b"first"], [b"%d" % number for number in range(10)]]
    assert set(outcomes.values()) == {"durable"}


async def test_a_batch_is_bounded_and_nothing_is_lost_at_a_close():
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk.commit, queue_max=2 * BATCH_MAX)
    outcomes: dict[bytes, str] = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as callers:
            for number in range(BATCH_MAX + 5):
                callers.start_soon(append_into, writer, b"%d" % number, outcomes)
            await trio.testing.wait_all_tasks_blocked()
            writer.close()
            await writer.run()

    assert [len(batch) for batch in disk.batches] == [BATCH_MAX, 5]
    assert len(outcomes) == BATCH_MAX + 5
    assert set(outcomes.values()) == {"durable"}


async def test_a_full_queue_slows_callers_down():
    disk = Disk()
    writer = AuditWriter(disk.commit, queue_max=2)
    outcomes: dict[bytes, str] = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            async with trio.open_nursery() as callers:
                for number in range(6):
                    callers.start_soon(append_into, writer, b"%d" % number, outcomes)
                await disk.entered.wait()
                await trio.testing.wait_all_tasks_blocked()
                assert outcomes == {}
                disk.gate.set()
            writer.close()

    assert sum(len(batch) for batch in disk.batches) == 6


async def test_after_a_failed_commit_everyone_who_waits_is_refused_and_nothing_more_is_written():
    disk = Disk()
    disk.failure = OSError("the disk is gone")
    writer = AuditWriter(disk.commit, queue_max=2)
    outcomes: dict[bytes, str] = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as callers:
            for number in range(5):  # one in the commit, two queued, two waiting to be queued
                callers.start_soon(append_into, writer, b"%d" % number, outcomes)
                await trio.testing.wait_all_tasks_blocked()
            disk.gate.set()
            with pytest.raises(OSError, match="gone"):
                await writer.run()
        disk.failure = None
        with pytest.raises(AuditUnavailable):
            await writer.append(b"later")

    assert disk.batches == []
    assert outcomes == {b"%d" % number: "refused" for number in range(5)}


async def test_a_cancelled_caller_still_waits_for_its_entry():
    disk = Disk()
    writer = AuditWriter(disk.commit, queue_max=10)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            async with trio.open_nursery() as callers:
                callers.start_soon(writer.append, b"one")
                await disk.entered.wait()
                callers.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                assert callers.child_tasks
                disk.gate.set()
            writer.close()

    assert disk.batches == [[b"one"]]


async def test_a_writer_whose_surroundings_are_cancelled_writes_on_until_it_is_closed():
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk.commit, queue_max=10)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            nursery.cancel_scope.cancel()
            await writer.append(b"one")
            writer.close()

    assert disk.batches == [[b"one"]]


async def test_a_closed_writer_refuses():
    writer = AuditWriter(Disk().commit, queue_max=1)
    writer.close()
    with pytest.raises(AuditUnavailable):
        await writer.append(b"one")
