"""How a commit reaches the file: all of its rows in one statement.

Between two statements the thread that commits must get the interpreter back from the event loop, which is busy just
when there is much to commit; a commit of ten statements waits for it ten times, and so does everyone whose record is
in it. A statement of its own is a transaction of its own: the flush is in it.
"""

import sqlite3
from collections.abc import Sequence

Growth = tuple[str, int, object, object]
"""The table, and the values of its row."""

_COLUMNS = {"record": 3, "tile": 2, "head": 3, "checkpoint": 3}


def make_growth(connection: sqlite3.Connection) -> None:
    """Give this connection, not the file, a view that hands each row that is put into it to its table."""
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("CREATE TEMP VIEW growth AS SELECT NULL AS place, NULL AS a, NULL AS b, NULL AS c WHERE FALSE")
    for table, columns in _COLUMNS.items():
        values = ", ".join(f"new.{name}" for name in "abc"[:columns])
        body = f"INSERT INTO {table} VALUES ({values})"  # noqa: S608  # the names are those above
        connection.execute(
            f"CREATE TEMP TRIGGER growth_{table} INSTEAD OF INSERT ON growth WHEN new.place = '{table}'"
            f" BEGIN {body}; END"
        )


def grow(connection: sqlite3.Connection, rows: Sequence[Growth]) -> None:
    """Put all rows into their tables, in their order; a transaction unless one has begun. Raises sqlite3.Error."""
    if rows:
        places = ",".join(["(?,?,?,?)"] * len(rows))
        connection.execute(f"INSERT INTO growth VALUES {places}", [value for row in rows for value in row])  # noqa: S608  # nothing but marks
