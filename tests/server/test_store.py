"""The OAuth tables: each change is one transaction that repeats its condition."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.oauth.token import CodeGrant
from tenantry.server import store as module
from tenantry.server.store import Store

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
    await store.add_client("client", CLIENT, now=0)
    await store.add_code("code", CODE, consent_id="consent", now=0)
    await store.redeem_code("code", refresh_digest="first", now=10)


async def test_a_consent_gives_one_code(store: Store):
    assert await store.add_code("one", CODE, consent_id="consent", now=0)
    assert not await store.add_code("two", replace(CODE, family_id="other"), consent_id="consent", now=0)
    assert await store.find_code("one") == CODE
    assert await store.find_code("two") is None


async def test_a_code_is_redeemed_once_and_begins_its_family(store: Store):
    await store.add_code("code", CODE, consent_id="consent", now=0)
    assert await store.redeem_code("code", refresh_digest="first", now=10)
    assert not await store.redeem_code("code", refresh_digest="second", now=11)
    assert await store.find_code("code") == replace(CODE, redeemed=True)
    grant = await store.find_refresh_token("first")
    assert grant is not None
    assert (grant.family_id, grant.family_created_at, grant.issued_at, grant.rotated_at) == ("family", 10, 10, None)
    assert await store.find_refresh_token("second") is None


async def test_a_redemption_that_fails_in_the_middle_has_not_happened(store: Store):
    await consented(store)
    await store.add_code("other", CODE, consent_id="other", now=0)
    with pytest.raises(sqlite3.IntegrityError):
        await store.redeem_code("other", refresh_digest="second", now=20)  # the family is there already
    found = await store.find_code("other")
    assert found is not None
    assert not found.redeemed


async def test_a_refresh_token_is_rotated_once(store: Store):
    await consented(store)
    assert await store.rotate_refresh_token("first", successor_digest="second", now=20)
    assert not await store.rotate_refresh_token("first", successor_digest="third", now=21)
    first, second = await store.find_refresh_token("first"), await store.find_refresh_token("second")
    assert first is not None
    assert second is not None
    assert (first.rotated_at, second.rotated_at, second.issued_at) == (20, None, 20)
    assert await store.find_refresh_token("third") is None


async def test_a_revoked_family_rotates_nothing_and_is_known_after_a_restart(store: Store):
    await consented(store)
    assert await store.revoke_family("family", now=20)
    assert not await store.revoke_family("family", now=30)
    assert not await store.rotate_refresh_token("first", successor_digest="second", now=21)
    grant = await store.find_refresh_token("first")
    assert grant is not None
    assert grant.family_revoked
    assert store.revoked_families(since=20) == [("family", 20)]
    assert store.revoked_families(since=21) == []


async def test_a_login_session_takes_the_place_of_the_one_before(store: Store):
    await store.add_login_session("one", tenant="acme", subject="alice", expires_at=100, instead_of=None)
    await store.add_login_session("two", tenant="acme", subject="bob", expires_at=100, instead_of="one")
    assert await store.find_login_session("one", now=0) is None
    assert await store.find_login_session("two", now=99.9) == ("acme", "bob")
    assert await store.find_login_session("two", now=100) is None
    await store.end_login_session("two")
    assert await store.find_login_session("two", now=0) is None


async def test_the_purge_drops_what_has_no_use_any_more(store: Store):
    await consented(store)
    await store.add_client("never used", CLIENT, now=0)
    await store.add_login_session("session", tenant="acme", subject="alice", expires_at=100, instead_of=None)
    await store.purge_oauth(now=99, family_s=FAMILY_S)
    assert await store.find_login_session("session", now=0)
    assert await store.find_code("code")
    assert await store.find_client("never used")
    await store.purge_oauth(now=8 * DAY, family_s=FAMILY_S)
    assert await store.find_login_session("session", now=0) is None
    assert await store.find_code("code") is None
    assert await store.find_client("never used") is None
    assert await store.find_refresh_token("first")
    assert await store.find_client("client")
    await store.purge_oauth(now=FAMILY_S + DAY + 10, family_s=FAMILY_S)
    assert await store.find_refresh_token("first") is None
    assert await store.find_client("client") is None


async def test_a_client_whose_family_lives_is_never_dropped(store: Store):
    await consented(store)
    await store.purge_oauth(now=FAMILY_S + 9, family_s=FAMILY_S)
    assert await store.find_client("client")


def test_a_secret_is_made_once(store: Store):
    assert store.secret("name", make=lambda: b"first", now=0) == b"first"
    assert store.secret("name", make=lambda: b"second", now=1) == b"first"


def test_the_file_is_its_owners_alone(tmp_path: Path):
    Store.open(tmp_path / "data" / "state.db").close()
    assert (tmp_path / "data" / "state.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_file_of_a_newer_tenantry_is_left_alone(tmp_path: Path):
    path = tmp_path / "state.db"
    Store.open(path).close()
    connection = module.open_database(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RuntimeError, match="version 99"):
        Store.open(path)
