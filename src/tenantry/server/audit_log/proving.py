"""Proofs out of a stored log: a few hashes of tiles and leaves, however long the log is."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from tenantry.audit import merkle
from tenantry.audit.checkpoint import Checkpoint
from tenantry.audit.merkle import TILE
from tenantry.audit.proof import GrowthProof, RecordProof
from tenantry.server.audit_log.reading import AuditLogUnreadable, open_for_reading


class NotProvable(Exception):
    """There is nothing to prove, or nothing yet; the text says why."""


def prove_record(path: Path, seq: int) -> RecordProof:
    """Prove one record under the newest checkpoint; raises `NotProvable` and `AuditLogUnreadable`."""
    try:
        with closing(open_for_reading(path)) as connection:
            connection.execute("BEGIN")
            size, note = _newest(connection)
            row = connection.execute("SELECT body FROM record WHERE seq = ?", (seq,)).fetchone()
            if row is None:
                raise NotProvable(f"there is no record {seq}")
            if row[0] is None:
                raise NotProvable(f"record {seq} was pruned")
            if size < seq:
                raise NotProvable(f"no checkpoint is over record {seq} yet: a running server makes one in seconds")
            hashes = merkle.inclusion_path(seq - 1, size, partial(_subtree, connection))
            return RecordProof(seq=seq, record=row[0], path=hashes, checkpoint=note)
    except sqlite3.Error as error:
        raise AuditLogUnreadable(f"{path}: the file can't be read: {error}") from error


def prove_growth(path: Path, since: str, first: Checkpoint) -> GrowthProof:
    """Prove that the log of today goes on from a checkpoint that somebody kept; `since` is its note.

    The proof is made of what is in the log: of one that was changed it does not check. Raises as `prove_record`.
    """
    try:
        with closing(open_for_reading(path)) as connection:
            connection.execute("BEGIN")
            size, note = _newest(connection)
            if size < first.size:
                raise NotProvable(f"the newest checkpoint is over {size} records, fewer than {first.size}")
            subtree = partial(_subtree, connection)
            hashes = merkle.consistency_path(first.size, size, subtree) if first.size else []
            return GrowthProof(first=since, second=note, path=hashes)
    except sqlite3.Error as error:
        raise AuditLogUnreadable(f"{path}: the file can't be read: {error}") from error


def _newest(connection: sqlite3.Connection) -> tuple[int, str]:
    row = connection.execute("SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
    if row is None:
        raise NotProvable("there is no checkpoint yet")
    return int(row[0]), str(row[1])


def _subtree(connection: sqlite3.Connection, begin: int, end: int) -> bytes:
    # The parts of a tree that a proof needs begin at a multiple of their size: whole tiles, then what is left.
    first, last = begin // TILE, end // TILE
    if end - begin < TILE:
        first = last = 0
        leaves = (begin, end)
    else:
        leaves = (last * TILE, end)
    tiles = connection.execute(
        "SELECT hash FROM tile WHERE number >= ? AND number < ? ORDER BY number", (first, last)
    ).fetchall()
    rest = connection.execute("SELECT leaf FROM record WHERE seq > ? AND seq <= ? ORDER BY seq", leaves).fetchall()
    return merkle.rebuilt((hash_ for (hash_,) in tiles), (leaf for (leaf,) in rest)).root()
