"""People: those whom an operator added by command, those who are disabled, and what the command line knows of the rest.

The configuration stays the configuration's: the server notes down who is in it, so that commands can tell.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from tenantry.oauth.token import digest
from tenantry.server.store.announcements import Kind, announce
from tenantry.server.store.database import Database
from tenantry.server.store.endings import end_subject


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTenant:
    """A tenant of the configuration, with every scope that something in it needs."""

    name: str
    title: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who may log in, and the most that can be granted to them."""

    name: str
    tenant: str
    scopes: tuple[str, ...]
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPerson:
    """Somebody as the command line lists them."""

    name: str
    tenant: str
    scopes: tuple[str, ...]
    configured: bool
    """Whether they stand in the configuration, where alone they can be changed."""
    disabled: bool


class People:
    """Who was added, who is disabled, who is configured; every change is announced in its own transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def configure(
        self, tenants: Iterable[KnownTenant], people: Iterable[Person], *, now: float
    ) -> list[tuple[str, str]]:
        """Note down who is configured by now; end all of those whose tenant or password differs, and give them."""
        known_tenants = [(tenant.name, tenant.title, " ".join(tenant.scopes)) for tenant in tenants]
        known_people = [
            (person.name, person.tenant, " ".join(person.scopes), digest(person.password_hash)) for person in people
        ]

        def work(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            before = _credentials(connection)
            connection.execute("DELETE FROM known_tenant")
            connection.executemany("INSERT INTO known_tenant VALUES (?, ?, ?)", known_tenants)
            connection.execute("DELETE FROM configured_person")
            connection.executemany("INSERT INTO configured_person VALUES (?, ?, ?, ?)", known_people)
            after = _credentials(connection)
            changed = [
                (tenant, name)
                for name, (tenant, credential) in before.items()
                if name in after and after[name] != (tenant, credential)
            ]
            for tenant, name in changed:
                end_subject(connection, tenant, name, now=now)
            return changed

        return await self._database.transaction(work)

    async def tenants(self) -> list[KnownTenant]:
        """The configured tenants, by name."""

        def work(connection: sqlite3.Connection) -> list[KnownTenant]:
            rows = connection.execute("SELECT name, title, scope FROM known_tenant ORDER BY name")
            return [KnownTenant(name=name, title=title, scopes=tuple(scope.split())) for name, title, scope in rows]

        return await self._database.read(work)

    async def everybody(self) -> list[KnownPerson]:
        """All people, by name; the configured one where a name is there twice."""

        def work(connection: sqlite3.Connection) -> list[KnownPerson]:
            rows = connection.execute(
                "SELECT name, tenant, scope, 1, name IN (SELECT name FROM disabled_person) FROM configured_person"
                " UNION ALL"
                " SELECT name, tenant, scope, 0, name IN (SELECT name FROM disabled_person) FROM added_person"
                " WHERE name NOT IN (SELECT name FROM configured_person) ORDER BY name"
            )
            return [
                KnownPerson(
                    name=name,
                    tenant=tenant,
                    scopes=tuple(scope.split()),
                    configured=bool(configured),
                    disabled=bool(disabled),
                )
                for name, tenant, scope, configured, disabled in rows
            ]

        return await self._database.read(work)

    async def find(self, name: str) -> KnownPerson | None:
        """The person of that name, or None."""
        return next((person for person in await self.everybody() if person.name == name), None)

    async def add(self, person: Person, *, now: float) -> None:
        """Add somebody; raises `sqlite3.IntegrityError` where somebody was added by that name before."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO added_person VALUES (?, ?, ?, ?)",
                (person.name, person.tenant, " ".join(person.scopes), person.password_hash),
            )
            announce(connection, Kind.PEOPLE_CHANGED, now=now)

        await self._database.transaction(work)

    async def set_password(self, person: KnownPerson, password_hash: str, *, now: float) -> None:
        """Give somebody who was added another password, and end what they granted and where they are logged in."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE added_person SET password_hash = ? WHERE name = ?", (password_hash, person.name))
            end_subject(connection, person.tenant, person.name, now=now)
            announce(connection, Kind.PEOPLE_CHANGED, now=now)

        await self._database.transaction(work)

    async def disable(self, person: KnownPerson, *, now: float) -> None:
        """Let somebody do nothing any more, and end what they granted and where they are logged in."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO disabled_person VALUES (?)", (person.name,))
            end_subject(connection, person.tenant, person.name, now=now)
            announce(connection, Kind.PEOPLE_CHANGED, now=now)

        await self._database.transaction(work)

    async def enable(self, person: KnownPerson, *, now: float) -> None:
        """Let somebody log in again; what was ended stays ended."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM disabled_person WHERE name = ?", (person.name,))
            announce(connection, Kind.PEOPLE_CHANGED, now=now)

        await self._database.transaction(work)


def beside_the_configured(connection: sqlite3.Connection) -> tuple[list[Person], frozenset[str]]:
    """Everybody who was added, and the names of the disabled."""
    rows = connection.execute("SELECT name, tenant, scope, password_hash FROM added_person ORDER BY name")
    added = [
        Person(name=name, tenant=tenant, scopes=tuple(scope.split()), password_hash=password_hash)
        for name, tenant, scope, password_hash in rows
    ]
    return added, frozenset(name for (name,) in connection.execute("SELECT name FROM disabled_person"))


def _credentials(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """Tenant and digest of the password hash of everybody; the configured one where a name is there twice."""
    added = connection.execute("SELECT name, tenant, password_hash FROM added_person")
    configured = connection.execute("SELECT name, tenant, credential FROM configured_person")
    return {
        **{name: (tenant, digest(password_hash)) for name, tenant, password_hash in added},
        **{name: (tenant, credential) for name, tenant, credential in configured},
    }
