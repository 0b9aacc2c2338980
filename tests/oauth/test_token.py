"""What the token endpoint decides."""

from dataclasses import replace
from typing import Any

import pytest

from tenantry.oauth import pkce, token
from tenantry.oauth.errors import OAuthError
from tenantry.oauth.token import CodeGrant, Issue, RefreshGrant, RefreshRules, Reuse, Rotate

RESOURCE = "https://mcp.example.com/mcp"
CODE = CodeGrant(
    family_id="family",
    client_id="client",
    tenant="acme",
    subject="alice",
    scopes=("a", "b"),
    redirect_uri="https://client.example/cb",
    challenge=pkce.challenge_of("v" * 43),
    expires_at=1060.0,
    redeemed=False,
)
REFRESH = RefreshGrant(
    family_id="family",
    client_id="client",
    tenant="acme",
    subject="alice",
    scopes=("a", "b"),
    family_created_at=1000.0,
    family_revoked=False,
    issued_at=1000.0,
    rotated_at=None,
)
RULES = RefreshRules(idle_s=100, absolute_s=1000, grace_s=10)
FORM = {
    "code_verifier": "v" * 43,
    "redirect_uri": "https://client.example/cb",
    "resource": RESOURCE,
}


def redeem(
    grant: CodeGrant = CODE, *, now: float = 1000, grantable: tuple[str, ...] = ("a", "b", "c"), **changes: str | None
) -> Issue | Reuse:
    form = {name: value for name, value in {**FORM, **changes}.items() if value is not None}
    return token.redeem(form, grant, client_id="client", now=now, resource=RESOURCE, grantable=grantable)


def refresh(
    grant: RefreshGrant = REFRESH,
    *,
    now: float = 1000,
    grantable: tuple[str, ...] = ("a", "b", "c"),
    **changes: str | None,
) -> Issue | Rotate | Reuse:
    form = {name: value for name, value in changes.items() if value is not None}
    return token.refresh(form, grant, client_id="client", now=now, rules=RULES, resource=RESOURCE, grantable=grantable)


def test_a_good_redemption_gives_what_was_granted():
    assert redeem() == Issue(scopes=("a", "b"))
    assert redeem(redirect_uri=None, resource=None) == Issue(scopes=("a", "b"))


@pytest.mark.parametrize(
    ("grant", "now", "change", "error"),
    [
        (replace(CODE, client_id="other"), 1000, {}, "invalid_grant"),
        (CODE, 1060, {}, "invalid_grant"),
        (CODE, 1000, {"code_verifier": None}, "invalid_grant"),
        (CODE, 1000, {"code_verifier": "w" * 43}, "invalid_grant"),
        (CODE, 1000, {"redirect_uri": "https://client.example/cb/"}, "invalid_grant"),
        (CODE, 1000, {"resource": "https://evil.example/mcp"}, "invalid_target"),
        (replace(CODE, redeemed=True, client_id="other"), 1000, {}, "invalid_grant"),
        (replace(CODE, redeemed=True), 1000, {"code_verifier": "w" * 43}, "invalid_grant"),
    ],
)
def test_a_bad_redemption_is_refused(grant: CodeGrant, now: float, change: dict[str, Any], error: str):
    with pytest.raises(OAuthError) as caught:
        redeem(grant, now=now, **change)
    assert caught.value.error == error


def test_a_valid_second_redemption_is_a_reuse_even_after_the_code_expired():
    assert redeem(replace(CODE, redeemed=True)) == Reuse()
    assert redeem(replace(CODE, redeemed=True), now=5000) == Reuse()


def test_what_the_person_has_lost_meanwhile_is_not_given():
    assert redeem(grantable=("b",)) == Issue(scopes=("b",))
    assert refresh(grantable=("b",)) == Rotate(scopes=("b",))
    with pytest.raises(OAuthError, match="invalid_grant"):
        redeem(grantable=())
    with pytest.raises(OAuthError, match="invalid_grant"):
        refresh(grantable=())


def test_the_first_use_rotates_and_one_in_the_grace_window_does_not():
    rotated = replace(REFRESH, rotated_at=1000.0)
    assert refresh() == Rotate(scopes=("a", "b"))
    assert refresh(rotated, now=1009.9) == Issue(scopes=("a", "b"))
    assert refresh(rotated, now=1010) == Reuse()


@pytest.mark.parametrize(
    ("grant", "now"),
    [
        (replace(REFRESH, client_id="other"), 1000),
        (replace(REFRESH, family_revoked=True), 1000),
        (replace(REFRESH, family_revoked=True, rotated_at=900.0), 1000),
        (REFRESH, 1100),
        (replace(REFRESH, issued_at=1990.0), 2000),
    ],
)
def test_a_dead_refresh_token_is_refused(grant: RefreshGrant, now: float):
    with pytest.raises(OAuthError) as caught:
        refresh(grant, now=now)
    assert caught.value.error == "invalid_grant"


def test_a_reuse_by_another_client_does_not_count_as_one():
    with pytest.raises(OAuthError):
        refresh(replace(REFRESH, client_id="other", rotated_at=900.0))


@pytest.mark.parametrize(
    ("scope", "grantable", "given"),
    [("a", ("a", "b"), ("a",)), ("b a", ("a", "b"), ("b", "a")), ("a b", ("b",), ("b",))],
)
def test_a_refresh_may_narrow(scope: str, grantable: tuple[str, ...], given: tuple[str, ...]):
    assert refresh(scope=scope, grantable=grantable) == Rotate(scopes=given)


@pytest.mark.parametrize("scope", ["c", "a c", "x", "a  "])
def test_a_refresh_never_widens(scope: str):
    with pytest.raises(OAuthError) as caught:
        refresh(scope=scope)
    assert caught.value.error == "invalid_scope"


def test_the_successor_follows_from_the_token_and_the_secret():
    first = token.successor("presented", secret=b"secret")
    assert first == token.successor("presented", secret=b"secret")
    assert first != token.successor("presented", secret=b"other")
    assert first != token.successor("other", secret=b"secret")
    assert len(first) == 43


def test_an_access_token_does_not_outlive_its_family():
    def lifetime(now: float) -> int:
        return token.access_token_lifetime(now=now, lifetime_s=600, family_created_at=0, absolute_s=1000)

    assert [lifetime(now) for now in (0, 400, 500, 999.5)] == [600, 600, 500, 1]
