"""Turns are shared by weight whatever anybody brings, and a bucket never gives more than its rate."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.fairness import Bucket, FairQueue

tenants = st.sampled_from(["a", "b", "c"])


def test_a_tenant_is_served_in_its_own_order():
    queue: FairQueue[int] = FairQueue()
    for number in range(3):
        queue.push("a", number)
    assert [queue.pop(), queue.pop(), queue.pop(), queue.pop()] == [0, 1, 2, None]


def test_a_quiet_tenant_goes_next_however_long_the_line_of_a_loud_one_is():
    queue: FairQueue[str] = FairQueue()
    for _ in range(1000):
        queue.push("loud", "loud")
    for _ in range(10):
        queue.pop()
    queue.push("quiet", "quiet")
    assert "quiet" in {queue.pop(), queue.pop()}


def test_who_had_nothing_to_do_saves_no_turns_up():
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("a", "a")
    for _ in range(50):
        queue.pop()
    for _ in range(100):
        queue.push("b", "b")
    taken = Counter(queue.pop() for _ in range(50))
    assert abs(taken["a"] - taken["b"]) <= 1


@given(st.dictionaries(tenants, st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2), st.integers(1, 300))
def test_turns_are_shared_by_weight_while_all_have_something_waiting(weights: dict[str, float], turns: int):
    queue: FairQueue[str] = FairQueue()
    for tenant, weight in weights.items():
        for _ in range(turns):
            queue.push(tenant, tenant, weight=weight)
    taken = Counter(queue.pop() for _ in range(turns))
    for one, its in weights.items():
        for other, others in weights.items():
            # The bound of the paper, for items of one size: one turn of each.
            assert abs(taken[one] / its - taken[other] / others) <= 1 / its + 1 / others + 1e-9


def test_a_round_has_one_of_each_tenant_in_the_order_of_single_turns():
    rounds, single = FairQueue[str](), FairQueue[str]()
    for queue in (rounds, single):
        for tenant, weight in (("heavy", 3.0), ("a", 1.0), ("b", 1.0)):
            for _ in range(10):
                queue.push(tenant, tenant, weight=weight)
    taken: list[str] = []
    while one := rounds.pop_round(3):
        assert len(one) == len(set(one))
        taken += one
    assert taken == [single.pop() for _ in range(30)]


def test_a_round_has_no_more_than_the_most_however_many_tenants_there_are():
    queue: FairQueue[int] = FairQueue()
    for number in range(10):
        queue.push(str(number), number)
    assert [queue.pop_round(4) for _ in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


@given(st.lists(st.tuples(tenants, st.booleans())))
def test_nothing_is_lost_and_nothing_comes_twice(steps: list[tuple[str, bool]]):
    queue: FairQueue[int] = FairQueue()
    pushed, popped = [], []
    for number, (tenant, push) in enumerate(steps):
        if push:
            queue.push(tenant, number)
            pushed.append(number)
        elif (item := queue.pop()) is not None:
            popped.append(item)
    while (item := queue.pop()) is not None:
        popped.append(item)
    assert sorted(popped) == pushed
    assert len(queue) == 0


def test_a_tenant_that_may_not_is_passed_over_and_keeps_its_turn():
    queue: FairQueue[str] = FairQueue()
    queue.push("a", "a")
    queue.push("b", "b")
    assert queue.pop(lambda tenant: tenant == "b") == "b"
    assert queue.pop(lambda _: False) is None
    assert dict(queue) == {"a": 1}
    assert queue.pop() == "a"


def test_what_no_longer_waits_is_taken_out_once():
    queue: FairQueue[str] = FairQueue()
    queue.push("a", "first")
    queue.push("a", "second")
    assert queue.remove("a", "first")
    assert not queue.remove("a", "first")
    assert not queue.remove("b", "first")
    assert (queue.pop(), queue.pop()) == ("second", None)


@given(
    st.floats(0.5, 100),
    st.integers(1, 20),
    st.lists(st.floats(0, 2), min_size=1, max_size=100),
)
def test_a_bucket_gives_its_burst_and_its_rate_and_no_more(rate: float, burst: int, gaps: list[float]):
    bucket = Bucket(rate, burst)
    now = given_out = 0.0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        if wait == 0:
            given_out += 1
        else:
            assert Bucket(rate, burst, bucket.level, bucket.at).take(now + wait + 1e-6) == 0
    assert given_out <= burst + now * rate + 1e-6


@pytest.mark.parametrize("burst", [1, 5])
def test_a_full_bucket_gives_at_once(burst: int):
    bucket = Bucket(1.0, burst)
    assert [bucket.take(100.0) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(100.0) == 1.0


def test_a_queue_is_as_long_as_what_waits_in_it():
    queue: FairQueue[int] = FairQueue()
    for tenant, item in (("a", 1), ("a", 2), ("b", 3)):
        queue.push(tenant, item)
    assert len(queue) == 3
    assert queue.remove("a", 2)
    assert not queue.remove("a", 2)
    assert len(queue) == 2
    assert (queue.pop(), queue.pop(), queue.pop(), len(queue)) == (1, 3, None, 0)
