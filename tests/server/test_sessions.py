import dataclasses
import sqlite3

import pytest
import trio

from tenantry.config import build
from tenantry.identity import Principal
from tenantry.mcp.session import Session
from tenantry.server import sessions
from tenantry.server.bus import Bus
from tenantry.server.feed import Feed
from tenantry.server.sessions import Sessions, UnknownSession, digest_of
from tenantry.server.store import Store
from tenantry.server.store.database import StoreUnavailable

ALICE = Principal(
    tenant="a", subject="alice", client_id="c", scopes=frozenset(), token_id="t", family_id="f", expires_at=0
)


class Surroundings:
    """A store on disk, a clock that is set by hand, and ids that can be told apart."""

    def __init__(self, path, **limits: int) -> None:
        self.path = path
        self.now = 1000.0
        self.count = 0
        self.config = build(
            {"limits": {"sessions_per_tenant": limits.get("per_tenant", 100)}, "lifetimes": {"mcp_session_idle_s": 60}},
            source="test",
        )
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.path)
        self.feed = Feed(self.store.announcements)
        self.sessions = Sessions(
            store=self.store,
            feed=self.feed,
            bus=Bus("alone"),
            config=self.config,
            clock=lambda: self.now,
            fresh=self.fresh,
        )

    def fresh(self) -> str:
        self.count += 1
        return f"session-{self.count}"

    async def find(self, session_id: str, principal: Principal) -> Session:
        digest = digest_of(session_id)
        return self.sessions.at_hand(digest, principal) or await self.sessions.find(digest, principal)

    def restart(self) -> None:
        self.store.close()
        self.open()


@pytest.fixture
def place(tmp_path):
    place = Surroundings(tmp_path / "state.db")
    yield place
    place.store.close()


async def unavailable(_: object) -> None:
    raise StoreUnavailable("disk I/O error")


async def is_known(place: Surroundings, session_id: str, principal: Principal = ALICE) -> bool:
    try:
        await place.find(session_id, principal)
    except UnknownSession:
        return False
    return True


async def test_a_session_survives_a_restart_with_its_revision(place):
    session_id = await place.sessions.open(ALICE, "2025-06-18", {})
    place.restart()
    session = await place.find(session_id, ALICE)

    assert (session.revision, session.binding) == ("2025-06-18", ("a", "alice", "c"))


async def test_another_access_token_of_the_same_grant_finds_the_session(place):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})

    assert await is_known(place, session_id, dataclasses.replace(ALICE, token_id="next", expires_at=9))


@pytest.mark.parametrize("change", [{"tenant": "b"}, {"subject": "bob"}, {"client_id": "d"}])
async def test_a_session_is_unknown_to_everybody_else(place, change):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    with pytest.raises(UnknownSession) as caught:
        await place.find(session_id, dataclasses.replace(ALICE, **change))
    assert caught.value.foreign


@pytest.mark.parametrize("restart", [False, True])
async def test_an_ended_session_is_gone_with_its_stream(place, restart):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    session = await place.find(session_id, ALICE)
    stream = place.sessions.attach_stream(session)
    await place.sessions.end(session)
    if restart:
        place.restart()

    assert stream.is_set()
    assert not await is_known(place, session_id)


async def test_a_session_that_can_not_be_ended_goes_on_until_it_can(place, monkeypatch):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    session = await place.find(session_id, ALICE)
    stream = place.sessions.attach_stream(session)
    with monkeypatch.context() as patch:
        patch.setattr(place.store.mcp_sessions, "end", unavailable)
        with pytest.raises(StoreUnavailable):
            await place.sessions.end(session)
    assert await is_known(place, session_id)
    assert not stream.is_set()

    await place.sessions.end(session)
    assert not await is_known(place, session_id)


async def test_a_session_may_be_ended_and_used_while_it_ends(place, monkeypatch):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    session = await place.find(session_id, ALICE)
    begun, go_on = trio.Event(), trio.Event()
    end = place.store.mcp_sessions.end

    async def slow(digest: bytes) -> None:
        begun.set()
        await go_on.wait()
        await end(digest)

    monkeypatch.setattr(place.store.mcp_sessions, "end", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.sessions.end, session)
        nursery.start_soon(place.sessions.end, session)
        await begun.wait()
        assert await is_known(place, session_id)
        go_on.set()
    assert not await is_known(place, session_id)


async def test_memory_holds_those_that_were_used_last_and_all_that_the_store_is_behind_with(place, monkeypatch):
    monkeypatch.setattr(sessions, "IN_MEMORY_MAX", 2)
    first, second, third = [await place.sessions.open(ALICE, "2025-11-25", {}) for _ in range(3)]
    assert len(place.sessions) == 3  # none was written back yet

    place.now += 1
    await place.sessions.write_back()
    place.now += 1
    assert await is_known(place, first)
    assert await is_known(place, second, OTHER_FAMILY)
    fourth = await place.sessions.open(ALICE, "2025-11-25", {})
    assert len(place.sessions) == 3
    assert await is_known(place, third)  # from the store, which is behind with the others
    assert len(place.sessions) == 4

    place.now += 1
    await place.sessions.write_back()
    place.restart()
    place.now += 59
    known = [await is_known(place, session_id) for session_id in (first, second, third, fourth)]
    assert all(known)


async def test_an_idle_session_expires_and_one_in_use_does_not(place):
    idle = await place.sessions.open(ALICE, "2025-11-25", {})
    used = await place.sessions.open(ALICE, "2025-11-25", {})
    for _ in range(5):
        place.now += 30
        assert await is_known(place, used)

    assert not await is_known(place, idle)
    await place.sessions.write_back()
    place.restart()
    assert not await is_known(place, idle)
    assert await is_known(place, used)


async def test_a_store_that_can_not_be_written_to_ends_nothing_and_is_written_to_later(place, monkeypatch):
    used = await place.sessions.open(ALICE, "2025-11-25", {})
    place.now += 50
    assert await is_known(place, used)
    touch = place.store.mcp_sessions.touch

    async def full(sessions: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(place.store.mcp_sessions, "touch", full)
    await place.sessions.write_back()
    monkeypatch.setattr(place.store.mcp_sessions, "touch", touch)
    await place.sessions.write_back()
    place.restart()
    place.now += 50
    assert await is_known(place, used)


async def test_a_person_with_too_many_sessions_loses_the_oldest_and_nobody_else_does(tmp_path):
    place = Surroundings(tmp_path / "s.db", per_tenant=30)
    bob = dataclasses.replace(ALICE, subject="bob")
    bobs = await place.sessions.open(bob, "2025-11-25", {})
    mine = [await place.sessions.open(ALICE, "2025-11-25", {}) for _ in range(5)]

    assert [await is_known(place, session_id) for session_id in mine] == [False, False, True, True, True]
    assert await is_known(place, bobs, bob)
    place.store.close()


async def test_a_tenant_is_capped_and_other_tenants_are_not_touched(tmp_path):
    place = Surroundings(tmp_path / "s.db", per_tenant=3)
    other = dataclasses.replace(ALICE, tenant="b")
    others = await place.sessions.open(other, "2025-11-25", {})
    people = [dataclasses.replace(ALICE, subject=f"p{number}") for number in range(5)]
    opened = [await place.sessions.open(person, "2025-11-25", {}) for person in people]

    known = [await is_known(place, session_id, person) for session_id, person in zip(opened, people, strict=True)]
    assert known == [False, False, True, True, True]
    assert await is_known(place, others, other)
    place.store.close()


async def test_a_new_stream_ends_the_one_before_it(place):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    session = await place.find(session_id, ALICE)
    first = place.sessions.attach_stream(session)
    second = place.sessions.attach_stream(session)
    place.sessions.detach_stream(session, first)

    assert first.is_set()
    assert not second.is_set()


async def test_the_id_itself_is_kept_nowhere(place, tmp_path):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    place.store.close()

    assert all(session_id.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    place.open()


OTHER_FAMILY = dataclasses.replace(ALICE, family_id="g")


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("how", ["family", "consent", "subject", "client"])
async def test_a_session_ends_with_what_it_was_granted_by(place, how, in_memory):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    if not in_memory:
        place.restart()
    await {
        "family": lambda: place.store.endings.family("f", now=1),
        "consent": lambda: place.store.endings.consent("a", "alice", "c", now=1),
        "subject": lambda: place.store.endings.subject("a", "alice", now=1),
        "client": lambda: place.store.endings.client("c", now=1),
    }[how]()
    place.feed.look()

    assert await is_known(place, session_id, OTHER_FAMILY) is False


@pytest.mark.parametrize("how", ["family", "consent", "subject", "client"])
async def test_a_session_outlives_what_it_has_nothing_to_do_with(place, how):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    await {
        "family": lambda: place.store.endings.family("g", now=1),
        "consent": lambda: place.store.endings.consent("a", "alice", "d", now=1),
        "subject": lambda: place.store.endings.subject("a", "bob", now=1),
        "client": lambda: place.store.endings.client("d", now=1),
    }[how]()
    place.feed.look()
    assert await is_known(place, session_id)
    place.restart()
    assert await is_known(place, session_id)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_session_belongs_to_the_family_that_used_it_last(place, restarted):
    session_id = await place.sessions.open(ALICE, "2025-11-25", {})
    await place.find(session_id, OTHER_FAMILY)
    if restarted:
        place.restart()
    await place.store.endings.family("f", now=1)
    place.feed.look()
    assert await is_known(place, session_id, OTHER_FAMILY)
    await place.store.endings.family("g", now=1)
    place.feed.look()
    assert not await is_known(place, session_id, OTHER_FAMILY)
