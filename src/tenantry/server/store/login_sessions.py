"""Login sessions of browsers, by the digest of their cookie."""

import sqlite3

from tenantry.server.store.database import Database


class LoginSessions:
    """Who is logged in where."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, digest: str, *, tenant: str, subject: str, expires_at: float, instead_of: str | None) -> None:
        """Begin a login session, ending the one that the browser had before."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE digest = ?", (instead_of,))
            connection.execute("INSERT INTO login_session VALUES (?, ?, ?, ?)", (digest, tenant, subject, expires_at))

        await self._database.transaction(work)

    async def find(self, digest: str, *, now: float) -> tuple[str, str] | None:
        """Tenant and subject of a login session that has not expired, or None."""

        def work(connection: sqlite3.Connection) -> tuple[str, str] | None:
            query = "SELECT tenant, subject FROM login_session WHERE digest = ? AND expires_at > ?"
            row = connection.execute(query, (digest, now)).fetchone()
            return None if row is None else (row[0], row[1])

        return await self._database.read(work)

    async def end(self, digest: str) -> None:
        """Forget a login session."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE digest = ?", (digest,))

        await self._database.transaction(work)

    async def purge(self, *, now: float) -> None:
        """Drop the sessions that have expired."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM login_session WHERE expires_at <= ?", (now,))

        await self._database.transaction(work)
