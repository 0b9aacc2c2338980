"""The keys that access tokens are signed with."""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from tenantry.server.store.announcements import Kind, announce
from tenantry.server.store.database import Database

# A key that no longer verifies is shown for this long, for whoever asks what happened.
KEEP_S = 30 * 86_400


class StoredKey(NamedTuple):
    """One key as it is kept; times are seconds since the epoch."""

    kid: str
    private: bytes
    """PKCS 8, DER."""
    signs_from: float
    retired_at: float | None = None


class SigningKeys:
    """The keys, in the order in which they sign."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, make: Callable[[bytes | None], StoredKey]) -> None:
        """Keep a first key where there is none; `make` is given the one of a store before rotation, or None.

        Blocking: for start-up, before anything is served.
        """

        def work(connection: sqlite3.Connection) -> None:
            if read(connection):
                return
            old = connection.execute("DELETE FROM secret WHERE name = 'access-token-es256' RETURNING value").fetchone()
            connection.execute("INSERT INTO signing_key VALUES (?, ?, ?, ?)", make(None if old is None else old[0]))

        self._database.transaction_now(work)

    async def add(self, key: StoredKey, *, now: float) -> None:
        """Keep a further key, and forget those that stopped signing long ago."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM signing_key WHERE EXISTS (SELECT 1 FROM signing_key AS next WHERE next.retired_at IS NULL"
                " AND next.signs_from > signing_key.signs_from AND next.signs_from < ?)",
                (now - KEEP_S,),
            )
            connection.execute("INSERT INTO signing_key VALUES (?, ?, ?, ?)", key)
            announce(connection, Kind.KEYS_CHANGED, now=now)

        await self._database.transaction(work)

    async def retire(self, kid: str, *, now: float) -> None:
        """Take a key away before its time."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE signing_key SET retired_at = ? WHERE kid = ? AND retired_at IS NULL", (now, kid))
            announce(connection, Kind.KEYS_CHANGED, now=now)

        await self._database.transaction(work)


def read(connection: sqlite3.Connection) -> list[StoredKey]:
    """All keys, in the order in which they sign."""
    rows = connection.execute("SELECT kid, private, signs_from, retired_at FROM signing_key ORDER BY signs_from, rowid")
    return [StoredKey(*row) for row in rows]
