"""Consents that are remembered: which scopes a person allowed a client to bring to one redirect URI."""

import sqlite3
from collections.abc import Collection

from tenantry.server.store.database import Database


class Consents:
    """What need not be asked again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(
        self,
        *,
        tenant: str,
        subject: str,
        client_id: str,
        redirect_uri: str,
        shown: Collection[str],
        granted: Collection[str],
        now: float,
    ) -> None:
        """Note a decision on the scopes in `shown`; what was allowed before and is not among them stays allowed."""
        key = (tenant, subject, client_id, redirect_uri)

        def work(connection: sqlite3.Connection) -> None:
            scopes = (_scopes(connection, key, since=0.0) - set(shown)) | set(granted)
            connection.execute(
                "INSERT OR REPLACE INTO remembered_consent VALUES (?, ?, ?, ?, ?, ?)",
                (*key, " ".join(sorted(scopes)), now),
            )

        await self._database.transaction(work)

    async def find(
        self, *, tenant: str, subject: str, client_id: str, redirect_uri: str, since: float
    ) -> frozenset[str]:
        """The scopes that are allowed by a decision of that time or later; none where there was no such decision."""
        key = (tenant, subject, client_id, redirect_uri)
        return await self._database.read(lambda connection: _scopes(connection, key, since=since))

    async def forget(self, *, tenant: str, subject: str, client_id: str) -> None:
        """Ask again from now on, wherever the client sends the answer."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM remembered_consent WHERE tenant = ? AND subject = ? AND client_id = ?",
                (tenant, subject, client_id),
            )

        await self._database.transaction(work)

    async def purge(self, *, before: float) -> None:
        """Drop the consents given before then (seconds since the epoch)."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM remembered_consent WHERE granted_at < ?", (before,))

        await self._database.transaction(work)


def _scopes(connection: sqlite3.Connection, key: tuple[str, str, str, str], *, since: float) -> frozenset[str]:
    row = connection.execute(
        "SELECT scope FROM remembered_consent"
        " WHERE tenant = ? AND subject = ? AND client_id = ? AND redirect_uri = ? AND granted_at >= ?",
        (*key, since),
    ).fetchone()
    return frozenset() if row is None else frozenset(row[0].split())
