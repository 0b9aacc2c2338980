"""Login sessions of browsers, by the digest of their cookie."""

import sqlite3
from dataclasses import dataclass

from tenantry.server.store.database import Database


@dataclass(frozen=True, slots=True)
class StoredLoginSession:
    """One login session; times are seconds since the epoch."""

    digest: str
    peer: str
    since: float
    until: float


class LoginSessions:
    """Who is logged in where."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        digest: str,
        *,
        tenant: str,
        subject: str,
        peer: str,
        now: float,
        expires_at: float,
        instead_of: str | None,
    ) -> None:
        """Begin a login session, ending the one that the browser had before; `peer` is where the person is."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE digest = ?", (instead_of,))
            connection.execute(
                "INSERT INTO login_session (digest, tenant, subject, expires_at, began_at, peer)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (digest, tenant, subject, expires_at, now, peer),
            )

        await self._database.transaction(work)

    async def find(self, digest: str, *, now: float) -> tuple[str, str] | None:
        """Tenant and subject of a login session that has not expired, or None."""

        def work(connection: sqlite3.Connection) -> tuple[str, str] | None:
            query = "SELECT tenant, subject FROM login_session WHERE digest = ? AND expires_at > ?"
            row = connection.execute(query, (digest, now)).fetchone()
            return None if row is None else (row[0], row[1])

        return await self._database.read(work)

    async def of(self, tenant: str, subject: str, *, now: float) -> list[StoredLoginSession]:
        """A person's login sessions that have not expired, the latest first."""

        def work(connection: sqlite3.Connection) -> list[StoredLoginSession]:
            rows = connection.execute(
                "SELECT digest, peer, began_at, expires_at FROM login_session"
                " WHERE tenant = ? AND subject = ? AND expires_at > ? ORDER BY began_at DESC, rowid DESC",
                (tenant, subject, now),
            )
            return [StoredLoginSession(*row) for row in rows]

        return await self._database.read(work)

    async def end(self, digest: str, *, tenant: str, subject: str) -> bool:
        """Forget a login session of that person; False if there is none."""

        def work(connection: sqlite3.Connection) -> bool:
            query = "DELETE FROM login_session WHERE digest = ? AND tenant = ? AND subject = ?"
            return connection.execute(query, (digest, tenant, subject)).rowcount == 1

        return await self._database.transaction(work)

    async def purge(self, *, now: float) -> None:
        """Drop the sessions that have expired."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE expires_at <= ?", (now,))

        await self._database.transaction(work)
