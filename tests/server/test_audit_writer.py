import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tenantry.audit import record
from tenantry.audit.denials import Denial
from tenantry.server import audit_writer, company
from tenantry.server.audit_writer import (
    BACKFILL_EVERY,
    BATCH_MAX,
    AuditHealth,
    AuditUnavailable,
    AuditWriter,
    State,
    Ticket,
)
from tenantry.server.beside import SURE_AFTER, Beside
from tenantry.server.company import HURRY_S, SELDOM_S


class Disk:
    """A log with a gate: a commit stands still inside the flush until it is let go."""

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.batches: list[list[bytes]] = []
        self.signed: list[int] = []
        """How many records each checkpoint was over."""
        self.denials: list[Denial] = []
        self.summarised: list[int] = []
        """How many denials were counted at each summary."""
        self.entered = trio.Event()
        self.gate = trio.Event()
        self.failure: Exception | None = None
        self.broken = False
        self.opened = 0

    def commit(
        self,
        entries: Sequence[bytes],
        *,
        sign: bool = False,
        denials: Iterable[Denial] = (),
        summarise: bool = False,
    ) -> None:
        self.denials += denials
        if summarise:
            self.summarised.append(len(self.denials))
        if entries:
            trio.from_thread.run_sync(self.entered.set, trio_token=self.token)
            trio.from_thread.run(self.gate.wait, trio_token=self.token)
        if self.broken:
            raise AssertionError("a log that failed was written to before it was opened again")
        if self.failure is not None:
            self.broken = True
            raise self.failure
        if entries:
            self.batches.append(list(entries))
        if sign:
            self.signed.append(self.records)

    @property
    def records(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def reopen(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.broken = False
        self.opened += 1

    def backfill(self) -> None:
        raise AssertionError("too few commits for that")


async def run_into(
    writer: AuditWriter, raised: list[Exception], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    try:
        await writer.run(task_status=task_status)
    except OSError as error:
        raised.append(error)


async def append_into(writer: AuditWriter, entry: bytes, outcomes: dict[bytes, str]) -> None:
    try:
        await writer.append(entry)
        outcomes[entry] = "durable"
    except AuditUnavailable:
        outcomes[entry] = "refused"


async def test_what_gathers_during_a_flush_is_one_batch_in_order():
    disk = Disk()
    writer = AuditWriter(disk, queue_max=100)
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


async def test_where_several_call_those_of_the_next_round_are_waited_for(monkeypatch):
    monkeypatch.setattr(company, "SELDOM_S", 60.0)
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=100)

    async def append_a_round_later() -> None:
        await trio.lowlevel.checkpoint()
        await writer.append(b"later")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await writer.append(b"before")
            for _ in range(20):  # within a round the order is anyone's
                await trio.testing.wait_all_tasks_blocked()
                async with trio.open_nursery() as callers:
                    callers.start_soon(writer.append, b"first")
                    callers.start_soon(writer.append, b"second")
                    callers.start_soon(append_a_round_later)
            writer.close()
    assert [sorted(batch) for batch in disk.batches[1:]] == [[b"first", b"later", b"second"]] * 20


class Instant:
    """A log that takes no time, and says what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.signed = 0
        self.failure: Exception | None = None
        self.broken = self.tried_again = False

    def commit(self, entries: Sequence[bytes], *, sign: bool = False, **_: object) -> None:
        if self.failure is not None:
            failure, self.failure, self.broken = self.failure, None, True
            raise failure
        self.tried_again |= self.broken
        if entries:
            self.batches.append(list(entries))
        self.signed += sign

    def reopen(self) -> None:
        self.broken = False

    def backfill(self) -> None:
        pass


@asynccontextmanager
async def writing(
    log: Instant, monkeypatch: pytest.MonkeyPatch, *, checkpoint_s: float = 60.0
) -> AsyncIterator[AuditWriter]:
    """Run a writer that is sure of its disk, and thinks that others may come; nothing came for long."""
    monkeypatch.setattr(audit_writer, "Beside", partial(Beside, patience_s=5.0, busy_patience_s=5.0))
    writer = AuditWriter(log, queue_max=10_000, on_the_spot=True, checkpoint_s=checkpoint_s)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            while not writer._beside.is_sure() or not writer._company._patience.has():
                await writer.append(b"warm")
            await trio.sleep(max(SELDOM_S, HURRY_S))
            log.batches.clear()
            yield writer
            writer.close()


async def test_a_tenant_that_calls_seldom_waits_for_nobody_and_takes_along_who_waits(monkeypatch):
    log = Instant()
    async with writing(log, monkeypatch) as writer:
        monkeypatch.setattr(company, "HURRY_S", 0.0)
        loud = [writer.hand_in(b"%d" % number, tenant="loud") for number in range(3)]
        assert [ticket.is_settled for ticket in loud] == [True, False, False], "nothing had come of it for long, either"
        quiet = writer.hand_in(b"quiet", tenant="quiet")
        assert [ticket.is_durable for ticket in (*loud, quiet)] == [True] * 4
        await quiet.durable()
    assert log.batches == [[b"0"], [b"1", b"2", b"quiet"]]


async def test_those_that_call_seldom_are_in_a_hurry_one_after_the_other(monkeypatch):
    log = Instant()
    async with writing(log, monkeypatch) as writer:
        tickets = [writer.hand_in(b"%d" % number, tenant=f"tenant {number}") for number in range(20)]
        assert [ticket.is_settled for ticket in tickets] == [True] + [False] * 19
        for ticket in tickets:
            await ticket.durable()
    assert log.batches == [[b"0"], [b"%d" % number for number in range(1, 20)]]


class Flood(trio.abc.Instrument):
    """A loud tenant: a record in each round of the loop."""

    def __init__(self, writer: AuditWriter) -> None:
        self._writer = writer

    def after_io_wait(self, timeout: float) -> None:
        self._writer.hand_in(b"flood", tenant="loud")


async def test_who_is_in_a_hurry_while_a_commit_runs_is_in_the_next_one_without_waiting_for_others(monkeypatch):
    monkeypatch.setattr(company, "GATHER_S", 60.0)
    disk = Disk()
    writer = AuditWriter(disk, queue_max=10_000, on_the_spot=True)

    flood = Flood(writer)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            writer.hand_in(b"first", tenant="loud")
            await disk.entered.wait()
            await trio.sleep(HURRY_S)
            victim = writer.hand_in(b"victim", tenant="quiet")
            disk.gate.set()
            trio.lowlevel.add_instrument(flood)
            await victim.durable()
            trio.lowlevel.remove_instrument(flood)
            writer.close()
    second = next(batch for batch in disk.batches if b"victim" in batch)
    assert second is disk.batches[1]
    assert second[0] == b"victim"
    assert len(second) < 10, "the flood goes on in each round"


async def test_who_is_in_a_hurry_ends_the_waiting_where_the_disk_is_not_quick_enough_to_write_here(monkeypatch):
    monkeypatch.setattr(company, "GATHER_S", 60.0)
    log = Instant()
    writer = AuditWriter(log, queue_max=10_000)

    flood = Flood(writer)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await writer.append(b"first")
            await trio.sleep(HURRY_S)
            trio.lowlevel.add_instrument(flood)
            while not writer._batch:
                await trio.lowlevel.checkpoint()
            monkeypatch.setattr(company, "HURRY_S", 0.0)
            writer._company._hurry_from = -math.inf
            victim = writer.hand_in(b"victim", tenant="quiet")
            had = len(writer._batch)
            await victim.durable()
            trio.lowlevel.remove_instrument(flood)
            writer.close()
    found = next(batch for batch in log.batches if b"victim" in batch)
    assert len(found) < had + 10


async def test_a_commit_on_the_spot_that_fails_refuses_all_that_were_in_it_and_the_log_is_opened_afresh(monkeypatch):
    monkeypatch.setattr(audit_writer, "RETRY_S", 0.001)
    log = Instant()
    async with writing(log, monkeypatch) as writer:
        writer._sign_at = -math.inf  # a checkpoint is due at the same time
        log.failure = OSError("no disk")
        ticket = writer.hand_in(b"lost", tenant="quiet")
        failing = writer.health
        with pytest.raises(AuditUnavailable, match="failed"):
            await ticket.durable()
        while writer.health.state is not State.OK:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await writer.append(b"after")
    assert failing.state is State.FAILING
    assert b"lost" not in [entry for batch in log.batches for entry in batch]
    assert log.batches[-1] == [b"after"]
    assert not log.tried_again


async def test_a_checkpoint_comes_over_what_was_committed_on_the_spot(monkeypatch):
    log = Instant()
    async with writing(log, monkeypatch, checkpoint_s=0.05) as writer:
        while writer._sign_at != math.inf:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await trio.testing.wait_all_tasks_blocked()
        before = log.signed
        assert writer.hand_in(b"record", tenant="quiet").is_durable
        while log.signed == before:
            await trio.testing.wait_all_tasks_blocked(0.001)


ALL_WAIT = [(1, False), (2, False), (1, False), (1, False)]
OTHERS_GO_ON = [(1, False), (2, True), (1, True), (1, False)]


@pytest.mark.parametrize(("others", "seen"), [(math.inf, OTHERS_GO_ON), (0, ALL_WAIT), (1, OTHERS_GO_ON)])
async def test_the_loop_has_much_else_to_do_where_several_records_came_together_and_not_all_that_is_under_way(
    monkeypatch, others, seen
):
    disk = Disk()
    disk.gate.set()
    busy: list[tuple[int, bool]] = []

    async def here(_: Beside, work: partial[None], **how: bool) -> None:
        if work.args[0]:
            busy.append((len(work.args[0]), how["busy"]))

    monkeypatch.setattr(Beside, "run", here)
    writer = AuditWriter(disk, queue_max=100)
    many = 0
    writer.under_way = lambda: many + others
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            for many in (1, 2, 1, 1):
                async with trio.open_nursery() as callers:
                    for _ in range(many):
                        callers.start_soon(writer.append, b"record")
            writer.close()
    assert busy == seen


async def test_a_batch_is_bounded_and_nothing_is_lost_at_a_close():
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=2 * BATCH_MAX)
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


async def test_where_too_much_waits_nothing_more_is_begun_and_nothing_is_lost():
    disk = Disk()
    writer = AuditWriter(disk, queue_max=2)
    outcomes: dict[bytes, str] = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            async with trio.open_nursery() as callers:
                callers.start_soon(append_into, writer, b"first", outcomes)
                await disk.entered.wait()
                for number in range(2):
                    writer.check()
                    callers.start_soon(append_into, writer, b"%d" % number, outcomes)
                    await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(AuditUnavailable, match="too many"):
                    writer.check()
                callers.start_soon(append_into, writer, b"begun before", outcomes)
                await trio.testing.wait_all_tasks_blocked()
                assert outcomes == {}
                disk.gate.set()
            writer.check()
            writer.close()

    assert disk.batches == [[b"first"], [b"0", b"1", b"begun before"]]
    assert set(outcomes.values()) == {"durable"}


def test_whoever_asks_is_told_once_that_an_entry_is_settled_and_at_once_where_it_is():
    told: list[bool] = []
    ticket = Ticket(b"", math.inf)
    ticket.when_settled(lambda: told.append(ticket.is_settled))
    assert told == []
    ticket.settle()
    ticket.settle()
    assert told == [True]
    ticket.when_settled(lambda: told.append(ticket.is_settled))
    assert told == [True, True]


async def test_what_was_handed_in_is_written_though_nobody_waits_for_it():
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=10)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            with trio.CancelScope() as scope:
                scope.cancel()
                writer.hand_in(b"left alone")
                await trio.lowlevel.checkpoint()
            ticket = writer.hand_in(b"waited for later")
            while not ticket.is_settled:
                await trio.testing.wait_all_tasks_blocked(0.001)
            await ticket.durable()
            writer.close()

    assert [entry for batch in disk.batches for entry in batch] == [b"left alone", b"waited for later"]


async def test_after_a_failed_commit_everyone_who_waits_is_refused_and_nothing_more_is_written():
    disk = Disk()
    writer = AuditWriter(disk, queue_max=2)
    outcomes: dict[bytes, str] = {}
    raised: list[Exception] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_into, writer, raised)
            while not disk.signed:
                await trio.testing.wait_all_tasks_blocked(0.001)
            disk.failure = OSError("the disk is gone")
            async with trio.open_nursery() as callers:
                for number in range(5):  # one in the commit, two queued, two waiting to be queued
                    callers.start_soon(append_into, writer, b"%d" % number, outcomes)
                    await trio.testing.wait_all_tasks_blocked()
                disk.gate.set()
            assert writer.health.state is State.FAILING
            with pytest.raises(AuditUnavailable):
                await writer.append(b"later")
            with pytest.raises(AuditUnavailable, match="gone"):
                writer.check()
            writer.close()

    assert disk.batches == []
    assert raised == [disk.failure]
    assert outcomes == {b"%d" % number: "refused" for number in range(5)}


async def test_a_log_whose_medium_comes_back_goes_on_with_a_record_of_it(monkeypatch):
    monkeypatch.setattr(audit_writer, "RETRY_S", 0)
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=2, clock=lambda: 7.0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await writer.append(b"before")
            disk.failure = OSError("no space")
            with pytest.raises(AuditUnavailable):
                await writer.append(b"during")
            assert writer.health == AuditHealth(State.FAILING, 7.0, "no space")
            disk.failure = None
            while writer.health.state is not State.OK:
                await trio.testing.wait_all_tasks_blocked(0.001)
            writer.check()
            await writer.append(b"after")
            writer.close()

    before, recovered, after = disk.batches
    assert (before, after, disk.opened) == ([b"before"], [b"after"], 1)
    assert record.decode(recovered[0]) == {"kind": "log_recovered", "time": 7_000_000, "reason": "no space"}
    assert writer.failure is None


class Backfilled(Instant):
    """A log with a gate for whoever backfills it."""

    def __init__(self) -> None:
        super().__init__()
        self.token = trio.lowlevel.current_trio_token()
        self.gate = trio.Event()
        self.backfills = self.opened = 0
        self.is_backfilling = self.was_opened_meanwhile = False
        self.backfill_failure: Exception | None = None

    def backfill(self) -> None:
        self.backfills += 1
        self.is_backfilling = True
        trio.from_thread.run(self.gate.wait, trio_token=self.token)
        self.is_backfilling = False
        if self.backfill_failure is not None:
            raise self.backfill_failure

    def reopen(self) -> None:
        self.was_opened_meanwhile |= self.is_backfilling
        super().reopen()
        self.opened += 1


async def append_many(writer: AuditWriter, count: int) -> None:
    """One commit each."""
    for number in range(count):
        await writer.append(b"%d" % number)


async def test_commits_go_on_while_the_log_is_backfilled_and_a_close_waits_for_it():
    log = Backfilled()
    writer = AuditWriter(log, queue_max=10)
    closed = trio.Event()

    async def run() -> None:
        await writer.run()
        closed.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await append_many(writer, BACKFILL_EVERY - 1)
            await trio.testing.wait_all_tasks_blocked()
            assert log.backfills == 0
            await append_many(writer, 3 * BACKFILL_EVERY)
            while not log.is_backfilling:
                await trio.testing.wait_all_tasks_blocked(0.001)
            assert (log.backfills, len(log.batches)) == (1, 4 * BACKFILL_EVERY - 1)
            writer.close()
            await trio.testing.wait_all_tasks_blocked(0.001)
            assert not closed.is_set()
            log.gate.set()
    assert closed.is_set()
    assert not log.is_backfilling


async def test_a_backfill_that_fails_keeps_nobody_waiting_and_is_tried_again():
    log = Backfilled()
    log.gate.set()
    log.backfill_failure = OSError("no space")
    writer = AuditWriter(log, queue_max=10)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            for tries in range(3):
                await append_many(writer, BACKFILL_EVERY)
                while log.backfills == tries:
                    await trio.testing.wait_all_tasks_blocked(0.001)
            assert writer.health.state is State.OK
            writer.close()


async def test_a_log_is_not_opened_afresh_while_it_is_backfilled(monkeypatch):
    monkeypatch.setattr(audit_writer, "RETRY_S", 0)
    log = Backfilled()
    writer = AuditWriter(log, queue_max=10)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await append_many(writer, BACKFILL_EVERY)
            while not log.is_backfilling:
                await trio.testing.wait_all_tasks_blocked(0.001)
            log.failure = OSError("no disk")
            with pytest.raises(AuditUnavailable):
                await writer.append(b"lost")
            for _ in range(5):
                await trio.testing.wait_all_tasks_blocked(0.001)
            meanwhile = writer.health.state, log.opened
            log.gate.set()
            while writer.health.state is not State.OK:
                await trio.testing.wait_all_tasks_blocked(0.001)
            writer.close()
    assert meanwhile == (State.FAILING, 0)
    assert (log.opened, log.was_opened_meanwhile) == (1, False)


async def test_nobody_waits_longer_than_the_deadline_and_the_record_may_come_after_it():
    disk = Disk()
    writer = AuditWriter(disk, queue_max=1, deadline_s=0.01)
    outcomes: dict[bytes, str] = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            while not disk.signed:
                await trio.testing.wait_all_tasks_blocked(0.001)
            async with trio.open_nursery() as callers:  # one in the commit, two queued
                for number in range(3):
                    callers.start_soon(append_into, writer, b"%d" % number, outcomes)
                    await disk.entered.wait()
                    await trio.testing.wait_all_tasks_blocked()
            assert outcomes == {b"%d" % number: "refused" for number in range(3)}
            with pytest.raises(AuditUnavailable, match="slow"):
                writer.check()
            disk.gate.set()
            while writer.health.state is not State.OK:
                await trio.testing.wait_all_tasks_blocked(0.001)
            writer.close()

    assert disk.batches == [[b"0"], [b"1", b"2"]]


async def test_the_deadline_holds_for_a_record_that_was_committed_on_the_spot_and_held_the_loop_up(monkeypatch):
    monkeypatch.setattr(audit_writer, "Beside", partial(Beside, patience_s=5.0))

    class Stalling(Disk):
        seconds = 0.0

        def commit(self, entries: Sequence[bytes], **more: Any) -> None:
            time.sleep(self.seconds)
            self.batches.append(list(entries))

    disk = Stalling()
    writer = AuditWriter(disk, queue_max=1, deadline_s=0.05, on_the_spot=True)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            for _ in range(SURE_AFTER):
                await writer.append(b"quick")
            disk.seconds = 0.2
            began = trio.current_time()
            outcomes: dict[bytes, str] = {}
            await append_into(writer, b"late", outcomes)
            taken = trio.current_time() - began
            disk.seconds = 0.0
            healthy = writer.health.state is State.OK
            await append_into(writer, b"after", outcomes)
            writer.close()
    assert taken > 0.2, "it was committed on the spot"
    assert (outcomes, healthy) == ({b"late": "refused", b"after": "durable"}, True)
    assert [batch for batch in disk.batches if batch][SURE_AFTER:] == [[b"late"], [b"after"]]


async def test_a_checkpoint_comes_at_the_start_at_the_end_and_when_records_have_waited_for_one():
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=2, checkpoint_s=0.01)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            while not disk.signed:
                await trio.testing.wait_all_tasks_blocked(0.001)
            for number in range(2):
                await writer.append(b"%d" % number)
            while 2 not in disk.signed:
                await trio.testing.wait_all_tasks_blocked(0.001)
            signed = list(disk.signed)
            await trio.testing.wait_all_tasks_blocked(0.03)
            assert disk.signed == signed, "nothing has come, and nothing needs a checkpoint"
            await writer.append(b"last")
            writer.close()

    assert (disk.signed[0], disk.signed[-1]) == (0, 3)


async def test_a_cancelled_caller_still_waits_for_its_entry():
    disk = Disk()
    writer = AuditWriter(disk, queue_max=10)
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
    writer = AuditWriter(disk, queue_max=10)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            nursery.cancel_scope.cancel()
            await writer.append(b"one")
            writer.close()

    assert disk.batches == [[b"one"]]


async def test_a_writer_that_is_closed_while_its_checkpoint_is_due_and_fails_comes_to_its_end():
    disk = Disk()
    disk.failure = OSError("the disk is gone")
    writer = AuditWriter(disk, queue_max=10)
    raised: list[Exception] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_into, writer, raised)
            await trio.testing.wait_all_tasks_blocked(0.005)
            writer.close()

    assert raised == [disk.failure]


async def test_a_closed_writer_refuses():
    writer = AuditWriter(Disk(), queue_max=1)
    writer.close()
    with pytest.raises(AuditUnavailable):
        await writer.append(b"one")


async def test_denials_behind_the_first_are_counted_as_durably_and_summed_up_in_time(monkeypatch):
    monkeypatch.setattr(audit_writer, "WINDOW_S", 0.01)
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=10, denials_recorded=2)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            for number in range(5):
                await writer.append_denial(b"%d" % number, Denial("alike", number))
            await writer.append_denial(b"other", Denial("other", 5))
            assert [denial.time_us for denial in disk.denials] == [2, 3, 4]
            while 3 not in disk.summarised:
                await trio.testing.wait_all_tasks_blocked(0.001)
            writer.close()

    assert [entry for batch in disk.batches for entry in batch] == [b"0", b"1", b"other"]
    assert (disk.summarised[0], disk.summarised[-1]) == (0, 3), "what a kill left is summed up at the start"


async def test_a_denial_that_could_not_be_counted_is_no_denial_answered(monkeypatch):
    disk = Disk()
    disk.gate.set()
    writer = AuditWriter(disk, queue_max=10, denials_recorded=1)
    raised: list[Exception] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_into, writer, raised)
            await writer.append_denial(b"one", Denial("alike", 1))
            disk.failure = OSError("full")
            with pytest.raises(AuditUnavailable):
                await writer.append_denial(b"two", Denial("alike", 2))
            writer.close()
    assert raised == [disk.failure]
