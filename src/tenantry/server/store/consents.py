"""Consents that are remembered: which scopes a person allowed a client to bring to one redirect URI."""

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from tenantry.server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedConsent:
    """What a person need not be asked again; `since` is seconds since the epoch."""

    client_id: str
    client_name: str
    """Empty where the client gave none, or is gone."""
    redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]
    since: float


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

    async def of(self, tenant: str, subject: str, *, since: float) -> list[RememberedConsent]:
        """A person's consents of that time or later, oldest first."""

        def work(connection: sqlite3.Connection) -> list[RememberedConsent]:
            rows = connection.execute(
                "SELECT client_id, coalesce(metadata, '{}'), redirect_uri, scope, granted_at"
                " FROM remembered_consent LEFT JOIN (SELECT client_id, metadata FROM client) USING (client_id)"
                " WHERE tenant = ? AND subject = ? AND granted_at >= ? ORDER BY granted_at",
                (tenant, subject, since),
            )
            return [
                RememberedConsent(
                    client_id=client_id,
                    client_name=json.loads(metadata).get("client_name", ""),
                    redirect_uris=(redirect_uri,),
                    scopes=tuple(scope.split()),
                    since=granted_at,
                )
                for client_id, metadata, redirect_uri, scope, granted_at in rows
            ]

        return await self._database.read(work)

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
