"""The server's own secrets."""

import sqlite3
from collections.abc import Callable

from tenantry.server.store.database import Database


class Secrets:
    """Secrets by name, made once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, *, make: Callable[[], bytes], now: int) -> bytes:
        """Give back the secret of that name, keeping what `make` gives where there is none yet.

        Blocking: for start-up, before anything is served.
        """

        def work(connection: sqlite3.Connection) -> bytes:
            connection.execute("INSERT OR IGNORE INTO secret VALUES (?, ?, ?)", (name, make(), now))
            (value,) = connection.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
            return bytes(value)

        return self._database.run_now(work)
