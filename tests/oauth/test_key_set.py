"""Where a key stands at a moment, and what signs and verifies then."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tenantry.oauth.access_token import LEEWAY_S, MAX_LIFETIME_S
from tenantry.oauth.key_set import OVERLAP_S, Key, State, snapshot, standings

PRIVATE = ec.generate_private_key(ec.SECP256R1())


def key(kid: str, signs_from: float, retired_at: float | None = None) -> Key:
    return Key(kid=kid, private_key=PRIVATE, signs_from=signs_from, retired_at=retired_at)


def states(keys: list[Key], now: float) -> dict[str, str]:
    return {each.key.kid: each.state.value for each in standings(keys, now)}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (1599, {"one": "active", "two": "pending"}),
        (1600, {"one": "retiring", "two": "active"}),
        (1600 + OVERLAP_S - 1, {"one": "retiring", "two": "active"}),
        (1600 + OVERLAP_S, {"one": "retired", "two": "active"}),
    ],
)
def test_a_key_is_pending_then_signs_then_verifies_then_is_gone(now, expected):
    keys = [key("one", 0), key("two", 1600)]
    assert states(keys, now) == expected
    found = snapshot(keys, now)
    assert found.signing.kid == next(kid for kid, state in expected.items() if state == "active")
    assert set(found.verification) == {kid for kid, state in expected.items() if state in ("active", "retiring")}
    assert set(found.published) == {kid for kid, state in expected.items() if state != "retired"}


def test_the_overlap_is_no_shorter_than_an_access_token_may_live():
    assert OVERLAP_S >= MAX_LIFETIME_S + LEEWAY_S


def test_a_key_that_was_taken_away_leaves_the_others_as_if_it_had_never_been():
    keys = [key("one", 0), key("two", 100, retired_at=150), key("three", 200)]
    assert states(keys, 150) == {"one": "active", "two": "retired", "three": "pending"}
    assert states(keys, 200 + OVERLAP_S - 1) == {"one": "retiring", "two": "retired", "three": "active"}


def test_of_keys_that_begin_at_one_moment_the_last_one_signs():
    assert states([key("one", 5), key("two", 5)], 5) == {"one": "retiring", "two": "active"}


def test_without_a_key_that_signs_there_is_no_snapshot():
    for keys in ([], [key("one", 10)], [key("one", 0, retired_at=1)]):
        with pytest.raises(LookupError):
            snapshot(keys, 5)


@given(
    begins=st.lists(st.integers(0, 20_000), min_size=1, max_size=6),
    now=st.integers(0, 40_000),
    issued=st.integers(0, 40_000),
)
def test_what_was_signed_verifies_for_as_long_as_it_may_live(begins, now, issued):
    keys = [key(str(number), at) for number, at in enumerate(sorted(begins))]
    if issued < min(begins) or now < issued:
        return
    signer = snapshot(keys, issued).signing.kid
    found = snapshot(keys, now)
    assert sum(each.state is State.ACTIVE for each in standings(keys, now)) == 1
    if now < issued + MAX_LIFETIME_S + LEEWAY_S:
        assert signer in found.verification
    assert set(found.verification) <= set(found.published)


@given(begins=st.lists(st.integers(0, 20_000), min_size=1, max_size=6), now=st.integers(20_000, 40_000))
def test_nothing_changes_before_the_snapshot_says_so(begins, now):
    keys = [key(str(number), at) for number, at in enumerate(sorted(begins))]
    found = snapshot(keys, now)
    for later in (now, (now + min(found.until, 50_000)) / 2, min(found.until, 50_000) - 1):
        if later >= now:
            assert states(keys, later) == states(keys, now)
    assert found.until > now
