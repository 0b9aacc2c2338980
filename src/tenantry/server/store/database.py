"""One SQLite file: opened safely, brought up to date, asked and changed by one thread at a time."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

T = TypeVar("T")

BUSY_TIMEOUT_S = 10

DatabaseError = sqlite3.Error
"""What opening, asking or changing a database raises."""
StoreUnavailable = sqlite3.OperationalError
"""The medium is full or fails, or somebody holds the file: the same may work later."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make a SQLite file that only its owner can read, in WAL mode with a flush at each commit.

    Raises OSError or sqlite3.Error where that can't be done.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...]) -> None:
    """Bring the schema up to date, one transaction a step.

    Raises RuntimeError where the file was written by a newer tenantry.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise RuntimeError(f"the database has version {version}; this tenantry knows {len(migrations)}")
    for number, script in enumerate(migrations[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT")


class Database:
    """A connection that waits for nobody on the event loop's thread."""

    def __init__(self, connection: sqlite3.Connection, *, before_commit: Callable[[], None] = lambda: None) -> None:
        """Work on `connection`; what `before_commit` raises rolls a transaction back."""
        self._connection = connection
        self._before_commit = before_commit
        self._one_at_a_time = trio.CapacityLimiter(1)

    def close(self) -> None:
        """Close the file; nothing may be under way."""
        self._connection.close()

    async def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` inside one durable transaction; whatever it raises rolls everything back.

        Not abandoned when cancelled: half of a change is not an outcome.
        """

        return await trio.to_thread.run_sync(self.transaction_now, work, limiter=self._one_at_a_time)

    def transaction_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same in this thread. Blocking: for start-up, before anything is served."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self._connection)
            self._before_commit()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run questions that change nothing; all of them see one state, whoever else commits meanwhile."""
        return await trio.to_thread.run_sync(self._read_now, work, limiter=self._one_at_a_time)

    def _read_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._connection.execute("BEGIN")
        try:
            return work(self._connection)
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def run_now(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one statement's work in this thread. Blocking: for start-up, before anything is served."""
        return work(self._connection)
