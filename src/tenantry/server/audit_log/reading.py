"""The reading side: beside a running writer, from any process, never holding it up.

A long read is many short transactions: the file can only grow, so pages that were read one after another fit.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tenantry.audit import record
from tenantry.audit.checkpoint import BadKey, VerifierKey
from tenantry.audit.merkle import TILE
from tenantry.audit.verification import Fault, Page, Verification
from tenantry.server.audit_key import read_verifier
from tenantry.server.audit_log.schema import has_expected_schema

PAGE = 4096
_BEFORE_ALL = -(2**63)
_BEHIND_ALL = 2**63 - 1


class AuditLogUnreadable(Exception):
    """The log can't be read, or holds what is no record."""


class Verdict(NamedTuple):
    """What a check found."""

    stands: int
    """How many records, from the first on, are without fault."""
    problem: str | None
    """What is wrong behind them."""


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a log that exists; raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def read(path: Path, *, after: int = 0, page: int = PAGE) -> Generator[tuple[int, bytes], None, None]:
    """Give sequence number and stored bytes of each record behind `after` that was not pruned, in order.

    `page` records are in memory at once. Raises `AuditLogUnreadable` where the file can't be read.
    """
    question = "SELECT seq, body FROM record WHERE seq > ? AND body IS NOT NULL ORDER BY seq LIMIT ?"
    try:
        with closing(open_for_reading(path)) as connection:
            while rows := connection.execute(question, (after, page)).fetchall():
                yield from rows
                after = rows[-1][0]
    except sqlite3.Error as error:
        raise AuditLogUnreadable(f"{path}: the file can't be read: {error}") from error


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
        entry = _decode(path, seq, body)
        if all(entry.get(name) == value for name, value in wanted.items()) and entry["time"] >= (since_us or 0):
            yield {"seq": seq, **entry}


def size_of(path: Path) -> int:
    """Give how many records there are, pruned ones too; raises `AuditLogUnreadable`."""
    try:
        with closing(open_for_reading(path)) as connection:
            return int(connection.execute("SELECT coalesce(max(size), 0) FROM head").fetchone()[0])
    except sqlite3.Error as error:
        raise AuditLogUnreadable(f"{path}: the file can't be read: {error}") from error


def latest_checkpoint(path: Path) -> str | None:
    """Give the note of the newest checkpoint, None before the first; raises `AuditLogUnreadable`."""
    try:
        with closing(open_for_reading(path)) as connection:
            row = connection.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise AuditLogUnreadable(f"{path}: the file can't be read: {error}") from error
    return None if row is None else str(row[0])


def verify(
    path: Path,
    *,
    key: VerifierKey | None = None,
    copies: Iterable[str] = (),
    on_progress: Callable[[int], None] = lambda _: None,
) -> Verdict:
    """Check the whole log: every record, every root, every signature, and the database's own form.

    `key` is the log's public key, where it is not to be taken from the file beside the log; `copies` are checkpoints
    of this log that were kept elsewhere, oldest first; `on_progress` is told how many records were checked.
    """
    try:
        checking = Verification(key or read_verifier(path), iter(copies))
    except (OSError, BadKey) as error:
        return Verdict(0, f"the log's key can't be read: {error}")
    except Fault as fault:
        return Verdict(0, str(fault))
    try:
        with closing(open_for_reading(path)) as connection:
            for page in _pages(connection):
                checking.page(page)
                on_progress(checking.stands)
            checking.finish()
            whole = has_expected_schema(connection)
    except Fault as fault:
        return Verdict(checking.stands, str(fault))
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        return Verdict(checking.stands, f"the file can't be read: {error}")
    return Verdict(checking.stands, None if whole else "the database no longer refuses changes: its form was changed")


def _pages(connection: sqlite3.Connection) -> Iterator[Page]:
    after, more = _BEFORE_ALL, True
    while more:
        connection.execute("BEGIN")
        records = connection.execute(
            "SELECT seq, leaf, body FROM record WHERE seq > ? ORDER BY seq LIMIT ?", (after, PAGE)
        ).fetchall()
        more = len(records) == PAGE
        upto = records[-1][0] if more else _BEHIND_ALL
        stretch = (after, upto)
        tiles = (after // TILE, upto // TILE)  # those whose last record is in the stretch
        page = Page(
            records=records,
            tiles=dict(connection.execute("SELECT number, hash FROM tile WHERE number >= ? AND number < ?", tiles)),
            heads=_by_size(
                connection.execute("SELECT size, number, root FROM head WHERE size > ? AND size <= ?", stretch)
            ),
            checkpoints=_by_size(
                connection.execute("SELECT size, number, note FROM checkpoint WHERE size > ? AND size <= ?", stretch)
            ),
            prunings=dict(connection.execute("SELECT seq, upto FROM pruning WHERE seq > ? AND seq <= ?", stretch)),
        )
        connection.execute("COMMIT")
        yield page
        after = upto


def _by_size(rows: Iterable[tuple[int, int, Any]]) -> dict[int, tuple[int, Any]]:
    return {size: (number, value) for size, number, value in rows}


def _decode(path: Path, seq: int, body: bytes) -> dict[str, Any]:
    try:
        return record.decode(body)
    except ValueError as error:
        raise AuditLogUnreadable(f"{path}: record {seq} is malformed: {error}") from None
