"""Registered OAuth clients.

A registration that nobody consented to yet is unused: it has `unused_until`, the network it came from, and the
fingerprint by which an identical one is recognised. All three go with the first consent.
"""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from tenantry.oauth.clients import Client, ServiceAccount, client_of
from tenantry.oauth.metadata import CLIENT_CREDENTIALS
from tenantry.server.store.announcements import Kind, announce
from tenantry.server.store.database import Database

# Binds :families_since; a family that is older can't be refreshed any more.
_IN_USE = (
    "EXISTS (SELECT 1 FROM refresh_family WHERE refresh_family.client_id = client.client_id"
    " AND revoked_at IS NULL AND created_at > :families_since)"
)
# Whoever sent the most, and of those alike the one whose oldest is the oldest; counted as they come and go
# (`unused_of_network`), for to count ten thousand takes longer than all the rest of a registration.
_LOUDEST = (
    "SELECT network FROM unused_of_network AS loud WHERE count = (SELECT max(count) FROM unused_of_network) ORDER BY"
    " (SELECT min(unused_until) FROM client WHERE client.network = loud.network AND unused_until IS NOT NULL) LIMIT 1"
)
# So that a flood pushes out its own oldest and nobody else's.
_MAKE_ROOM = (
    "DELETE FROM client WHERE client_id = (SELECT client_id FROM client"  # noqa: S608
    f" WHERE unused_until IS NOT NULL AND network = ({_LOUDEST}) ORDER BY unused_until LIMIT 1)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What a registration led to."""

    client_id: str
    issued_at: float
    """Seconds since the epoch."""
    anew: bool
    """Whether the id was made for this request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClient:
    """A client as the command line lists it; times are seconds since the epoch."""

    client_id: str
    name: str
    """Empty where the client gave none."""
    redirect_uris: tuple[str, ...]
    registered_at: float
    used_at: float | None
    """When something was granted to it last."""


class Clients:
    """Clients by their id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(
        self,
        client_id: str,
        metadata: dict[str, Any],
        *,
        network: str,
        fingerprint: str | None,
        now: float,
        unused_s: float,
        keep: int,
        secret_digest: str | None = None,
    ) -> Registered:
        """Keep a registration for `unused_s` seconds, or prolong the unused one of that fingerprint.

        Without a fingerprint nothing is prolonged. At most `keep` unused ones are stored. Clients in use don't count
        and never give way: nobody can shut others out by filling the store.
        """

        def work(connection: sqlite3.Connection) -> Registered:
            connection.execute("DELETE FROM client WHERE unused_until <= ?", (now,))
            known = connection.execute(
                "UPDATE client SET unused_until = ? WHERE fingerprint = ? AND unused_until IS NOT NULL"
                " RETURNING client_id, registered_at",
                (now + unused_s, fingerprint),
            ).fetchone()
            if known is not None:
                return Registered(client_id=known[0], issued_at=known[1], anew=False)
            (unused,) = connection.execute("SELECT total(count) FROM unused_of_network").fetchone()
            if unused >= keep:
                connection.execute(_MAKE_ROOM)
            connection.execute(
                "INSERT INTO client"
                " (client_id, metadata, registered_at, unused_until, network, fingerprint, secret_digest)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (client_id, json.dumps(metadata), now, now + unused_s, network, fingerprint, secret_digest),
            )
            return Registered(client_id=client_id, issued_at=now, anew=True)

        return await self._database.transaction(work)

    async def add(self, client_id: str, metadata: dict[str, Any], *, now: float) -> None:
        """Keep a client that is in use, or what is said of it by now."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO client (client_id, metadata, registered_at, used_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (client_id) DO UPDATE SET metadata = excluded.metadata, used_at = excluded.used_at",
                (client_id, json.dumps(metadata), now, now),
            )

        await self._database.transaction(work)

    async def find(self, client_id: str) -> Client | None:
        """The client of that id, or None."""

        def work(connection: sqlite3.Connection) -> Client | None:
            query = "SELECT metadata, secret_digest, tenant, scope FROM client WHERE client_id = ?"
            row = connection.execute(query, (client_id,)).fetchone()
            if row is None:
                return None
            service = None if row[2] is None else ServiceAccount(tenant=row[2], scopes=tuple(row[3].split()))
            return client_of(client_id, json.loads(row[0]), secret_digest=row[1], service=service)

        return await self._database.read(work)

    async def add_service(
        self, client_id: str, service: ServiceAccount, *, name: str, secret_digest: str, now: float
    ) -> None:
        """Keep a service account; it has no use that could age, so it stays until it is ended."""
        metadata = {"client_name": name, "redirect_uris": [], "grant_types": [CLIENT_CREDENTIALS]}

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO client (client_id, metadata, registered_at, secret_digest, tenant, scope)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (client_id, json.dumps(metadata), now, secret_digest, service.tenant, " ".join(service.scopes)),
            )
            announce(connection, Kind.PEOPLE_CHANGED, now=now)

        await self._database.transaction(work)

    async def everyone(self) -> list[StoredClient]:
        """All clients, oldest first."""

        def work(connection: sqlite3.Connection) -> list[StoredClient]:
            rows = connection.execute(
                "SELECT client_id, metadata, registered_at, used_at FROM client ORDER BY registered_at"
            )
            return [
                StoredClient(
                    client_id=client_id,
                    name=json.loads(metadata).get("client_name", ""),
                    redirect_uris=tuple(json.loads(metadata)["redirect_uris"]),
                    registered_at=registered_at,
                    used_at=used_at,
                )
                for client_id, metadata, registered_at, used_at in rows
            ]

        return await self._database.read(work)

    async def purge(self, *, now: float, family_s: float, idle_s: float) -> None:
        """Drop registrations that were never used in their time, and clients without use for `idle_s` seconds.

        A client with a refresh family that is alive stays, because clients keep their id and take its loss for a
        failure of the server; `family_s` is how long a family may live.
        """

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM client WHERE unused_until <= ?", (now,))
            connection.execute(
                f"DELETE FROM client WHERE used_at <= :idle_since AND NOT {_IN_USE}",  # noqa: S608
                {"idle_since": now - idle_s, "families_since": now - family_s},
            )

        await self._database.transaction(work)


def services(connection: sqlite3.Connection) -> dict[str, ServiceAccount]:
    """All service accounts by client id."""
    rows = connection.execute("SELECT client_id, tenant, scope FROM client WHERE tenant IS NOT NULL")
    return {row[0]: ServiceAccount(tenant=row[1], scopes=tuple(row[2].split())) for row in rows}
