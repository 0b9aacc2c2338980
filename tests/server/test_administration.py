"""Changes by command: none counts without its record."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tenantry.audit.record import Kind
from tenantry.policy import Directory, Feature, Tenant, User
from tenantry.server import audit_log
from tenantry.server.administration import Administration, NoData, administration
from tenantry.server.audit_log import AuditLog
from tenantry.server.people import peopled
from tenantry.server.store import Store
from tenantry.server.store.people import KnownTenant, Person

DAVE = Person(name="dave", tenant="acme", scopes=("docs:read", "gone"), password_hash="hash of dave")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Store.open(tmp_path / "state.db").close()
    return tmp_path


@pytest.fixture
def admin(data: Path) -> Iterator[Administration]:
    with administration(data) as opened:
        opened.now = 1000.0
        yield opened


async def test_the_record_is_there_before_the_change_counts(
    data: Path, admin: Administration, monkeypatch: pytest.MonkeyPatch
):
    seen: list[object] = []
    commit = AuditLog.commit

    def watched(self: AuditLog, entries: Sequence[bytes], *, sign: bool = False) -> None:
        commit(self, entries, sign=sign)
        with sqlite3.connect(data / "state.db") as connection:
            seen.append(connection.execute("SELECT count(*) FROM added_person").fetchone())
        connection.close()

    monkeypatch.setattr(AuditLog, "commit", watched)
    with admin.recording(Kind.USER_ADDED, subject="dave"):
        await admin.store.people.add(DAVE, now=1000)
    assert seen == [(0,)]
    assert [person.name for person in await admin.store.people.everybody()] == ["dave"]
    [(_, body)] = audit_log.read(data / audit_log.ADMIN_FILE_NAME)
    assert json.loads(body).items() >= {"kind": "user_added", "subject": "dave", "time": 1_000_000_000}.items()


async def test_a_record_that_can_not_be_written_undoes_the_change(
    admin: Administration, monkeypatch: pytest.MonkeyPatch
):
    def full(*_arguments: object, **_more: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(AuditLog, "commit", full)
    with pytest.raises(sqlite3.OperationalError), admin.recording(Kind.USER_ADDED, subject="dave"):
        await admin.store.people.add(DAVE, now=1000)
    assert await admin.store.people.everybody() == []


async def test_a_change_without_a_record_is_none(admin: Administration):
    with pytest.raises(RuntimeError, match="record"):
        await admin.store.people.add(DAVE, now=1000)
    with admin.recording(Kind.USER_ADDED, subject="dave"):
        await admin.store.people.add(DAVE, now=1000)
        with pytest.raises(RuntimeError, match="record"):
            await admin.store.people.add(DAVE.__class__(**{**as_fields(DAVE), "name": "erin"}), now=1000)
    assert [person.name for person in await admin.store.people.everybody()] == ["dave"]


def as_fields(person: Person) -> dict[str, object]:
    return {name: getattr(person, name) for name in ("name", "tenant", "scopes", "password_hash")}


def test_no_data_is_no_place_for_an_administration(tmp_path: Path):
    with pytest.raises(NoData), administration(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


# --- who exists ---

TOOL = Feature("tool", "search")
CONFIGURED = Directory(
    needed={TOOL: frozenset({"docs:read"})},
    tenants={"acme": Tenant(features=frozenset({TOOL}))},
    users={"alice": User(tenant="acme", scopes=frozenset({"docs:read"}), password_hash="hash of alice")},
)


async def added(store: Store, **changes: object) -> None:
    await store.people.add(Person(**{**as_fields(DAVE), **changes}), now=1000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "state.db")
    yield opened
    opened.close()


async def test_the_added_stand_beside_the_configured_who_go_first(store: Store):
    await added(store)
    await added(store, name="alice", password_hash="of somebody else")
    await added(store, name="erin", tenant="a tenant that is gone")
    users = peopled(CONFIGURED, store).users
    assert set(users) == {"alice", "dave"}
    assert users["alice"].password_hash == "hash of alice"
    assert users["dave"] == User(tenant="acme", scopes=frozenset({"docs:read"}), password_hash="hash of dave")


async def test_the_disabled_are_nobody_whoever_they_are(store: Store):
    await added(store)
    for name in ("alice", "dave"):
        await configure(store, alice="hash of alice")
        person = await store.people.find(name)
        assert person is not None
        await store.people.disable(person, now=1000)
        assert name not in peopled(CONFIGURED, store).users
        await store.people.enable(person, now=1000)
        assert name in peopled(CONFIGURED, store).users


async def configure(store: Store, **hashes: str) -> list[tuple[str, str]]:
    people = [Person(name=name, tenant="acme", scopes=(), password_hash=hashed) for name, hashed in hashes.items()]
    tenants = [KnownTenant(name="acme", title="", scopes=())]
    return await store.people.configure(tenants, people, now=1000)


async def test_what_ends_is_what_another_password_or_somebody_of_the_same_name_would_inherit(store: Store):
    assert await configure(store, alice="one", bob="one") == []
    assert await configure(store, alice="one", bob="one") == []
    assert await configure(store, alice="two", bob="one") == [("acme", "alice")]
    await added(store, name="carol")
    assert await configure(store, alice="two", bob="one", carol="another carol") == [("acme", "carol")]
    assert await configure(store, alice="two") == [("acme", "carol")]
