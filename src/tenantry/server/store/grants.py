"""Authorization codes and the refresh families they begin; codes and tokens by digest only."""

import json
import sqlite3
from dataclasses import dataclass

from tenantry.oauth.token import CodeGrant, RefreshGrant
from tenantry.server.store.database import Database

# A redeemed code is remembered for a day, so that its replay still revokes what it gave.
REPLAY_MEMORY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGrant:
    """A refresh family that nobody has ended, and whose it is; times are seconds since the epoch."""

    family_id: str
    tenant: str
    subject: str
    client_id: str
    client_name: str
    """Empty where the client gave none, or is gone."""
    redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]
    since: float
    last_used: float
    """When the latest token was given."""
    refreshes: bool


class Grants:
    """What people granted to clients."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_code(self, digest: str, grant: CodeGrant, *, consent_id: str, now: float) -> bool:
        """Keep an authorization code; False if that consent has given one before."""

        def work(connection: sqlite3.Connection) -> bool:
            inserted = connection.execute(
                "INSERT INTO authorization_code (digest, consent_id, client_id, redirect_uri, challenge, scope, tenant,"
                " subject, family_id, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    *(digest, consent_id, grant.client_id, grant.redirect_uri, grant.challenge),
                    *(" ".join(grant.scopes), grant.tenant, grant.subject, grant.family_id, grant.expires_at),
                ),
            )
            connection.execute(
                "UPDATE client SET used_at = ?, unused_until = NULL, network = NULL, fingerprint = NULL"
                " WHERE client_id = ?",
                (now, grant.client_id),
            )
            return inserted.rowcount == 1

        return await self._database.transaction(work)

    async def find_code(self, digest: str) -> CodeGrant | None:
        """The authorization code of that digest, redeemed ones too, or None."""

        def work(connection: sqlite3.Connection) -> CodeGrant | None:
            row = connection.execute(
                "SELECT client_id, redirect_uri, challenge, scope, tenant, subject, family_id, expires_at, redeemed_at"
                " FROM authorization_code WHERE digest = ?",
                (digest,),
            ).fetchone()
            if row is None:
                return None
            return CodeGrant(
                client_id=row[0],
                redirect_uri=row[1],
                challenge=row[2],
                scopes=tuple(row[3].split()),
                tenant=row[4],
                subject=row[5],
                family_id=row[6],
                expires_at=row[7],
                redeemed=row[8] is not None,
            )

        return await self._database.read(work)

    async def redeem_code(self, digest: str, *, refresh_digest: str | None, now: float) -> bool:
        """Redeem a code and begin its refresh family; False if somebody was faster, and nothing has changed."""

        def work(connection: sqlite3.Connection) -> bool:
            redeemed = connection.execute(
                "UPDATE authorization_code SET redeemed_at = ? WHERE digest = ? AND redeemed_at IS NULL RETURNING"
                " family_id, client_id, scope, tenant, subject",
                (now, digest),
            ).fetchone()
            if redeemed is None:
                return False
            connection.execute(
                "INSERT INTO refresh_family (family_id, client_id, scope, tenant, subject, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (*redeemed, now),
            )
            if refresh_digest is not None:
                _insert_refresh_token(connection, refresh_digest, redeemed[0], now)
            return True

        return await self._database.transaction(work)

    async def find_refresh_token(self, digest: str) -> RefreshGrant | None:
        """The refresh token of that digest with its family, rotated and revoked ones too, or None."""

        def work(connection: sqlite3.Connection) -> RefreshGrant | None:
            row = connection.execute(
                "SELECT client_id, scope, tenant, subject, family_id, created_at, revoked_at, issued_at, rotated_at"
                " FROM refresh_token JOIN refresh_family USING (family_id) WHERE digest = ?",
                (digest,),
            ).fetchone()
            if row is None:
                return None
            return RefreshGrant(
                client_id=row[0],
                scopes=tuple(row[1].split()),
                tenant=row[2],
                subject=row[3],
                family_id=row[4],
                family_created_at=row[5],
                family_revoked=row[6] is not None,
                issued_at=row[7],
                rotated_at=row[8],
            )

        return await self._database.read(work)

    async def rotate_refresh_token(self, digest: str, *, successor_digest: str, now: float) -> bool:
        """Put the successor in the place of a refresh token; False if it is rotated or revoked already."""

        def work(connection: sqlite3.Connection) -> bool:
            rotated = connection.execute(
                "UPDATE refresh_token SET rotated_at = ? WHERE digest = ? AND rotated_at IS NULL AND family_id IN"
                " (SELECT family_id FROM refresh_family WHERE revoked_at IS NULL) RETURNING family_id",
                (now, digest),
            ).fetchone()
            if rotated is None:
                return False
            _insert_refresh_token(connection, successor_digest, rotated[0], now)
            connection.execute(
                "UPDATE client SET used_at = ? WHERE client_id ="
                " (SELECT client_id FROM refresh_family WHERE family_id = ?)",
                (now, rotated[0]),
            )
            return True

        return await self._database.transaction(work)

    async def standing(
        self, *, tenant: str | None = None, subject: str | None = None, client_id: str | None = None
    ) -> list[StoredGrant]:
        """The families that nobody has ended, oldest first; those alone that have all the given values."""
        wanted = {"tenant": tenant, "subject": subject, "client_id": client_id}
        where = "".join(f" AND refresh_family.{name} = :{name}" for name, value in wanted.items() if value is not None)

        def work(connection: sqlite3.Connection) -> list[StoredGrant]:
            rows = connection.execute(
                "SELECT family_id, tenant, subject, client_id, coalesce(metadata, '{}'), scope, created_at,"  # noqa: S608
                " coalesce(max(issued_at), created_at), count(issued_at) > count(rotated_at)"
                " FROM refresh_family LEFT JOIN (SELECT client_id, metadata FROM client) USING (client_id)"
                " LEFT JOIN refresh_token USING (family_id)"
                f" WHERE revoked_at IS NULL{where} GROUP BY family_id ORDER BY created_at",
                wanted,
            )
            return [_stored_grant(row) for row in rows]

        return await self._database.read(work)

    async def purge(self, *, now: float, family_s: float) -> None:
        """Drop codes and families beyond their life; `family_s` is the absolute lifetime of a family in seconds."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM authorization_code WHERE expires_at <= ?", (now - REPLAY_MEMORY_S,))
            connection.execute("DELETE FROM refresh_family WHERE created_at <= ?", (now - family_s - REPLAY_MEMORY_S,))

        await self._database.transaction(work)


def _stored_grant(row: tuple[str, str, str, str, str, str, float, float, int]) -> StoredGrant:
    family_id, tenant, subject, client_id, metadata, scope, since, last_used, refreshes = row
    client = json.loads(metadata)
    return StoredGrant(
        family_id=family_id,
        tenant=tenant,
        subject=subject,
        client_id=client_id,
        client_name=client.get("client_name", ""),
        redirect_uris=tuple(client.get("redirect_uris", ())),
        scopes=tuple(scope.split()),
        since=since,
        last_used=last_used,
        refreshes=bool(refreshes),
    )


def _insert_refresh_token(connection: sqlite3.Connection, digest: str, family_id: str, now: float) -> None:
    connection.execute(
        "INSERT INTO refresh_token (digest, family_id, issued_at) VALUES (?, ?, ?)", (digest, family_id, now)
    )
