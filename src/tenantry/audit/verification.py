"""The check of a whole log, page by page in constant memory: every record against the tree, and the tree against
every root that was ever written down or signed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenantry.audit import record
from tenantry.audit.checkpoint import BadCheckpoint, Checkpoint, VerifierKey
from tenantry.audit.merkle import TILE, CompactRange, leaf_hash
from tenantry.audit.record import Kind

# No more than that many records stand behind the last checkpoint: whoever has not the key can't rewrite more.
CHECKPOINT_RECORDS = 1000


class Fault(Exception):
    """What is wrong with the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A stretch of a log as one read transaction saw it; all that is kept by size or number, in that stretch."""

    records: Sequence[tuple[int, bytes, bytes | None]]
    """Sequence number, leaf hash, and the content unless it was pruned."""
    tiles: Mapping[int, bytes]
    heads: Mapping[int, tuple[int, bytes]]
    """Size of the tree after a commit -> the commit's number, the root."""
    checkpoints: Mapping[int, tuple[int, str]]
    """Size -> the checkpoint's number, the note."""
    prunings: Mapping[int, int]
    """Sequence number of the tombstone -> the last record that lost its content."""


@dataclass(slots=True)
class Verification:
    """Takes the pages of a log in their order.

    `key` is the log's; `copies` are checkpoints of this log that were kept elsewhere, in the order in which they
    were written. After a `Fault`, `stands` says how many records are covered by a root that was found right.
    """

    key: VerifierKey
    copies: Iterator[str] = field(default_factory=lambda: iter(()))
    stands: int = 0
    _tree: CompactRange = field(default_factory=CompactRange)
    _heads: int = 0
    _checkpoints: int = 0
    _signed: int = 0
    _emptied: int = 0
    _first_full: int | None = None
    _pruned: int = 0
    _copy: Checkpoint | None = None

    def __post_init__(self) -> None:
        self._next_copy()

    def page(self, page: Page) -> None:
        """Check one page; raises `Fault`."""
        seen = 0
        seen += self._check_marks(page, 0) if not self._tree.size else 0
        for seq, leaf, body in page.records:
            self._check_record(seq, leaf, body, page)
            tile = self._tree.append(leaf)
            if tile is not None:
                if page.tiles.get(seq // TILE - 1) != tile:
                    raise Fault(f"the hash kept over records {seq - TILE + 1} to {seq} is wrong")
                seen += 1
            if seq in page.heads or seq in page.checkpoints or (self._copy is not None and self._copy.size == seq):
                seen += self._check_marks(page, seq)
        known = len(page.tiles) + len(page.heads) + len(page.checkpoints)
        if seen != known or page.prunings.keys() - {seq for seq, _, _ in page.records}:
            raise Fault(f"the log goes on in its roots and not in its records: cut off behind {self._tree.size}")

    def finish(self) -> None:
        """Check what only the end can show; raises `Fault`."""
        if self.stands != self._tree.size:
            raise Fault(f"records {self.stands + 1} to {self._tree.size} belong to no commit")
        if self._emptied > self._pruned:
            raise Fault(f"record {self._emptied} is without content and was not pruned")
        if self._first_full is not None and self._first_full <= self._pruned:
            raise Fault(f"record {self._first_full} was pruned and has content")
        if self._copy is not None:
            size = self._copy.size
            raise Fault(f"cut off: there is a checkpoint over {size} records, and the log ends at {self._tree.size}")

    def _check_record(self, seq: int, leaf: bytes, body: bytes | None, page: Page) -> None:
        expected = self._tree.size + 1
        if seq != expected:
            raise Fault(f"record {expected} is missing; the next one is {seq}")
        if body is None:
            if not isinstance(leaf, bytes):
                raise Fault(f"record {seq} is without hash")
            self._emptied = seq
            return
        if not isinstance(body, bytes) or leaf_hash(body) != leaf:
            raise Fault(f"record {seq} was changed: its hash is another")
        try:
            entry = record.decode(body)
        except ValueError as error:
            raise Fault(f"record {seq} is malformed: {error}") from None
        self._check_pruning(seq, entry, page)

    def _check_pruning(self, seq: int, entry: dict[str, Any], page: Page) -> None:
        upto = entry.get("upto") if entry["kind"] == Kind.LOG_PRUNED.value else None
        if page.prunings.get(seq) != upto:
            raise Fault(f"record {seq} and what is noted of a pruning do not agree")
        if upto is not None:
            self._pruned = max(self._pruned, upto)
        elif self._first_full is None:
            self._first_full = seq

    def _check_marks(self, page: Page, size: int) -> int:
        """Check every root that is written down for this size; give how many of the page's there were."""
        root = self._tree.root()
        seen = 0
        if size in page.checkpoints:
            number, note = page.checkpoints[size]
            self._check_checkpoint(number, note, root)
            seen += 1
        if size in page.heads:
            self._check_head(page.heads[size], root)
            seen += 1
        while self._copy is not None and self._copy.size == size:
            if self._copy.root != root:
                raise Fault(f"replaced: the copy of a checkpoint over {size} records has another root")
            if size not in page.checkpoints:
                raise Fault(f"rolled back: the checkpoint over {size} records was kept elsewhere and is gone here")
            self._next_copy()
        return seen

    def _check_head(self, head: tuple[int, bytes], root: bytes) -> None:
        first, last = self.stands + 1, self._tree.size
        self._heads += 1
        if head[0] != self._heads:
            raise Fault(f"a commit is missing before record {last + 1}")
        if head[1] != root:
            raise Fault(f"of records {first} to {last} one was changed: their commit has another root")
        self.stands = last
        if last - self._signed >= CHECKPOINT_RECORDS:
            raise Fault(f"records {self._signed + 1} to {last} are without a checkpoint")

    def _check_checkpoint(self, number: int, note: str, root: bytes) -> None:
        size = self._tree.size
        self._checkpoints += 1
        if number != self._checkpoints:
            raise Fault(f"a checkpoint is missing before the one over {size} records")
        if self._parse(note, f"the checkpoint over {size} records").root != root:
            raise Fault(f"of records {self.stands + 1} to {size} one was changed: their checkpoint has another root")
        if note.count("\n\u2014 ") != 1:
            raise Fault(f"the checkpoint over {size} records has more than the log's own signature")
        self._signed = size

    def _next_copy(self) -> None:
        before, note = self._copy, next(self.copies, None)
        self._copy = None if note is None else self._parse(note, "a copy of a checkpoint")
        if before is not None and self._copy is not None and self._copy.size < before.size:
            raise Fault(f"rolled back: a checkpoint over {before.size} records is followed by one over less")

    def _parse(self, note: object, what: str) -> Checkpoint:
        if not isinstance(note, str):
            raise Fault(f"{what} is no text")
        try:
            return Checkpoint.parse(note, self.key)
        except BadCheckpoint as error:
            raise Fault(f"{what} is not to be trusted: {error}") from None
