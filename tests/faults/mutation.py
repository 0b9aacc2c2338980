"""Change a stored log at random, again and again: `verify` must find each change.

`python -m tests.faults.mutation --mutations 10000`. Bytes anywhere in the file; rows changed, swapped, added, removed;
a record rewritten with all hashes above it; commits and checkpoints taken back; the tail cut off so that all that is
left fits; the file cut, replaced by an older one or by another log. What reads the same afterwards in all rows and in
the database's form is no mutation and is not counted. Two blind ways of checking must miss something, else the run
fails: reading alone, and all of it without the copies of checkpoints that were kept elsewhere.
"""

import argparse
import random
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenantry.audit import record
from tenantry.audit.checkpoint import VerifierKey, notes_in
from tenantry.audit.merkle import TILE, CompactRange, leaf_hash
from tenantry.server import audit_log
from tenantry.server.audit_key import key_file, read_verifier
from tests.audit_logs import tamper
from tests.faults.disk import quick_directory
from tests.faults.subject import entry

RECORDS = 330
BATCH = 15
TABLES = ("record", "tile", "head", "checkpoint", "pruning", "sqlite_schema")


@dataclass(frozen=True)
class Stock:
    """A log, how it was before, another log, and the checkpoints of the first that were kept elsewhere."""

    log: Path
    older: list[Path]
    other: Path
    key: VerifierKey
    copies: list[str]


def build(directory: Path) -> Stock:
    """Write the logs that are mutated and put in place of one another."""
    older: list[Path] = []
    log = _write(directory / "log", first=0, older=older)
    other = _write(directory / "other", first=RECORDS, older=[])
    with _copies(log).open() as lines:
        return Stock(log=log, older=older, other=other, key=read_verifier(log), copies=list(notes_in(lines)))


def _copies(log: Path) -> Path:
    return log.with_suffix(".copies")


def _write(data: Path, *, first: int, older: list[Path]) -> Path:
    path = data / audit_log.FILE_NAME
    for at in range(first, first + RECORDS, BATCH):
        last = at + BATCH == first + RECORDS
        log = audit_log.AuditLog(path, copy=_copies(path))
        log.commit([entry(number) for number in range(at, at + BATCH)], sign=last or at % (4 * BATCH) == 0)
        log.close()
        if not last:
            older.append(data / f"older-{at}")
            older[-1].write_bytes(path.read_bytes())
    return path


# --- mutations: each takes the file to change, the stock and chance

Mutation = Callable[[Path, Stock, random.Random], None]


def some_bytes(path: Path, stock: Stock, rng: random.Random) -> None:
    """Change up to four bytes anywhere in the file."""
    content = bytearray(path.read_bytes())
    for _byte in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)


def zeroed_stretch(path: Path, _: Stock, rng: random.Random) -> None:
    """Lose a sector."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(0, len(content), 512)
    content[at : at + 512] = bytes(512)
    path.write_bytes(content)


def cut_file(path: Path, _: Stock, rng: random.Random) -> None:
    """Cut the file off anywhere."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def changed_record(path: Path, _: Stock, rng: random.Random) -> None:
    """Change one byte of one record."""
    body = bytearray(_body(path, seq := rng.randint(1, RECORDS)))
    body[rng.randrange(len(body))] ^= rng.randint(1, 255)
    tamper(path, f"UPDATE record SET body = x'{body.hex()}' WHERE seq = {seq}")


def rewritten_record(path: Path, _: Stock, rng: random.Random) -> None:
    """Put another record in place of one, and make all hashes above it fit."""
    _rewrite(path, rng.randint(1, RECORDS), entry(rng.randint(10_000, 20_000)))


def emptied_record(path: Path, _: Stock, rng: random.Random) -> None:
    """Take the content of a record out as a pruning does, without its tombstone."""
    tamper(path, f"UPDATE record SET body = NULL WHERE seq = {rng.randint(1, RECORDS)}")


def swapped_records(path: Path, _: Stock, rng: random.Random) -> None:
    """Swap two records, hashes and all."""
    first, second = rng.sample(range(1, RECORDS + 1), 2)
    _renumber(path, {first: second, second: first})


def removed_record(path: Path, _: Stock, rng: random.Random) -> None:
    """Remove a record; sometimes those behind it close the gap."""
    seq = rng.randint(1, RECORDS)
    tamper(path, f"DELETE FROM record WHERE seq = {seq}")
    if rng.random() < 0.5:
        _renumber(path, {number: number - 1 for number in range(seq + 1, RECORDS + 1)})


def added_record(path: Path, _: Stock, rng: random.Random) -> None:
    """Add a record at the end, that was never committed."""
    body = entry(rng.randrange(RECORDS))
    tamper(path, f"INSERT INTO record VALUES ({RECORDS + 1}, x'{leaf_hash(body).hex()}', x'{body.hex()}')")


def changed_hash(path: Path, _: Stock, rng: random.Random) -> None:
    """Change a leaf, a root or a tile's hash."""
    column, table, key = rng.choice((("leaf", "record", "seq"), ("root", "head", "size"), ("hash", "tile", "number")))
    tamper(path, f"UPDATE {table} SET {column} = x'{rng.randbytes(32).hex()}' WHERE {key} = {_any(path, table, rng)}")


def removed_row(path: Path, _: Stock, rng: random.Random) -> None:
    """Remove a commit, a tile or a checkpoint."""
    table, key = rng.choice((("head", "size"), ("tile", "number"), ("checkpoint", "size")))
    tamper(path, f"DELETE FROM {table} WHERE {key} = {_any(path, table, rng)}")


def rolled_back_checkpoint(path: Path, _: Stock, rng: random.Random) -> None:
    """Put an earlier checkpoint in place of a later one, or let the last ones be gone."""
    if rng.random() < 0.5:
        tamper(path, f"DELETE FROM checkpoint WHERE size >= {_any(path, 'checkpoint', rng)}")
    else:
        old, new = sorted((_any(path, "checkpoint", rng), _any(path, "checkpoint", rng)))
        note = f"SELECT note FROM checkpoint WHERE size = {old}"
        tamper(path, f"UPDATE checkpoint SET note = ({note}) WHERE size = {new}")


def cut_tail(path: Path, _: Stock, rng: random.Random) -> None:
    """Cut the log back to an earlier commit, so that all that is left fits together."""
    size = rng.choice(_column(path, "head", "size")[:-1])
    tiles = f"DELETE FROM tile WHERE number >= {size // TILE}"
    tamper(path, *(f"DELETE FROM {table} WHERE {key} > {size}" for table, key in BY_SIZE), tiles)


def older_file(path: Path, stock: Stock, rng: random.Random) -> None:
    """Put the file as it once was in its place."""
    path.write_bytes(rng.choice(stock.older).read_bytes())


def other_log(path: Path, stock: Stock, rng: random.Random) -> None:
    """Put another log in its place, sometimes with its key."""
    path.write_bytes(stock.other.read_bytes())
    if rng.random() < 0.5:
        key_file(path).write_bytes(key_file(stock.other).read_bytes())


def other_form(path: Path, _: Stock, rng: random.Random) -> None:
    """Let the database take changes again."""
    names = _column(path, "sqlite_schema", "name", "type = 'trigger'")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DROP TRIGGER {rng.choice(names)}")


BY_SIZE = (("record", "seq"), ("head", "size"), ("checkpoint", "size"))
MUTATIONS: dict[Mutation, int] = {
    some_bytes: 12,
    zeroed_stretch: 2,
    cut_file: 2,
    changed_record: 4,
    rewritten_record: 4,
    emptied_record: 1,
    swapped_records: 4,
    removed_record: 2,
    added_record: 1,
    changed_hash: 3,
    removed_row: 2,
    rolled_back_checkpoint: 3,
    cut_tail: 4,
    older_file: 2,
    other_log: 1,
    other_form: 1,
}


def _column(path: Path, table: str, column: str, condition: str = "1") -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"SELECT {column} FROM {table} WHERE {condition} ORDER BY rowid").fetchall()
    return [value for (value,) in rows]


def _any(path: Path, table: str, rng: random.Random) -> int:
    return int(rng.choice(_column(path, table, "rowid")))


def _body(path: Path, seq: int) -> bytes:
    return bytes(_column(path, "record", "body", f"seq = {seq}")[0])


def _renumber(path: Path, numbers: dict[int, int]) -> None:
    away = [f"UPDATE record SET seq = {-new} WHERE seq = {old}" for old, new in numbers.items()]
    tamper(path, *away, "UPDATE record SET seq = -seq WHERE seq < 0")


def _rewrite(path: Path, seq: int, body: bytes) -> None:
    leaves = _column(path, "record", "leaf")
    sizes = set(_column(path, "head", "size"))
    leaves[seq - 1] = leaf_hash(body)
    changes = [f"UPDATE record SET body = x'{body.hex()}', leaf = x'{leaves[seq - 1].hex()}' WHERE seq = {seq}"]
    tree = CompactRange()
    for leaf in leaves:
        tile = tree.append(leaf)
        if tile is not None:
            changes.append(f"UPDATE tile SET hash = x'{tile.hex()}' WHERE number = {tree.size // TILE - 1}")
        if tree.size in sizes:
            changes.append(f"UPDATE head SET root = x'{tree.root().hex()}' WHERE size = {tree.size}")
    tamper(path, *changes)


# --- the harness

Check = Callable[[Path, Stock], str | None]


def whole(path: Path, stock: Stock) -> str | None:
    """As `tenantry audit verify` checks, with the log's key and the copies of its checkpoints."""
    return audit_log.verify(path, key=stock.key, copies=stock.copies).problem


def without_copies(path: Path, stock: Stock) -> str | None:
    """A blind one: nothing from a second place."""
    return audit_log.verify(path, key=stock.key).problem


def reading_alone(path: Path, _: Stock) -> str | None:
    """A blind one: no hole, and all well-formed."""
    try:
        rows = audit_log.read(path)
        good = all(seq == count and record.decode(body) for count, (seq, body) in enumerate(rows, start=1))
    except (audit_log.AuditLogUnreadable, ValueError, TypeError) as error:
        return str(error)
    return None if good else "a hole"


BLIND: tuple[Check, ...] = (without_copies, reading_alone)


@dataclass
class Tally:
    """What came of the mutations."""

    mutations: Counter[str] = field(default_factory=Counter)
    invisible: int = 0
    missed: list[str] = field(default_factory=list)
    """Mutations that were taken for the whole log."""


def contents(path: Path) -> object:
    """All rows of all tables, and the form; what can't be read is unlike anything."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            rows = [connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in TABLES]
    except (sqlite3.Error, UnicodeDecodeError):
        return object()
    # Where a table begins in the file is no content.
    rows[-1] = sorted((kind, name, table, sql) for kind, name, table, _, sql in rows[-1])
    return rows, key_file(path).read_bytes()


def mutate(stock: Stock, check: Check, *, mutations: int, seed: int) -> Tally:
    """Make so many mutations, each of a fresh copy of the log, and check each."""
    rng = random.Random(seed)
    tally = Tally()
    before = contents(stock.log)
    with tempfile.TemporaryDirectory(dir=quick_directory()) as directory:
        path = Path(directory) / audit_log.FILE_NAME
        while tally.mutations.total() < mutations:
            path.write_bytes(stock.log.read_bytes())
            key_file(path).write_bytes(key_file(stock.log).read_bytes())
            (mutation,) = rng.choices(list(MUTATIONS), list(MUTATIONS.values()))
            mutation(path, stock, rng)
            if contents(path) == before:
                tally.invisible += 1
                continue
            tally.mutations[mutation.__name__] += 1
            if check(path, stock) is None:
                tally.missed.append(mutation.__name__)
    return tally


def run(directory: Path, *, mutations: int, seed: int) -> tuple[Tally, dict[str, Tally]]:
    """Check as the product does, and blindly; the log itself must be found whole by all."""
    stock = build(directory)
    for check in (whole, *BLIND):
        problem = check(stock.log, stock)
        if problem is not None:
            raise AssertionError(f"{check.__name__} refuses the log itself: {problem}")
    blind = {check.__name__: mutate(stock, check, mutations=min(mutations, 200), seed=seed) for check in BLIND}
    return mutate(stock, whole, mutations=mutations, seed=seed), blind


def main() -> int:
    """Say what came of it; exit status 1 where a mutation was missed, or none by a blind check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        tally, blind = run(Path(directory), mutations=options.mutations, seed=options.seed)
    print(f"{tally.mutations.total()} mutations, {len(tally.missed)} missed {dict(Counter(tally.missed))}")
    print(f"  {dict(tally.mutations)}; {tally.invisible} changed nothing that can be read")
    for name, missing in blind.items():
        print(f"{name}: {len(missing.missed)} of {missing.mutations.total()} missed {dict(Counter(missing.missed))}")
    return int(bool(tally.missed) or not all(missing.missed for missing in blind.values()))


if __name__ == "__main__":
    sys.exit(main())
