"""One scope for all who may end a call."""

import pytest
import trio

from tenantry.server.cut import Cause, Cut


@pytest.mark.parametrize(
    ("end", "cause"),
    [(Cut.grant_ended, Cause.GRANT_ENDED), (Cut.cancel, Cause.CANCELLED), (Cut.leave, Cause.LEFT)],
)
async def test_what_ends_it_is_known_behind_it(end, cause):
    cut = Cut()
    with trio.fail_after(5):
        with cut.open(trio.current_time() + 60) as scope:
            end(cut)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert cut.cause is cause


async def test_the_first_to_end_it_says_why():
    cut = Cut()
    cut.cancel()
    cut.leave()
    assert cut.cause is Cause.CANCELLED


async def test_what_was_ended_before_it_began_gets_no_further_than_its_first_wait():
    cut = Cut()
    cut.grant_ended()
    with cut.open(trio.current_time() + 60) as scope:
        await trio.lowlevel.checkpoint()
        raise AssertionError
    assert scope.cancelled_caught


async def test_a_time_limit_has_no_other_cause():
    cut = Cut()
    with cut.open(trio.current_time()) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert cut.cause is None
