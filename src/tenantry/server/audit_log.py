"""The audit log on disk: a SQLite file that can only grow, flushed at each commit, and its reading side.

Sequence numbers start at 1 and have no holes; the database itself refuses changes, removals and jumps.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tenantry.audit import record
from tenantry.server.store.database import migrate, open_database

FILE_NAME = "audit-0.db"

_MIGRATIONS = (
    """
    CREATE TABLE record (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TRIGGER no_change BEFORE UPDATE ON record
        BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER no_removal BEFORE DELETE ON record
        BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER no_hole BEFORE INSERT ON record
        WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM record)
        BEGIN SELECT raise(ABORT, 'the audit log has no holes'); END;
    """,
)


class AuditLogUnreadable(Exception):
    """The log can't be read, or holds what is no record."""


class AuditLog:
    """The writing side: one process has it open, one thread at a time commits."""

    def __init__(self, path: Path) -> None:
        """Open or make the log at `path`; raises OSError, sqlite3.Error or RuntimeError where that can't be done."""
        self._connection = open_database(path)
        migrate(self._connection, _MIGRATIONS)
        _flush_directory(path.parent)
        (last,) = self._connection.execute("SELECT coalesce(max(seq), 0) FROM record").fetchone()
        self._last: int = last

    def commit(self, entries: Sequence[bytes]) -> None:
        """Append the entries in their order; when this returns they are on the disk (WAL, synchronous FULL).

        Raises sqlite3.Error where they are not; the log must then not be written to again.
        """
        first = self._last + 1
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO record VALUES (?, ?)", enumerate(entries, start=first))
        self._connection.execute("COMMIT")
        self._last += len(entries)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _flush_directory(directory: Path) -> None:
    # A file's name is durable only once its directory was flushed.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, *, after: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give sequence number and stored bytes of each record behind `after`, in order, beside a running writer.

    Raises `AuditLogUnreadable` where the file can't be read.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            yield from connection.execute("SELECT seq, body FROM record WHERE seq > ? ORDER BY seq", (after,))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise AuditLogUnreadable(f"the file can't be read: {error}") from error


def matching(
    path: Path,
    *,
    tenant: str | None = None,
    kind: str | None = None,
    tool: str | None = None,
    since_us: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Give the decoded records that have all the given values, each with its sequence number as `seq`.

    Raises `AuditLogUnreadable` where the file can't be read, and at a malformed record.
    """
    wanted = {name: value for name, value in (("tenant", tenant), ("kind", kind), ("tool", tool)) if value is not None}
    for seq, body in read(path):
        entry = _decode(seq, body)
        if all(entry.get(name) == value for name, value in wanted.items()) and entry["time"] >= (since_us or 0):
            yield {"seq": seq, **entry}


def verify(path: Path) -> tuple[int, str | None]:
    """Read the whole log: give how many records stand without fault, and what is wrong behind them or None."""
    count = 0
    try:
        for seq, body in read(path):
            if seq != count + 1:
                return count, f"record {count + 1} is missing; the next one is {seq}"
            _decode(seq, body)
            count += 1
    except AuditLogUnreadable as error:
        return count, str(error)
    return count, None


def _decode(seq: int, body: bytes) -> dict[str, Any]:
    try:
        return record.decode(body)
    except ValueError as error:
        raise AuditLogUnreadable(f"record {seq} is malformed: {error}") from None
