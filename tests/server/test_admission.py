"""Each tenant has bounds of its own for what it has going on."""

import pytest
import trio
import trio.testing

from tenantry import web
from tenantry.config import Config, build
from tenantry.server.admission import Admission


def configured(**limits: float) -> Config:
    tenants = {"a": {}, "b": {}, "slow": {"calls_per_s": 2.0}}
    return build({"limits": limits, "tenants": tenants}, source="test")


async def begin(admission: Admission, tenant: str, order: list[str]) -> None:
    await admission.begin(tenant)
    order.append(tenant)


async def test_a_tenant_alone_begins_without_waiting(nursery):
    admission = Admission(configured())
    for _ in range(3):
        await admission.begin("a")
    assert admission.shares["a"].running == 3
    await admission.begin("b")
    assert admission.under_way == 4
    admission.end(admission.shares["a"])
    assert admission.under_way == 3
    assert not admission.waiting


async def test_no_more_are_served_at_once_than_the_bound_and_an_end_makes_room(nursery):
    admission = Admission(configured(calls_at_once=2))
    nursery.start_soon(admission.run)
    order: list[str] = []
    for _ in range(3):
        nursery.start_soon(begin, admission, "a", order)
    await trio.testing.wait_all_tasks_blocked()
    assert len(order) == 2
    assert dict(admission.waiting) == {"a": 1}
    admission.end(admission.shares["a"])
    await trio.testing.wait_all_tasks_blocked()
    assert len(order) == 3
    assert admission.shares["a"].running == 2
    assert admission.under_way == 2
    nursery.cancel_scope.cancel()


async def refused(admission: Admission, tenant: str, **how: int) -> web.HttpError:
    with pytest.raises(web.HttpError) as caught:
        await admission.begin(tenant, **how)
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    return caught.value


async def test_a_wait_ends_at_its_deadline_and_leaves_nothing(nursery, autojump_clock):
    admission = Admission(configured(calls_at_once=1, call_wait_s=3.0))
    nursery.start_soon(admission.run)
    await admission.begin("a", size=10)
    began = trio.current_time()
    await refused(admission, "a", size=10)
    assert trio.current_time() - began == pytest.approx(3.0)
    assert not admission.waiting
    assert (admission.shares["a"].running, admission.shares["a"].bytes) == (1, 10)
    nursery.cancel_scope.cancel()


async def test_a_line_that_is_full_is_full_for_its_tenant_alone(nursery):
    admission = Admission(configured(calls_at_once=1, calls_waiting=2))
    await admission.begin("a")
    for _ in range(2):
        nursery.start_soon(begin, admission, "a", [])
    await trio.testing.wait_all_tasks_blocked()
    await refused(admission, "a")
    nursery.start_soon(admission.run)
    with trio.fail_after(5):
        await admission.begin("b")
    nursery.cancel_scope.cancel()


async def test_a_rate_is_kept_by_the_tenant_that_has_one(autojump_clock):
    admission = Admission(configured())
    await admission.begin("slow")
    await admission.begin("slow")
    await refused(admission, "slow")
    await trio.sleep(0.5)
    await admission.begin("slow")
    await refused(admission, "slow")
    assert admission.shares["slow"].refused == 2


async def test_bodies_are_bounded_together_and_a_single_one_is_not_refused_for_its_size():
    admission = Admission(configured(body_bytes_at_once=2048))
    share = await admission.begin("a", size=4096)
    await refused(admission, "a", size=1)
    admission.end(share, size=4096)
    await admission.begin("a", size=1)


async def test_streams_are_bounded_by_tenant():
    admission = Admission(configured(streams_per_tenant=1))
    with admission.stream("a"):
        with pytest.raises(web.HttpError, match="streams"):
            admission.require_stream("a")
        admission.require_stream("b")
    admission.require_stream("a")


@pytest.mark.parametrize("its_turn_came", [False, True])
async def test_a_request_that_is_cancelled_takes_no_room(nursery, its_turn_came):
    admission = Admission(configured(calls_at_once=1))
    held = await admission.begin("a")
    nursery.start_soon(admission.run)
    scope = trio.CancelScope()
    nursery.start_soon(begin_in, scope, admission)
    await trio.testing.wait_all_tasks_blocked()
    if its_turn_came:  # in the moment in which it is cancelled
        turn = admission._queue.pop()
        assert turn is not None
        turn.share.running += 1
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert held.running == 1
    assert not admission.waiting
    nursery.cancel_scope.cancel()


async def begin_in(scope: trio.CancelScope, admission: Admission) -> None:
    with scope:
        await admission.begin("a")
