"""How a commit reaches the file: all of its rows in one statement.

Between two statements the thread that commits must get the interpreter back from the event loop, which is busy just
when there is much to commit; a commit of ten statements waits for it ten times, and so does everyone whose record is
in it. A statement of its own is a transaction of its own: the flush is in it.
"""

import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain

Growth = tuple[str, object, object, object, object]
"""What grows, and the values of its row with None for those that it has not."""

_DOES = {
    "record": "INSERT INTO record VALUES (new.a, new.b, new.c)",
    "tile": "INSERT INTO tile VALUES (new.a, new.b)",
    "head": "INSERT INTO head VALUES (new.a, new.b, new.c)",
    "checkpoint": "INSERT INTO checkpoint VALUES (new.a, new.b, new.c)",
    "summarised": "DELETE FROM denial WHERE about = new.a",
    "denial": "INSERT INTO denial VALUES (new.a, new.b, new.c, new.d) ON CONFLICT (about) DO UPDATE SET"
    " count = count + excluded.count, first = min(first, excluded.first), last = max(last, excluded.last)",
}
_VALUES = "abcd"
# A statement takes 32,766 values; five a row.
ROWS_MAX = 4096


def make_growth(connection: sqlite3.Connection) -> None:
    """Give this connection, not the file, a view that hands each row that is put into it to its table."""
    connection.execute("PRAGMA temp_store=MEMORY")
    values = ", ".join(f"NULL AS {name}" for name in _VALUES)
    connection.execute(f"CREATE TEMP VIEW growth AS SELECT NULL AS what, {values} WHERE FALSE")
    for what, does in _DOES.items():
        connection.execute(
            f"CREATE TEMP TRIGGER growth_{what} INSTEAD OF INSERT ON growth WHEN new.what = '{what}' BEGIN {does}; END"
        )


def grow(
    connection: sqlite3.Connection,
    rows: Sequence[Growth],
    *,
    then: Callable[[sqlite3.Connection], None] | None = None,
) -> None:
    """Put all rows into their tables, in their order, and do what else is to be done `then`, in one transaction.

    Raises sqlite3.Error; the transaction may then be open.
    """
    if then is None and len(rows) <= ROWS_MAX:
        _put(connection, rows)
        return
    connection.execute("BEGIN IMMEDIATE")
    for first in range(0, len(rows), ROWS_MAX):
        _put(connection, rows[first : first + ROWS_MAX])
    if then is not None:
        then(connection)
    connection.execute("COMMIT")


def _put(connection: sqlite3.Connection, rows: Sequence[Growth]) -> None:
    if rows:
        places = ",".join(["(?,?,?,?,?)"] * len(rows))
        connection.execute(f"INSERT INTO growth VALUES {places}", list(chain.from_iterable(rows)))  # noqa: S608  # nothing but marks
