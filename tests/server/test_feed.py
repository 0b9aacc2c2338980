"""What one process commits, another hears: at its next look, once, and in order."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio.testing

from tenantry.server.feed import LOOK_EVERY_S, Feed
from tenantry.server.store import Store
from tenantry.server.store.announcements import Announcement, Kind, announce


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path):
    store = Store.open(path)
    yield store
    store.close()


def told(feed: Feed, *kinds: Kind) -> list[Announcement]:
    """Everything that a subscriber to these kinds is told from now on."""
    news: list[Announcement] = []
    feed.subscribe(news.extend, *kinds)
    return news


def commit(path: Path, kind: Kind, now: float = 0, **body: object) -> None:
    """What another process does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        announce(connection, kind, now=now, **body)
        connection.execute("COMMIT")


def test_another_process_is_heard_at_the_next_look_once_and_in_order(store, path):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED, Kind.PEOPLE_CHANGED)
    feed.look()
    commit(path, Kind.KEYS_CHANGED, a=1)
    commit(path, Kind.PEOPLE_CHANGED, b=[2])
    commit(path, Kind.CATALOGUE_CHANGED)
    feed.look()
    feed.look()

    assert [(each.kind, each.body) for each in news] == [
        (Kind.KEYS_CHANGED, {"a": 1}),
        (Kind.PEOPLE_CHANGED, {"b": [2]}),
    ]


def test_a_look_with_nothing_new_asks_for_no_rows(store, path, monkeypatch):
    feed = Feed(store.announcements)
    feed.look()
    asked: list[int] = []

    def after(seq: int) -> list[Announcement]:
        asked.append(seq)
        return []

    monkeypatch.setattr(store.announcements, "after", after)
    feed.look()
    assert asked == []
    commit(path, Kind.KEYS_CHANGED)
    feed.look()
    assert asked == [0]


def test_what_is_rolled_back_is_never_heard(store, path):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        announce(connection, Kind.KEYS_CHANGED, now=0)
        feed.look()
        connection.execute("ROLLBACK")
    feed.look()
    assert news == []


def test_numbers_are_not_used_again_when_all_announcements_have_gone(store, path):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED)
    commit(path, Kind.KEYS_CHANGED, now=0)
    feed.look()
    commit(path, Kind.KEYS_CHANGED, now=10_000_000)  # drops the one before
    feed.look()
    assert len(news) == 2


async def test_who_asks_nothing_hears_all_the_same(store, path, autojump_clock):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        await trio.testing.wait_all_tasks_blocked()
        commit(path, Kind.KEYS_CHANGED)
        await trio.sleep(LOOK_EVERY_S * 1.5)
        nursery.cancel_scope.cancel()
    assert len(news) == 1


async def test_an_ended_person_keeps_nothing_and_colleagues_keep_theirs(store):
    for subject in ("alice", "bob"):
        await store.login_sessions.add(
            subject, tenant="acme", subject=subject, peer="", now=0, expires_at=100, instead_of=None
        )
    feed = Feed(store.announcements)
    news = told(feed, Kind.SUBJECT_ENDED)
    await store.endings.subject("acme", "alice", now=1)
    feed.look()

    assert [each.body for each in news] == [{"tenant": "acme", "subject": "alice", "families": []}]
    assert await store.login_sessions.find("alice", now=0) is None
    assert await store.login_sessions.find("bob", now=0) is not None


async def test_a_store_that_can_not_be_read_for_a_while_ends_nothing_and_is_heard_later(
    store, path, autojump_clock, monkeypatch
):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED)
    read = store.announcements.version

    def fails() -> int:
        raise sqlite3.OperationalError("database is locked")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        monkeypatch.setattr(store.announcements, "version", fails)
        commit(path, Kind.KEYS_CHANGED)
        await trio.sleep(LOOK_EVERY_S * 3)
        assert news == []
        with pytest.raises(sqlite3.OperationalError):
            feed.look()
        monkeypatch.setattr(store.announcements, "version", read)
        await trio.sleep(LOOK_EVERY_S * 1.5)
        nursery.cancel_scope.cancel()
    assert len(news) == 1


async def test_while_it_runs_one_look_in_a_round_is_enough_and_none_is_too_few(store, path, nursery):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED)
    nursery.start_soon(feed.run)
    await trio.testing.wait_all_tasks_blocked()
    feed.look()
    commit(path, Kind.KEYS_CHANGED)
    feed.look()
    assert not news  # nothing that came since this round began is decided in it
    await trio.lowlevel.checkpoint()
    feed.look()
    assert len(news) == 1
    nursery.cancel_scope.cancel()


async def test_once_it_runs_no_more_every_look_counts(store, path):
    feed = Feed(store.announcements)
    news = told(feed, Kind.KEYS_CHANGED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    feed.look()
    commit(path, Kind.KEYS_CHANGED)
    feed.look()
    assert len(news) == 1
