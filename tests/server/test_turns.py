"""Work is done in fair turns where tenants share the server, and at once where one has it to itself."""

from itertools import pairwise

import pytest
import trio
import trio.testing

from tenantry.server.turns import TOGETHER_S, TURNS_A_ROUND, Line, Turns


async def take(turns: Turns, tenant: str | None, order: list[str | None]) -> None:
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


class Rounds(trio.abc.Instrument):
    """What came into `order` in each round of the loop."""

    def __init__(self, order: list[str | None]) -> None:
        self._order = order
        self.had = [0]

    def before_io_wait(self, timeout: float) -> None:
        self.had.append(len(self._order))

    def each(self) -> list[list[str | None]]:
        return [self._order[begin:end] for begin, end in pairwise(self.had)]


@pytest.mark.parametrize("tenants", ["a", "ab", "abcdefgh"])
async def test_a_round_gives_a_tenant_one_turn_and_no_more_than_a_few_in_all(tenants, nursery):
    turns = Turns()
    await together(turns)
    order: list[str | None] = []
    for _ in range(10):
        for tenant in tenants:
            nursery.start_soon(take, turns, tenant, order)
    await trio.testing.wait_all_tasks_blocked()
    order.clear()
    rounds = Rounds(order)
    trio.lowlevel.add_instrument(rounds)
    nursery.start_soon(turns.run)
    await trio.testing.wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(rounds)
    assert len(order) >= 9 * len(tenants)
    for came in rounds.each():
        assert len(came) == len(set(came)) <= TURNS_A_ROUND
    if len(tenants) > 1:
        assert max(map(len, rounds.each())) == min(len(tenants), TURNS_A_ROUND)
    nursery.cancel_scope.cancel()


async def test_a_tenant_that_opens_a_connection_does_not_share_the_server_with_itself(autojump_clock):
    turns = Turns()  # nobody gives any
    line = Line(turns.notice)
    with trio.fail_after(1):
        for _ in range(3):
            await turns.take("a")
            await turns.take(line.tenant)
            line.belongs_to("a")


async def test_who_says_nothing_of_a_tenant_is_somebody_too(nursery, autojump_clock):
    turns = Turns()
    line = Line(turns.notice)
    await turns.take("a")
    line.belongs_to("")
    order: list[str] = []
    for _ in range(3):
        nursery.start_soon(take, turns, "a", order)
    await trio.testing.wait_all_tasks_blocked()
    assert order == ["a"], "one passes, the others wait for a turn"
    nursery.cancel_scope.cancel()


async def test_all_of_a_round_pause_at_the_same_point_and_where_turns_are_taken_nobody_does(nursery):
    turns = Turns()
    order: list[str] = []

    async def half_by_half(name: str) -> None:
        order.append(f"{name} begins")
        await turns.pause()
        order.append(f"{name} goes on")

    for name in "abc":
        nursery.start_soon(half_by_half, name)
    await trio.testing.wait_all_tasks_blocked()
    assert [what.split(" ", 1)[1] for what in order] == ["begins"] * 3 + ["goes on"] * 3
    await together(turns)
    with trio.testing.assert_no_checkpoints():
        await turns.pause()


async def test_whom_nobody_knows_yet_gives_way_to_those_who_share_the_server(nursery):
    turns = Turns()
    await together(turns)
    order: list[str] = []
    for _ in range(2):
        nursery.start_soon(take, turns, None, order)
    await trio.testing.wait_all_tasks_blocked()
    assert len(order) <= 1
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
