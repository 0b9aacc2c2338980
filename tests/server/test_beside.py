"""Blocking work in a thread of its own: the loop waits for it a little, and never for long."""

import threading
import time
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from tenantry.server import beside
from tenantry.server.beside import SURE_AFTER, Beside, Patience


async def test_what_is_quick_is_there_without_another_round():
    with Beside(patience_s=10) as worker:
        with trio.CancelScope() as scope:
            scope.cancel()  # there is no checkpoint that would notice
            assert await worker.run(lambda: 5) == 5
        assert not scope.cancelled_caught


async def test_what_it_raises_is_raised():
    def fail() -> None:
        raise OSError("no disk")

    with Beside() as worker:
        with pytest.raises(OSError, match="no disk"):
            await worker.run(fail)
        assert await worker.run(lambda: "again") == "again"


async def test_what_takes_long_keeps_nobody_waiting():
    gate = threading.Event()
    with Beside(patience_s=0.001) as worker, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, gate.wait)
            await trio.testing.wait_all_tasks_blocked()
            gate.set()  # by the loop itself, which therefore does not stand still


async def test_after_what_took_long_the_next_is_not_waited_for_and_the_one_after_it_is():
    stood_still = []

    async def look(worker: Beside, seconds: float) -> None:
        others = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set, others)
            await worker.run(lambda: time.sleep(seconds))
            stood_still.append(not others.is_set())

    with Beside(patience_s=0.5) as worker:
        for seconds in (0.0, 0.8, 0.01, 0.01):
            await look(worker, seconds)
    assert stood_still == [True, False, False, True]


async def test_work_that_keeps_its_processor_is_waited_for_however_long_it_takes(monkeypatch):
    gate = threading.Event()
    with Beside(patience_s=0.001) as worker:
        monkeypatch.setattr(worker, "_processor_s", time.monotonic)
        threading.Timer(0.1, gate.set).start()
        others = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set, others)
            assert await worker.run(gate.wait)
            assert not others.is_set()


async def _set(event: trio.Event) -> None:
    event.set()


def test_patience_comes_back_and_is_spent_ever_more_seldom():
    patience = Patience()
    waited = []
    for number in range(400):
        if patience.has():
            waited.append(number)
            patience.lost()
    pauses = [after - before - 1 for before, after in pairwise(waited)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 64, 64]
    while not patience.has():
        pass
    patience.kept()
    patience.lost()
    assert [patience.has(), patience.has()] == [False, True]


async def test_a_cancelled_caller_waits_for_the_end():
    ended = []
    gate = threading.Event()

    def work() -> None:
        gate.wait()
        ended.append(True)

    with Beside(patience_s=0.0) as worker, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, work)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            gate.set()
    assert ended == [True]


async def test_no_end_is_missed_however_close_it_is_to_the_wait():
    with Beside(patience_s=0.0) as worker, trio.fail_after(30):
        for _ in range(2000):
            await worker.run(lambda: None)


async def test_what_may_be_done_on_the_spot_is_done_there_until_it_takes_long_and_again_after_much_that_was_quick():
    on_the_spot = []

    def work(seconds: float) -> None:
        on_the_spot.append(threading.current_thread() is threading.main_thread())
        time.sleep(seconds)

    with Beside(patience_s=0.5) as worker:
        for _ in range(SURE_AFTER):
            await worker.run(partial(work, 0.0), here=True)
        await worker.run(partial(work, 0.8), here=True)
        for _ in range(SURE_AFTER + 1):  # one that nobody waits for
            await worker.run(partial(work, 0.0), here=True)
        with pytest.raises(OSError, match="no disk"):
            await worker.run(_fail, here=True)
        await worker.run(partial(work, 0.0), here=True)
        await worker.run(partial(work, 0.0))
    assert on_the_spot == [*[False] * SURE_AFTER, True, *[False] * (SURE_AFTER + 1), True, False]


async def test_where_there_is_much_else_to_do_less_idling_is_too_much_and_work_of_the_processor_is_none(monkeypatch):
    clocks = {"monotonic": 0.0, "thread_time": 0.0}
    monkeypatch.setattr(beside, "time", SimpleNamespace(**{name: partial(clocks.get, name) for name in clocks}))
    on_the_spot = []

    def work(*, busy_s: float = 0.0, idle_s: float = 0.0) -> None:
        on_the_spot.append(threading.current_thread() is threading.main_thread())
        clocks["thread_time"] += busy_s
        clocks["monotonic"] += busy_s + idle_s

    with Beside(patience_s=60.0, busy_patience_s=0.5) as worker:
        for _ in range(SURE_AFTER):
            await worker.run(lambda: None, here=True)
        await worker.run(partial(work, busy_s=1.0), here=True, busy=True)
        await worker.run(partial(work, idle_s=0.6), here=True, busy=True)
        await worker.run(work, here=True, busy=True)
        await worker.run(partial(work, idle_s=0.6), here=True)
        await worker.run(work, here=True)
    assert on_the_spot == [True, True, False, True, True]


async def test_a_stall_is_learnt_by_both_whichever_met_it():
    on_the_spot = []

    def work(seconds: float) -> None:
        on_the_spot.append(threading.current_thread() is threading.main_thread())
        time.sleep(seconds)

    with Beside(patience_s=0.5, busy_patience_s=0.4) as worker:
        for _ in range(SURE_AFTER):
            await worker.run(lambda: None, here=True)
        await worker.run(partial(work, 0.8), here=True, busy=True)
        await worker.run(partial(work, 0.0), here=True)
    assert on_the_spot == [True, False]


def _fail() -> None:
    raise OSError("no disk")
