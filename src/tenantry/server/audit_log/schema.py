"""What a log's file holds, and how its database refuses everything but growth.

Sequence numbers start at 1 and have no holes. A record's `leaf` is its hash in the tree; its `body` may become NULL
once a tombstone says so, and nothing else of what was written ever changes. `head` has the size and the root of the
tree after each commit, `tile` the hash over every 256 records, `checkpoint` what was signed. `denial` counts what is
not a record yet; its rows come and go.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from tenantry.server.store.database import migrate

FILE_NAME = "audit-0.db"
"""The server's log."""
ADMIN_FILE_NAME = "audit-admin.db"
"""What the command line changes is recorded here."""


def path_of(data: Path, name: str) -> Path:
    """Give where the log of that name is in a data directory."""
    return data / f"audit-{name}.db"


def logs_in(data: Path) -> list[Path]:
    """Give all logs of a data directory."""
    return sorted(data.glob("audit-*.db"))


def _append_only(table: str) -> str:
    refuse = "BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;"
    return (
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE ON {table} {refuse}"
        f"CREATE TRIGGER {table}_no_removal BEFORE DELETE ON {table} {refuse}"
    )


MIGRATIONS = (
    f"""
    CREATE TABLE record (seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL, body BLOB) STRICT;
    CREATE TABLE tile (number INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
    CREATE TABLE head (size INTEGER PRIMARY KEY, number INTEGER NOT NULL, root BLOB NOT NULL) STRICT;
    CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, number INTEGER NOT NULL, note TEXT NOT NULL) STRICT;
    CREATE TABLE pruning (seq INTEGER PRIMARY KEY, upto INTEGER NOT NULL) STRICT;
    CREATE TRIGGER record_no_hole BEFORE INSERT ON record
        WHEN new.body IS NULL OR new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM record)
        BEGIN SELECT raise(ABORT, 'the audit log has no holes'); END;
    CREATE TRIGGER record_no_removal BEFORE DELETE ON record
        BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
    CREATE TRIGGER record_no_change BEFORE UPDATE ON record
        WHEN new.seq IS NOT old.seq OR new.leaf IS NOT old.leaf OR new.body IS NOT NULL
            OR old.seq > (SELECT coalesce(max(upto), 0) FROM pruning)
        BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END;
    {_append_only("tile")}
    {_append_only("head")}
    {_append_only("checkpoint")}
    {_append_only("pruning")}
    """,  # noqa: S608  # the tables' names stand in this file
    """
    CREATE TABLE denial (about TEXT PRIMARY KEY, count INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL)
    STRICT;
    """,
)


def has_expected_schema(connection: sqlite3.Connection) -> bool:
    """Tell whether a log has all tables and triggers as this version makes them, and no others."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        migrate(model, MIGRATIONS)
        return _schema_of(connection) == _schema_of(model)


def _schema_of(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    version = connection.execute("PRAGMA user_version").fetchone()
    parts = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    return [version, *parts]
