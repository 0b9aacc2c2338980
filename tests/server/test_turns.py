"""Work is done in fair turns where tenants share the server, and at once where one has it to itself."""

import pytest
import trio
import trio.testing

from tenantry.server.turns import TOGETHER_S, Turns


async def take(turns: Turns, tenant: str, order: list[str]) -> None:
    await turns.take(tenant)
    order.append(tenant)


async def together(turns: Turns) -> None:
    """Have two tenants there, each with its free pass used."""
    for tenant in ("a", "b", "b", "a"):
        with trio.move_on_after(0):
            await turns.take(tenant)


async def test_who_is_alone_waits_for_nobody():
    turns = Turns()  # nobody gives any
    for _ in range(3):
        await turns.take("a")


async def test_who_comes_second_does_not_wait_for_the_pile_of_the_first(nursery, autojump_clock):
    turns = Turns()
    await together(turns)
    order: list[str] = []
    for _ in range(50):
        nursery.start_soon(take, turns, "a", order)
    await trio.testing.wait_all_tasks_blocked()
    order.clear()
    nursery.start_soon(take, turns, "b", order)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    assert "b" in order[:2]
    assert len(order) >= 49
    nursery.cancel_scope.cancel()


async def test_one_turn_is_given_in_a_round(nursery):
    turns = Turns()
    await together(turns)
    order: list[str] = []
    for _ in range(10):
        nursery.start_soon(take, turns, "a", order)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(turns.run)
    order.clear()
    rounds = 0
    while len(order) < 8:
        await trio.lowlevel.checkpoint()
        rounds += 1
    assert rounds >= 8
    nursery.cancel_scope.cancel()


async def test_turns_follow_the_weights(nursery):
    turns = Turns(weight={"heavy": 3.0, "a": 1.0, "b": 1.0}.__getitem__)
    await together(turns)
    order: list[str] = []
    for tenant in ("heavy", "a"):
        for _ in range(41):
            nursery.start_soon(take, turns, tenant, order)
        await trio.testing.wait_all_tasks_blocked()
    order.clear()
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    assert 28 <= order[:40].count("heavy") <= 32
    nursery.cancel_scope.cancel()


async def test_who_takes_less_than_a_share_passes_without_waiting():
    turns = Turns()
    await together(turns)
    passed = 0
    with trio.move_on_after(0):
        await turns.take("newcomer")
        passed += 1
        await turns.take("newcomer")
        passed += 1
    assert passed == 1


async def test_alone_again_nobody_waits(autojump_clock):
    turns = Turns()
    await together(turns)
    await trio.sleep(TOGETHER_S)
    for _ in range(5):
        await turns.take("a")


@pytest.mark.parametrize("its_turn_came", [False, True])
async def test_who_is_cancelled_leaves_no_turn_behind(nursery, its_turn_came):
    turns = Turns()
    await together(turns)
    scope = trio.CancelScope()

    async def wait() -> None:
        with scope:
            await turns.take("a")
            await turns.take("a")

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    if its_turn_came:
        turn = turns._queue.pop()
        assert turn is not None
        turn.set()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert not len(turns._queue)
