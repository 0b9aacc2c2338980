"""Tasks, as they are told to their owners."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from tenantry.server.store.database import Database


@dataclass(slots=True, kw_only=True)
class StoredTask:
    """One task as it is kept: whose it is, and what `tasks/get` says of it."""

    id: str
    binding: tuple[str, str, str]
    expires_at: float
    """Seconds since the epoch."""
    body: dict[str, Any]
    runner: str
    """The life of the process that runs it."""
    ended: bool = False


class Tasks:
    """The tasks of everybody, each found by its owner alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, task: StoredTask, *, most: int) -> bool:
        """Keep a new task; False, and nothing is kept, where as many of that person's have not ended yet."""

        def work(connection: sqlite3.Connection) -> bool:
            query = "SELECT count(*) FROM task WHERE NOT ended AND tenant = ? AND subject = ?"
            (count,) = connection.execute(query, task.binding[:2]).fetchone()
            if count < most:
                _save(connection, task)
            return bool(count < most)

        return await self._database.transaction(work)

    async def save(self, task: StoredTask) -> None:
        """Keep a task as it stands; one that has ended stays as it ended."""
        await self._database.transaction(lambda connection: _save(connection, task))

    async def find(self, id_: str, binding: tuple[str, str, str]) -> StoredTask | None:
        """Give a task of that tenant, subject and client; anybody else's is not found."""

        def work(connection: sqlite3.Connection) -> StoredTask | None:
            row = connection.execute(
                "SELECT expires_at, body, ended, runner FROM task"
                " WHERE id = ? AND tenant = ? AND subject = ? AND client = ?",
                (id_, *binding),
            ).fetchone()
            if row is None:
                return None
            return StoredTask(
                id=id_,
                binding=binding,
                expires_at=row[0],
                body=json.loads(row[1]),
                ended=bool(row[2]),
                runner=row[3],
            )

        return await self._database.read(work)

    async def unended(self) -> list[StoredTask]:
        """Give all tasks that have not ended."""

        def work(connection: sqlite3.Connection) -> list[StoredTask]:
            rows = connection.execute(
                "SELECT id, tenant, subject, client, expires_at, body, runner FROM task WHERE NOT ended"
            ).fetchall()
            return [
                StoredTask(
                    id=row[0],
                    binding=(row[1], row[2], row[3]),
                    expires_at=row[4],
                    body=json.loads(row[5]),
                    runner=row[6],
                )
                for row in rows
            ]

        return await self._database.read(work)

    async def purge(self, *, now: float) -> None:
        """Forget the tasks whose time is over."""
        await self._database.transaction(
            lambda connection: connection.execute("DELETE FROM task WHERE expires_at < ? AND ended", (now,))
        )


def _save(connection: sqlite3.Connection, task: StoredTask) -> None:
    connection.execute(
        "INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " expires_at = excluded.expires_at, body = excluded.body, ended = excluded.ended WHERE NOT task.ended",
        (task.id, *task.binding, task.expires_at, json.dumps(task.body), task.ended, task.runner),
    )
