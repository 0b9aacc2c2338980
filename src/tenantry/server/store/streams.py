"""What was sent on the streams of MCP sessions, for redelivery."""

import json
import sqlite3
from dataclasses import dataclass

from tenantry.jsonrpc import Id
from tenantry.server.store.database import Database


@dataclass(frozen=True, slots=True)
class StoredStream:
    """One stream of a session: what it answers, None for the standalone one, and whether it is over."""

    request_id: Id | None
    finished: bool
    writer: str
    """The life of the process that writes it."""


class Streams:
    """The streams of all sessions with their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, session: bytes, name: str, request_id: Id | None, *, writer: str) -> int:
        """Begin a stream, or go on with it; give the number of its last event, 0 where it has none."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT INTO mcp_stream (session, name, request_id, writer) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET writer = excluded.writer",
                (session, name, json.dumps(request_id), writer),
            )
            (last,) = connection.execute(
                "SELECT coalesce(max(number), 0) FROM mcp_event WHERE session = ? AND stream = ?", (session, name)
            ).fetchone()
            return int(last)

        return await self._database.transaction(work)

    async def add_event(self, session: bytes, stream: str, message: bytes, *, final: bool, keep: int) -> int:
        """Keep one event and give its number; the session's oldest beyond `keep` give way.

        0 where the session has ended meanwhile: the event is dropped.
        """

        def work(connection: sqlite3.Connection) -> int:
            numbered = connection.execute(
                "INSERT INTO mcp_event (session, stream, number, message) SELECT session, name,"
                " (SELECT coalesce(max(number), 0) + 1 FROM mcp_event"
                " WHERE mcp_event.session = mcp_stream.session AND stream = name), ?"
                " FROM mcp_stream WHERE session = ? AND name = ? RETURNING number",
                (message, session, stream),
            ).fetchone()
            connection.execute(
                "DELETE FROM mcp_event WHERE seq IN"
                " (SELECT seq FROM mcp_event WHERE session = ? ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                (session, keep),
            )
            if final:
                connection.execute(
                    "UPDATE mcp_stream SET finished = 1 WHERE session = ? AND name = ?", (session, stream)
                )
                connection.execute(
                    "DELETE FROM mcp_stream WHERE session = ? AND finished AND NOT EXISTS"
                    " (SELECT 1 FROM mcp_event WHERE session = mcp_stream.session AND stream = mcp_stream.name)",
                    (session,),
                )
            return 0 if numbered is None else int(numbered[0])

        return await self._database.transaction(work)

    async def finish(self, session: bytes, name: str) -> None:
        """Note that nothing follows on a stream."""
        await self._database.transaction(
            lambda connection: connection.execute(
                "UPDATE mcp_stream SET finished = 1 WHERE session = ? AND name = ?", (session, name)
            )
        )

    async def find(self, session: bytes, name: str) -> StoredStream | None:
        """Give a stream of a session."""

        def work(connection: sqlite3.Connection) -> StoredStream | None:
            row = connection.execute(
                "SELECT request_id, finished, writer FROM mcp_stream WHERE session = ? AND name = ?", (session, name)
            ).fetchone()
            return None if row is None else StoredStream(json.loads(row[0]), finished=bool(row[1]), writer=row[2])

        return await self._database.read(work)

    async def read_events(self, session: bytes, stream: str, after: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Give the events behind a number, and whether the stream is finished."""

        def work(connection: sqlite3.Connection) -> tuple[list[tuple[int, bytes]], bool]:
            rows = connection.execute(
                "SELECT number, message FROM mcp_event WHERE session = ? AND stream = ? AND number > ? ORDER BY number",
                (session, stream, after),
            ).fetchall()
            ended = connection.execute(
                "SELECT finished FROM mcp_stream WHERE session = ? AND name = ?", (session, stream)
            ).fetchone()
            return rows, ended is None or bool(ended[0])

        return await self._database.read(work)
