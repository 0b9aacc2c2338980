"""The OAuth tables: each change is one transaction that repeats its condition."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.oauth.token import CodeGrant
from tenantry.server.store import Store
from tenantry.server.store.database import open_database

DAY = 86_400
FAMILY_S = 90 * DAY
CODE = CodeGrant(
    family_id="family",
    client_id="client",
    tenant="acme",
    subject="alice",
    scopes=("a", "b"),
    redirect_uri="https://client.example/cb",
    challenge="challenge",
    expires_at=60.0,
    redeemed=False,
)
CLIENT = {"redirect_uris": ["https://client.example/cb"], "grant_types": ["authorization_code"], "client_name": "x"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "state.db")
    yield store
    store.close()


async def consented(store: Store) -> None:
    """A client with one redeemed code, the family `family` and the refresh token `first`."""
    await store.clients.add("client", CLIENT, now=0)
    await store.grants.add_code("code", CODE, consent_id="consent", now=0)
    await store.grants.redeem_code("code", refresh_digest="first", now=10)


async def test_a_consent_gives_one_code(store: Store):
    assert await store.grants.add_code("one", CODE, consent_id="consent", now=0)
    assert not await store.grants.add_code("two", replace(CODE, family_id="other"), consent_id="consent", now=0)
    assert await store.grants.find_code("one") == CODE
    assert await store.grants.find_code("two") is None


async def test_a_code_is_redeemed_once_and_begins_its_family(store: Store):
    await store.grants.add_code("code", CODE, consent_id="consent", now=0)
    assert await store.grants.redeem_code("code", refresh_digest="first", now=10)
    assert not await store.grants.redeem_code("code", refresh_digest="second", now=11)
    assert await store.grants.find_code("code") == replace(CODE, redeemed=True)
    grant = await store.grants.find_refresh_token("first")
    assert grant is not None
    assert (grant.family_id, grant.family_created_at, grant.issued_at, grant.rotated_at) == ("family", 10, 10, None)
    assert await store.grants.find_refresh_token("second") is None


async def test_a_redemption_that_fails_in_the_middle_has_not_happened(store: Store):
    await consented(store)
    await store.grants.add_code("other", CODE, consent_id="other", now=0)
    with pytest.raises(sqlite3.IntegrityError):
        await store.grants.redeem_code("other", refresh_digest="second", now=20)  # the family is there already
    found = await store.grants.find_code("other")
    assert found is not None
    assert not found.redeemed


async def test_a_refresh_token_is_rotated_once(store: Store):
    await consented(store)
    assert await store.grants.rotate_refresh_token("first", successor_digest="second", now=20)
    assert not await store.grants.rotate_refresh_token("first", successor_digest="third", now=21)
    first, second = await store.grants.find_refresh_token("first"), await store.grants.find_refresh_token("second")
    assert first is not None
    assert second is not None
    assert (first.rotated_at, second.rotated_at, second.issued_at) == (20, None, 20)
    assert await store.grants.find_refresh_token("third") is None


async def test_a_revoked_family_rotates_nothing_and_is_known_after_a_restart(store: Store):
    await consented(store)
    assert await store.grants.revoke_family("family", now=20)
    assert not await store.grants.revoke_family("family", now=30)
    assert not await store.grants.rotate_refresh_token("first", successor_digest="second", now=21)
    grant = await store.grants.find_refresh_token("first")
    assert grant is not None
    assert grant.family_revoked
    assert store.grants.revoked_families(since=20) == [("family", 20)]
    assert store.grants.revoked_families(since=21) == []


async def test_a_login_session_takes_the_place_of_the_one_before(store: Store):
    await store.login_sessions.add("one", tenant="acme", subject="alice", expires_at=100, instead_of=None)
    await store.login_sessions.add("two", tenant="acme", subject="bob", expires_at=100, instead_of="one")
    assert await store.login_sessions.find("one", now=0) is None
    assert await store.login_sessions.find("two", now=99.9) == ("acme", "bob")
    assert await store.login_sessions.find("two", now=100) is None
    await store.login_sessions.end("two")
    assert await store.login_sessions.find("two", now=0) is None


async def test_the_purge_drops_what_has_no_use_any_more(store: Store):
    await consented(store)
    await store.clients.add("never used", CLIENT, now=0)
    await store.login_sessions.add("session", tenant="acme", subject="alice", expires_at=100, instead_of=None)
    await store.purge(now=99, family_s=FAMILY_S)
    assert await store.login_sessions.find("session", now=0)
    assert await store.grants.find_code("code")
    assert await store.clients.find("never used")
    await store.purge(now=8 * DAY, family_s=FAMILY_S)
    assert await store.login_sessions.find("session", now=0) is None
    assert await store.grants.find_code("code") is None
    assert await store.clients.find("never used") is None
    assert await store.grants.find_refresh_token("first")
    assert await store.clients.find("client")
    await store.purge(now=FAMILY_S + DAY + 10, family_s=FAMILY_S)
    assert await store.grants.find_refresh_token("first") is None
    assert await store.clients.find("client") is None


async def test_a_client_whose_family_lives_is_never_dropped(store: Store):
    await consented(store)
    await store.purge(now=FAMILY_S + 9, family_s=FAMILY_S)
    assert await store.clients.find("client")


def test_a_secret_is_made_once(store: Store):
    assert store.secrets.get("name", make=lambda: b"first", now=0) == b"first"
    assert store.secrets.get("name", make=lambda: b"second", now=1) == b"first"


def test_the_file_is_its_owners_alone(tmp_path: Path):
    Store.open(tmp_path / "data" / "state.db").close()
    assert (tmp_path / "data" / "state.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_file_of_a_newer_tenantry_is_left_alone(tmp_path: Path):
    path = tmp_path / "state.db"
    Store.open(path).close()
    connection = open_database(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RuntimeError, match="version 99"):
        Store.open(path)
