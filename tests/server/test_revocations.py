"""Revoked families are refused at once, and for as long as it matters."""

from tenantry.identity import Principal
from tenantry.server.revocations import REMEMBER_S, Revocations


def principal(family_id: str) -> Principal:
    return Principal(
        tenant="acme",
        subject="alice",
        client_id="client",
        scopes=frozenset(),
        token_id="id",
        family_id=family_id,
        expires_at=0,
    )


def test_a_revocation_counts_at_once_and_for_its_family_alone():
    revocations = Revocations([("before", 900.0)])
    revocations.revoke("family", now=1000)
    assert revocations.is_revoked(principal("family"))
    assert revocations.is_revoked(principal("before"))
    assert not revocations.is_revoked(principal("other"))


def test_a_family_is_forgotten_when_its_last_access_token_has_expired():
    revocations = Revocations([("before", 900.0)])
    revocations.revoke("family", now=900 + REMEMBER_S)
    assert revocations.is_revoked(principal("before"))
    revocations.revoke("again", now=900 + REMEMBER_S + 1)
    assert not revocations.is_revoked(principal("before"))
    assert revocations.is_revoked(principal("family"))
