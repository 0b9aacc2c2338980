"""The writing side: one process has a log open, one thread at a time commits."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import structlog

from tenantry.audit.checkpoint import BadCheckpoint, Checkpoint
from tenantry.audit.denials import Counted, Denial, counted
from tenantry.audit.merkle import TILE, CompactRange, leaf_hash, rebuilt
from tenantry.audit.verification import CHECKPOINT_RECORDS
from tenantry.server.audit_key import HeldKey, flush_directory
from tenantry.server.audit_log.growth import Growth, grow, make_growth
from tenantry.server.audit_log.schema import MIGRATIONS, has_expected_schema
from tenantry.server.store.database import migrate, open_database

# Where nobody backfills, or commits follow one another so closely that no backfill ever reaches the last: a commit
# that leaves so many pages in the write-ahead log does it itself, and the log begins anew.
WAL_PAGES_MAX = 4096

# Without the file's times, where the system can: to flush them too holds the commits up for longer.
_flush: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_log = structlog.get_logger()


class AuditLogDamaged(Exception):
    """What is in the file does not fit together; nothing may be added to it."""


class AuditLog:
    """A log that is open for writing.

    `host` names the log where it is new, else it is named as the others in its directory are; `copy` is a second place
    for its checkpoints. Raises OSError, sqlite3.Error or RuntimeError where it can't be opened, `AuditLogInUse` where
    another process has it (unless `wait`), and `AuditLogDamaged`.
    """

    def __init__(self, path: Path, *, host: str | None = None, copy: Path | None = None, wait: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._copy_path = copy
        self._held = HeldKey(path, host=host, wait=wait)
        self._tree = CompactRange()
        self._root = self._tree.root()
        self._heads = self._checkpoints = 0
        self._signed: int | None = None
        self._failed = False
        self._files = ExitStack()
        try:
            self._open()
        except BaseException:
            self._held.release()
            raise

    @property
    def size(self) -> int:
        """How many records are durable."""
        return self._tree.size

    def commit(
        self,
        entries: Sequence[bytes],
        *,
        sign: bool = False,
        denials: Iterable[Denial] = (),
        summarise: bool = False,
    ) -> None:
        """Append the entries in their order; when this returns they are on the disk (WAL, synchronous FULL).

        With `sign`, and after `CHECKPOINT_RECORDS` records anyhow, a checkpoint is among them. `denials` are counted;
        with `summarise`, records take the place of all counters so far. Raises sqlite3.Error where it failed; the log
        then takes nothing until `reopen`.
        """
        done = self._counters() if summarise else []
        counters: list[Growth] = [("summarised", counter.about, None, None, None) for counter in done]
        counters += [("denial", each.about, each.count, each.first, each.last) for each in counted(denials)]
        self._write([*entries, *(counter.summary() for counter in done)], sign=sign, counters=counters)

    def _counters(self) -> list[Counted]:
        rows = self._connection.execute("SELECT about, count, first, last FROM denial ORDER BY first, about")
        return [Counted(*row) for row in rows.fetchall()]

    def last_before(self, time_us: int) -> int | None:
        """Give the last record of those at the beginning that are older than that; None where none has content."""
        question = "SELECT seq FROM record WHERE body IS NOT NULL AND seq NOT IN (SELECT seq FROM pruning)"
        younger = " AND json_extract(CAST(body AS TEXT), '$.time') >= ?"
        first = self._connection.execute(f"{question} ORDER BY seq LIMIT 1").fetchone()
        end = self._connection.execute(f"{question}{younger} ORDER BY seq LIMIT 1", (time_us,)).fetchone()
        upto = self.size if end is None else int(end[0]) - 1
        return None if first is None or first[0] > upto else upto

    def prune(self, upto: int, tombstone: bytes) -> None:
        """Take out the content of the records up to `upto`; `tombstone` is the record that says so.

        Raises as `commit`.
        """

        def empty(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO pruning VALUES (?, ?)", (self._tree.size + 1, upto))
            # Tombstones keep their content: they say why the rest has none.
            connection.execute(
                "UPDATE record SET body = NULL"
                " WHERE seq <= ? AND body IS NOT NULL AND seq NOT IN (SELECT seq FROM pruning)",
                (upto,),
            )

        self._connection.execute("PRAGMA secure_delete=ON")
        self._write([tombstone], sign=True, then=empty)
        self._connection.execute("VACUUM")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def reopen(self) -> None:
        """After a failure: open the file afresh, and take it only if all that was acknowledged is in it.

        Raises as opening does. What a failed commit left behind whole is a part of the log from then on.
        """
        size, root = self._tree.size, self._root
        self._files.close()
        self._open()
        stored = self._connection.execute("SELECT root FROM head WHERE size = ?", (size,)).fetchone()
        if size and stored != (root,):
            self._failed = True
            raise AuditLogDamaged(f"what was acknowledged up to record {size} is not in the file")

    def backfill(self) -> None:
        """Move what was committed out of the write-ahead log into the file, while another thread may commit.

        Not while one opens or closes. Raises sqlite3.Error and OSError where it can't be done; nothing is lost by that.
        """
        self._mover.execute("PRAGMA wal_checkpoint(PASSIVE)")
        # SQLite flushes the file when all of the write-ahead log is in it; a writer that is busy never lets it come
        # so far, until a commit has to, which would then flush all that was ever moved.
        _flush(self._file.fileno())

    def close(self) -> None:
        """Close the file and let another process write to it."""
        self._files.close()
        self._held.release()

    def _write(
        self,
        entries: Sequence[bytes],
        *,
        sign: bool,
        counters: Sequence[Growth] = (),
        then: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        if self._failed:
            raise sqlite3.OperationalError("the audit log failed before and was not opened again")
        tree, records = _grown(self._tree, entries)
        root = tree.root()
        note = self._checkpoint(tree.size, root) if self._is_due(tree.size, asked=sign) else None
        if not records and not counters and note is None:
            return
        growth = [*counters, *records]
        if records:
            growth.append(("head", tree.size, self._heads + 1, root, None))
        if note is not None:
            growth.append(("checkpoint", tree.size, self._checkpoints + 1, note, None))
        try:
            grow(self._connection, growth, then=then)
        except BaseException:
            self._failed = True
            raise
        self._tree, self._root = tree, root
        self._heads += bool(records)
        if note is not None:
            self._checkpoints += 1
            self._signed = tree.size
            self._copy(note)

    def _is_due(self, size: int, *, asked: bool) -> bool:
        if self._signed is None:
            return asked or size >= CHECKPOINT_RECORDS
        return (asked and size > self._signed) or size - self._signed >= CHECKPOINT_RECORDS

    def _checkpoint(self, size: int, root: bytes) -> str:
        key = self._held.key
        return Checkpoint(key.name, size, root).signed(key)

    def _copy(self, note: str) -> None:
        if self._copy_path is None:
            return
        # The log itself is whole without it: a copy that can't be written is said, and the next one tried.
        try:
            descriptor = os.open(self._copy_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                # The line feed before it parts it from what a power cut may have torn.
                # A short write tears it too; then the next checkpoint is whole again.
                os.write(descriptor, f"\n{note}".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.error("a checkpoint could not be copied", path=str(self._copy_path), error=error.strerror)

    def _open(self) -> None:
        connection = open_database(self._path)
        # The file is closed behind the connection: whoever closes one takes the process's locks of it away.
        self._file = self._files.enter_context(self._path.open("rb"))
        self._connection = self._files.enter_context(closing(connection))
        try:
            self._connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES_MAX}")
            migrate(self._connection, MIGRATIONS)
            make_growth(self._connection)
            flush_directory(self._path.parent)
            self._load()
            self._mover = self._files.enter_context(closing(_connected_beside(self._path)))
        except BaseException:
            self._failed = True
            self._files.close()
            raise
        self._failed = False

    def _load(self) -> None:
        """Rebuild the tree out of its tiles and the records behind them, and hold it against the last commit."""
        if not has_expected_schema(self._connection):
            raise AuditLogDamaged(f"{self._path} has another form than this version of tenantry makes")
        execute = self._connection.execute
        tiles = [hash_ for (hash_,) in execute("SELECT hash FROM tile ORDER BY number")]
        rest = execute("SELECT leaf, body FROM record WHERE seq > ? ORDER BY seq", (len(tiles) * TILE,)).fetchall()
        tree = rebuilt(tiles, (leaf for leaf, _ in rest))
        root = tree.root()
        size, number, stored = execute("SELECT size, number, root FROM head ORDER BY size DESC LIMIT 1").fetchone() or (
            *(0, 0),
            root,
        )
        if (size, stored) != (tree.size, root) or any(body and leaf_hash(body) != leaf for leaf, body in rest):
            raise AuditLogDamaged(f"{self._path}: the last records do not fit the last commit")
        last = execute("SELECT size, number, note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        try:
            if last is not None and Checkpoint.parse(last[2], self._held.key.verifier).size != last[0]:
                raise AuditLogDamaged(f"{self._path}: the last checkpoint is of another size")
        except BadCheckpoint as error:
            raise AuditLogDamaged(f"{self._path}: the last checkpoint is not of this log's key: {error}") from None
        self._tree, self._root, self._heads = tree, root, number
        self._signed, self._checkpoints = (None, 0) if last is None else last[:2]


def _connected_beside(path: Path) -> sqlite3.Connection:
    """Connect once more to a log that is open, for good: SQLite can't close its file before the other connection's."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _grown(tree: CompactRange, entries: Sequence[bytes]) -> tuple[CompactRange, list[Growth]]:
    """Append to a copy of the tree; give it with the rows of the records, and of the tiles that they complete."""
    tree = tree.copy()
    records: list[Growth] = []
    tiles: list[Growth] = []
    for body in entries:
        leaf = leaf_hash(body)
        tile = tree.append(leaf)
        records.append(("record", tree.size, leaf, body, None))
        if tile is not None:
            tiles.append(("tile", tree.size // TILE - 1, tile, None, None))
    return tree, records + tiles
