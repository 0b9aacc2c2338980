"""Ended grants are refused at once, and remembered for as long as it matters."""

from pathlib import Path

import pytest

from tenantry.identity import Principal
from tenantry.server.feed import Feed
from tenantry.server.revocations import Ended, Revocations
from tenantry.server.store import Store
from tenantry.server.store.announcements import REMEMBER_S


@pytest.fixture
def store(tmp_path: Path):
    store = Store.open(tmp_path / "state.db")
    yield store
    store.close()


def principal(family_id: str, client_id: str = "client") -> Principal:
    return Principal(
        tenant="acme",
        subject="alice",
        client_id=client_id,
        scopes=frozenset(),
        token_id="id",
        family_id=family_id,
        expires_at=0,
    )


async def test_a_revocation_counts_from_the_next_look_on_and_for_its_family_alone(store):
    feed = Feed(store.announcements)
    revocations = Revocations(feed)
    feed.look()
    await store.endings.family("family", now=1000)
    assert not revocations.is_revoked(principal("family"))
    feed.look()
    assert revocations.is_revoked(principal("family"))
    assert not revocations.is_revoked(principal("other"))


async def test_what_was_revoked_before_the_start_is_heard_at_the_first_look(store):
    await store.endings.family("family", now=1000)
    feed = Feed(store.announcements)
    revocations = Revocations(feed)
    feed.look()
    assert revocations.is_revoked(principal("family"))


async def test_a_client_that_ended_is_refused_under_every_family(store):
    await store.clients.add("gone", {"redirect_uris": [], "grant_types": []}, now=0)
    feed = Feed(store.announcements)
    revocations = Revocations(feed)
    assert await store.endings.client("gone", now=1000)
    assert not await store.endings.client("gone", now=1001)
    feed.look()
    assert revocations.is_revoked(principal("any family", client_id="gone"))
    assert not revocations.is_revoked(principal("any family"))


async def test_a_family_is_forgotten_when_its_last_access_token_has_expired(store):
    feed = Feed(store.announcements)
    revocations = Revocations(feed)
    await store.endings.family("before", now=900)
    await store.endings.family("family", now=900 + REMEMBER_S)
    feed.look()
    assert revocations.is_revoked(principal("before"))
    await store.endings.family("again", now=900 + REMEMBER_S + 1)
    feed.look()
    assert not revocations.is_revoked(principal("before"))
    assert revocations.is_revoked(principal("family"))
    assert [news.body["families"] for news in store.announcements.after(0)] == [["family"], ["again"]]


def test_what_ended_covers_families_clients_and_people():
    ended = Ended(families=frozenset({"f"}), clients=frozenset({"c"}), subjects=frozenset({("acme", "alice")}))
    assert ended.covers(("globex", "bob", "other"), "f")
    assert ended.covers(("globex", "bob", "c"), "g")
    assert ended.covers(("acme", "alice", "other"), "g")
    assert not ended.covers(("acme", "bob", "other"), "g")
    assert Ended(families=frozenset(), consents=frozenset({("a", "b", "c")})).covers(("a", "b", "c"), "g")
    assert not ended.covers(("globex", "alice", "other"), "g")


async def test_a_withdrawn_consent_leaves_the_clients_other_people_alone(store):
    feed = Feed(store.announcements)
    revocations = Revocations(feed)
    await store.endings.consent("acme", "bob", "client", now=1000)
    feed.look()
    assert not revocations.is_revoked(principal("family of alice"))
