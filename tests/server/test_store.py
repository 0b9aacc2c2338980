"""The OAuth tables: each change is one transaction that repeats its condition."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tenantry.oauth.token import CodeGrant
from tenantry.server.store import Store
from tenantry.server.store.announcements import Kind
from tenantry.server.store.clients import Clients, Registered
from tenantry.server.store.database import Database, migrate, open_database
from tenantry.server.store.migrations import MIGRATIONS

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


async def register(store: Store, client_id: str, **changes: Any) -> Registered:
    how = {
        "network": "192.0.2.1",
        "fingerprint": None,
        "now": 0,
        "unused_s": 100,
        "keep": 99,
        **changes,
    }
    return await store.clients.register(client_id, CLIENT, **how)


async def use(store: Store, client_id: str, *, now: float, refresh: bool = False) -> None:
    """Consent to a client and redeem the code."""
    grant = replace(CODE, client_id=client_id, family_id=f"family of {client_id}")
    await store.grants.add_code(client_id, grant, consent_id=client_id, now=now)
    if refresh:
        await store.grants.redeem_code(client_id, refresh_digest=client_id, now=now)


async def consented(store: Store) -> None:
    """A client with one redeemed code, the family `family` and the refresh token `first`."""
    await register(store, "client")
    await store.grants.add_code("code", CODE, consent_id="consent", now=0)
    await store.grants.redeem_code("code", refresh_digest="first", now=10)


async def test_the_questions_of_one_read_see_one_state(tmp_path: Path):
    """A worker that reads a stream's events and then that it is over must not miss the event that came between."""
    ours, others = open_database(tmp_path / "x.db"), open_database(tmp_path / "x.db")
    others.execute("CREATE TABLE event (number INTEGER)")

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])

    def work(connection: sqlite3.Connection) -> tuple[int, int]:
        before = count(connection)
        others.execute("INSERT INTO event VALUES (1)")
        return before, count(connection)

    database = Database(ours)
    assert await database.read(work) == (0, 0)
    assert await database.read(count) == 1
    with pytest.raises(sqlite3.OperationalError):
        await database.read(lambda connection: connection.execute("SELECT nothing"))
    assert await database.transaction(count) == 1
    ours.close()
    others.close()


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
    assert await store.endings.family("family", now=20)
    assert not await store.endings.family("family", now=30)
    assert not await store.grants.rotate_refresh_token("first", successor_digest="second", now=21)
    grant = await store.grants.find_refresh_token("first")
    assert grant is not None
    assert grant.family_revoked
    assert [(news.kind, news.body, news.at) for news in store.announcements.after(0)] == [
        (Kind.FAMILY_REVOKED, {"families": ["family"]}, 20)
    ]


async def test_a_login_session_takes_the_place_of_the_one_before(store: Store):
    await store.login_sessions.add(
        "one", tenant="acme", subject="alice", peer="", now=0, expires_at=100, instead_of=None
    )
    await store.login_sessions.add(
        "two", tenant="acme", subject="bob", peer="", now=0, expires_at=100, instead_of="one"
    )
    assert await store.login_sessions.find("one", now=0) is None
    assert await store.login_sessions.find("two", now=99.9) == ("acme", "bob")
    assert await store.login_sessions.find("two", now=100) is None
    assert not await store.login_sessions.end("two", tenant="acme", subject="alice")
    assert await store.login_sessions.end("two", tenant="acme", subject="bob")
    assert await store.login_sessions.find("two", now=0) is None


async def test_the_purge_drops_what_has_no_use_any_more(store: Store):
    await consented(store)
    await register(store, "never used", unused_s=8 * DAY)
    await store.login_sessions.add(
        "session", tenant="acme", subject="alice", peer="", now=0, expires_at=100, instead_of=None
    )
    await store.purge(now=99, family_s=FAMILY_S, idle_client_s=FAMILY_S)
    assert await store.login_sessions.find("session", now=0)
    assert await store.grants.find_code("code")
    assert await store.clients.find("never used")
    await store.purge(now=8 * DAY, family_s=FAMILY_S, idle_client_s=FAMILY_S)
    assert await store.login_sessions.find("session", now=0) is None
    assert await store.grants.find_code("code") is None
    assert await store.clients.find("never used") is None
    assert await store.grants.find_refresh_token("first")
    assert await store.clients.find("client")
    await store.purge(now=FAMILY_S + DAY + 10, family_s=FAMILY_S, idle_client_s=FAMILY_S)
    assert await store.grants.find_refresh_token("first") is None
    assert await store.clients.find("client") is None


async def test_a_client_whose_family_lives_is_never_dropped(store: Store):
    await consented(store)
    await store.purge(now=FAMILY_S + 9, family_s=FAMILY_S, idle_client_s=FAMILY_S)
    assert await store.clients.find("client")


async def test_an_unused_registration_ends_with_its_time(store: Store):
    await register(store, "early")
    await register(store, "late", now=99)
    assert await store.clients.find("early")
    await register(store, "other", now=100)
    assert await store.clients.find("early") is None
    assert await store.clients.find("late")


async def test_an_identical_registration_prolongs_the_unused_one_and_leaves_the_used_one_alone(store: Store):
    assert await register(store, "one", fingerprint="same") == Registered(client_id="one", issued_at=0, anew=True)
    again = await register(store, "two", fingerprint="same", now=99)
    assert again == Registered(client_id="one", issued_at=0, anew=False)
    await register(store, "other", now=198)
    assert await store.clients.find("one")
    await use(store, "one", now=198)
    anew = await register(store, "three", fingerprint="same", now=198)
    assert anew == Registered(client_id="three", issued_at=198, anew=True)
    assert await store.clients.find("one")


async def test_of_64_identical_registrations_at_once_one_is_kept(store: Store):
    given = set()

    async def one(number: int) -> None:
        registered = await register(store, f"client {number}", fingerprint="same")
        given.add(registered.client_id)

    async with trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(one, number)
    assert len(given) == 1


async def test_a_flood_pushes_out_its_own_registrations_alone(store: Store):
    await register(store, "lonely", network="198.51.100.1", keep=10)
    for number in range(30):
        await register(store, f"flood {number}", keep=10, now=1 + number / 100)
    assert await store.clients.find("lonely")
    assert await store.clients.find("flood 29")
    kept = [number for number in range(30) if await store.clients.find(f"flood {number}")]
    assert kept == list(range(21, 30))


async def test_of_networks_that_sent_as_many_the_one_with_the_oldest_gives_way(store: Store):
    await register(store, "first", network="a", fingerprint="same", now=0, keep=2)
    await register(store, "second", network="b", now=1, keep=2)
    await register(store, "prolonged", network="a", fingerprint="same", now=2, keep=2)
    await register(store, "third", network="c", now=3, keep=2)
    assert [await store.clients.find(name) is not None for name in ("first", "second", "third")] == [True, False, True]


async def test_what_is_counted_of_each_network_is_what_is_there(store: Store, tmp_path: Path):
    for number in range(40):
        await register(store, f"client {number}", network=f"network {number % 3}", now=number, unused_s=60, keep=30)
        if number % 4 == 0:
            await use(store, f"client {number}", now=number)
        if number % 10 == 1:
            await store.endings.client(f"client {number}", now=number)
        if number % 20 == 11:
            await register(store, "again", network="network 4", fingerprint="same", now=number, keep=30)
    await store.purge(now=75, family_s=FAMILY_S, idle_client_s=FAMILY_S)
    with closing(sqlite3.connect(tmp_path / "state.db")) as reader:
        there = reader.execute("SELECT network, count(*) FROM client WHERE unused_until IS NOT NULL GROUP BY network")
        counted = reader.execute("SELECT network, count FROM unused_of_network ORDER BY network")
        assert counted.fetchall() == there.fetchall() != []


async def test_a_registration_costs_as_much_where_thousands_are_kept(tmp_path: Path):
    """A flood of them must not make everybody else's changes wait: what SQLite does for one is counted."""
    steps: list[int] = []

    def count() -> int:
        steps[-1] += 1
        return 0

    for keep in (20, 4000):
        connection = open_database(tmp_path / f"{keep}.db")
        migrate(connection, MIGRATIONS)
        clients = Clients(Database(connection))
        now = 0

        async def one(clients: Clients = clients, keep: int = keep) -> None:
            nonlocal now
            now += 1
            how = {"network": f"network {now % 2}", "fingerprint": str(now), "unused_s": DAY, "keep": keep}
            await clients.register(f"client {now}", CLIENT, now=now, **how)

        connection.execute("PRAGMA synchronous=OFF")
        while now < keep:
            await one()
        steps.append(0)
        connection.set_progress_handler(count, 1)
        await one()
        connection.close()
    few, many = steps
    assert 50 < many < 1.2 * few


async def test_clients_in_use_neither_count_nor_give_way(store: Store):
    for number in range(3):
        await register(store, f"used {number}", keep=2)
        await use(store, f"used {number}", now=number)
    for number in range(3):
        await register(store, f"unused {number}", keep=2, now=number)
    for name, known in (("used 0", True), ("used 2", True), ("unused 0", False), ("unused 1", True)):
        assert (await store.clients.find(name) is not None) is known, name


async def test_idle_clients_go_unless_a_family_of_theirs_lives(store: Store):
    for name in ("idle", "refreshing", "revoked"):
        await register(store, name)
        await use(store, name, now=0, refresh=name != "idle")
    await store.endings.family("family of revoked", now=1)
    await store.purge(now=2 * DAY - 1, family_s=FAMILY_S, idle_client_s=2 * DAY)
    assert await store.clients.find("idle")
    await store.purge(now=2 * DAY, family_s=FAMILY_S, idle_client_s=2 * DAY)
    assert [await store.clients.find(name) is not None for name in ("idle", "refreshing", "revoked")] == [
        *(False, True, False)
    ]


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


@pytest.mark.parametrize("how", ["consent", "subject", "client"])
async def test_what_ends_takes_its_unredeemed_codes_families_and_remembered_consents(store: Store, how: str):
    await consented(store)
    await store.grants.add_code("unredeemed", replace(CODE, family_id="next"), consent_id="next", now=20)
    remembered = {"tenant": "acme", "subject": "alice", "client_id": "client", "redirect_uri": "r"}
    await store.consents.remember(**remembered, shown=["a"], granted=["a"], now=20)
    await {
        "consent": lambda: store.endings.consent("acme", "alice", "client", now=30),
        "subject": lambda: store.endings.subject("acme", "alice", now=30),
        "client": lambda: store.endings.client("client", now=30),
    }[how]()
    refresh = await store.grants.find_refresh_token("first")
    assert refresh is not None
    assert refresh.family_revoked
    assert await store.grants.find_code("unredeemed") is None
    assert await store.grants.find_code("code") is not None  # so that its replay is still one
    assert await store.consents.find(**remembered, since=0) == frozenset()
    assert store.announcements.after(0)[-1].body["families"] == ["family"]


async def test_what_ends_leaves_everybody_elses(store: Store):
    await consented(store)
    await store.endings.consent("acme", "bob", "client", now=30)
    await store.endings.consent("acme", "alice", "other", now=30)
    await store.endings.subject("globex", "alice", now=30)
    await store.endings.client("other", now=30)
    refresh = await store.grants.find_refresh_token("first")
    assert refresh is not None
    assert not refresh.family_revoked
    assert await store.endings.subjects() == {("acme", "alice")}
