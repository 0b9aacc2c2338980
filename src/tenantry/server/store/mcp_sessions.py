"""MCP sessions, by the digest of their id."""

import json
import sqlite3
from collections.abc import Sequence

from tenantry.mcp.session import Session, State
from tenantry.server.store.database import Database


class McpSessions:
    """Who has a session, in which state, and what its client told of itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, session: Session, *, per_tenant: int, per_person: int) -> list[bytes]:
        """Keep a new session; end those unheard of for longest beyond the caps, and give their digests."""
        tenant, subject, client = session.binding

        def work(connection: sqlite3.Connection) -> list[bytes]:
            connection.execute(
                "INSERT INTO mcp_session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(session.digest, tenant, subject, client, session.revision, session.state.value),
                    *(session.last_seen, _client_side(session), session.family),
                ),
            )
            surplus = _surplus(connection, "tenant = ? AND subject = ?", (tenant, subject), per_person)
            surplus += _surplus(connection, "tenant = ?", (tenant,), per_tenant)
            return surplus

        return await self._database.transaction(work)

    async def find(self, digest: bytes) -> Session | None:
        """Give the session of that digest."""

        def work(connection: sqlite3.Connection) -> Session | None:
            row = connection.execute("SELECT * FROM mcp_session WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                return None
            _, tenant, subject, client, revision, state, last_seen, side, family = row
            kept = json.loads(side)
            return Session(
                digest=digest,
                binding=(tenant, subject, client),
                revision=revision,
                state=State(state),
                last_seen=last_seen,
                family=family,
                capabilities=kept.get("capabilities", {}),
                log_level=kept.get("log_level"),
                subscriptions=set(kept.get("subscriptions", [])),
            )

        return await self._database.read(work)

    async def touch(self, sessions: Sequence[Session]) -> None:
        """Note when sessions were last seen, where no other process has seen them later."""
        rows = [(session.last_seen, session.digest) for session in sessions]
        await self._database.transaction(
            lambda connection: connection.executemany(
                "UPDATE mcp_session SET last_seen = max(last_seen, ?) WHERE digest = ?", rows
            )
        )

    async def save(self, session: Session) -> None:
        """Keep what a session's requests have changed of it; one that was ended meanwhile stays ended."""
        row = (session.state.value, session.last_seen, _client_side(session), session.family, session.digest)
        await self._database.transaction(
            lambda connection: connection.execute(
                "UPDATE mcp_session SET state = ?, last_seen = max(last_seen, ?), client_side = ?, family = ?"
                " WHERE digest = ?",
                row,
            )
        )

    async def end(self, digest: bytes) -> None:
        """Forget a session."""
        await self._database.transaction(
            lambda connection: connection.execute("DELETE FROM mcp_session WHERE digest = ?", (digest,))
        )

    async def expire(self, before: int) -> list[bytes]:
        """Forget the sessions last seen before then (seconds since the epoch), and give their digests."""
        return await self._database.transaction(
            lambda connection: [
                row[0]
                for row in connection.execute(
                    "DELETE FROM mcp_session WHERE last_seen < ? RETURNING digest", (before,)
                ).fetchall()
            ]
        )


def _surplus(connection: sqlite3.Connection, condition: str, values: tuple[str, ...], keep: int) -> list[bytes]:
    # `condition` is one of two constants above; all values are bound.
    return [
        row[0]
        for row in connection.execute(
            f"DELETE FROM mcp_session WHERE digest IN (SELECT digest FROM mcp_session WHERE {condition}"  # noqa: S608
            " ORDER BY last_seen DESC, rowid DESC LIMIT -1 OFFSET ?) RETURNING digest",
            (*values, keep),
        ).fetchall()
    ]


def _client_side(session: Session) -> str:
    return json.dumps(
        {
            "capabilities": session.capabilities,
            "log_level": session.log_level,
            "subscriptions": sorted(session.subscriptions),
        }
    )
