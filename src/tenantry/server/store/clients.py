"""Registered OAuth clients."""

import json
import sqlite3
from typing import Any

from tenantry.oauth.clients import Client, client_of
from tenantry.server.store.database import Database

# A registration that nobody ever consented to.
UNUSED_CLIENT_S = 7 * 86_400


class Clients:
    """Clients by their id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, client_id: str, metadata: dict[str, Any], *, now: float) -> None:
        """Keep a registered client."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO client (client_id, metadata, registered_at) VALUES (?, ?, ?)",
                (client_id, json.dumps(metadata), now),
            )

        await self._database.transaction(work)

    async def find(self, client_id: str) -> Client | None:
        """The client of that id, or None."""

        def work(connection: sqlite3.Connection) -> Client | None:
            query = "SELECT metadata FROM client WHERE client_id = ?"
            row = connection.execute(query, (client_id,)).fetchone()
            return None if row is None else client_of(client_id, json.loads(row[0]))

        return await self._database.read(work)

    async def purge(self, *, now: float, family_s: float) -> None:
        """Drop registrations without use; `family_s` is the absolute lifetime of a refresh family in seconds.

        A client that somebody consented to is kept for as long as a family may live, because clients keep their
        id and take its loss for a failure of the server.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM client WHERE coalesce(used_at + ?, registered_at + ?) <= ? AND NOT EXISTS"
                " (SELECT 1 FROM refresh_family WHERE refresh_family.client_id = client.client_id)",
                (family_s, UNUSED_CLIENT_S, now),
            )

        await self._database.transaction(work)
