"""Audit logs as somebody leaves them who can write to the file."""

import sqlite3
from contextlib import closing
from pathlib import Path


def tamper(path: Path, *statements: str) -> None:
    """Change a log past its triggers, which stand again afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for _, table, script in triggers:
            if table in tables:
                connection.execute(script)
