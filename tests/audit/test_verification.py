"""Every change of a stored log is found, whatever was changed along with it."""

from typing import Any

import pytest

from tenantry.audit import record, verification
from tenantry.audit.checkpoint import Checkpoint, SignerKey
from tenantry.audit.merkle import TILE, CompactRange, leaf_hash
from tenantry.audit.record import Kind
from tenantry.audit.verification import CHECKPOINT_RECORDS, Fault, Page, Verification

KEY = SignerKey.of("localhost/tenantry/audit/0", bytes(32))
COMMITS = (2, 3, 300, 301, 301 + TILE, 600)
SIGNED = (0, 3, 301, 600)


def entry(number: int, **fields: object) -> bytes:
    return record.encode(Kind.TOOL_CALL, time_us=number, **fields)


class Log:
    """A log as rows that a test may change."""

    def __init__(self, *, bodies: list[bytes] | None = None, signed: tuple[int, ...] = SIGNED) -> None:
        bodies = bodies or [entry(number) for number in range(1, COMMITS[-1] + 1)]
        tree = CompactRange()
        self.roots = [tree.root()]
        self.records: list[list[Any]] = []
        self.tiles: dict[int, bytes] = {}
        for seq, body in enumerate(bodies, start=1):
            self.records.append([seq, leaf_hash(body), body])
            tile = tree.append(leaf_hash(body))
            if tile is not None:
                self.tiles[seq // TILE - 1] = tile
            self.roots.append(tree.root())
        self.heads = {size: (number, self.roots[size]) for number, size in enumerate(COMMITS, start=1)}
        self.checkpoints = {size: (number, self.note(size)) for number, size in enumerate(signed, start=1)}
        self.prunings: dict[int, int] = {}

    def note(self, size: int) -> str:
        return Checkpoint(KEY.name, size, self.roots[size]).signed(KEY)

    def pages(self, size: int = 100):
        """The rows as the reading side gives them."""
        rows, after, more = sorted(self.records), -(2**63), True
        while more:
            page, rows = rows[:size], rows[size:]
            more = len(page) == size
            upto = page[-1][0] if more else 2**63

            def within(table: dict[int, Any], after=after, upto=upto) -> dict[int, Any]:
                return {key: value for key, value in table.items() if after < key <= upto}

            yield Page(
                records=[tuple(row) for row in page],
                tiles={key: value for key, value in self.tiles.items() if after < key * TILE + TILE <= upto},
                heads=within(self.heads),
                checkpoints=within(self.checkpoints),
                prunings=within(self.prunings),
            )
            after = upto

    def verdict(self, *copies: str, page: int = 100) -> tuple[int, str | None]:
        checking = None
        try:
            checking = Verification(KEY.verifier, iter(copies))
            for stretch in self.pages(page):
                checking.page(stretch)
            checking.finish()
        except Fault as fault:
            return checking.stands if checking else 0, str(fault)
        return checking.stands, None


@pytest.mark.parametrize("page", [1, 99, 100, 150, 600, 1000])
def test_a_log_stands_however_it_is_read(page):
    log = Log()
    assert log.verdict(log.note(3), log.note(3), log.note(600), page=page) == (600, None)


def test_an_empty_log_stands():
    log = Log()
    log.records, log.tiles, log.heads, log.checkpoints = [], {}, {}, {}
    assert log.verdict() == (0, None)


def other(log: Log, seq: int) -> None:
    """Put another record in the place of one, with the hash that goes with it."""
    body = entry(9999)
    log.records[seq - 1][1:] = [leaf_hash(body), body]


def swap(log: Log, one: int, two: int) -> None:
    first, second = log.records[one - 1], log.records[two - 1]
    first[1:], second[1:] = second[1:], first[1:]


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


MUTATIONS = {
    "a byte of a record": lambda log: log.records[4].__setitem__(2, entry(7777)),
    "a byte of a hash": lambda log: log.records[4].__setitem__(1, changed(log.records[4][1])),
    "a record that is text": lambda log: log.records[4].__setitem__(2, "text"),
    "a record and its hash": lambda log: other(log, 5),
    "two rows swapped": lambda log: swap(log, 5, 9),
    "two rows swapped over commits": lambda log: swap(log, 2, 400),
    "a record taken out": lambda log: log.records.pop(4),
    "the first record taken out": lambda log: log.records.pop(0),
    "a record before the first": lambda log: log.records.append([0, leaf_hash(b""), b""]),
    "a record far before the first": lambda log: log.records.append([-7, leaf_hash(b""), b""]),
    "a record at the end": lambda log: log.records.append([601, leaf_hash(entry(1)), entry(1)]),
    "a record far behind the end": lambda log: log.records.append([700, leaf_hash(entry(1)), entry(1)]),
    "a record without content": lambda log: log.records[4].__setitem__(2, None),
    "a record without content and hash": lambda log: log.records[4].__setitem__(slice(1, 3), [None, None]),
    "the first records without content": lambda log: [row.__setitem__(2, None) for row in log.records[:3]],
    "the tail cut off": lambda log: log.records.__delitem__(slice(590, None)),
    "all records cut off": lambda log: log.records.clear(),
    "a tile": lambda log: log.tiles.update({1: changed(log.tiles[1])}),
    "a tile taken out": lambda log: log.tiles.pop(0),
    "a tile too many": lambda log: log.tiles.update({2: log.tiles[1]}),
    "a tile before the first": lambda log: log.tiles.update({-1: log.tiles[1]}),
    "a root": lambda log: log.heads.update({300: (3, changed(log.roots[300]))}),
    "a root's type": lambda log: log.heads.update({300: (3, None)}),
    "a commit taken out": lambda log: log.heads.pop(300),
    "the last commit taken out": lambda log: log.heads.pop(600),
    "all commits taken out": lambda log: log.heads.clear(),
    "a commit too many": lambda log: log.heads.update({299: (3, log.roots[299])}),
    "a commit of nothing": lambda log: log.heads.update({0: (1, log.roots[0])}),
    "a commit before the first": lambda log: log.heads.update({-5: (1, log.roots[0])}),
    "a commit behind the end": lambda log: log.heads.update({601: (7, log.roots[600])}),
    "a commit's number": lambda log: log.heads.update({300: (9, log.roots[300])}),
    "a checkpoint's letter": lambda log: log.checkpoints.update({301: (3, log.note(301).replace("301", "302"))}),
    "a checkpoint's type": lambda log: log.checkpoints.update({301: (3, 7)}),
    "a checkpoint of another size": lambda log: log.checkpoints.update({301: (3, log.note(300))}),
    "a checkpoint's number": lambda log: log.checkpoints.update({301: (4, log.note(301))}),
    "a checkpoint taken out": lambda log: log.checkpoints.pop(301),
    "a checkpoint too many": lambda log: log.checkpoints.update({601: (5, log.note(600))}),
    "a second signature": lambda log: log.checkpoints.update(
        {301: (3, log.note(301) + log.note(301).rpartition("\n\n")[2])}
    ),
    "a pruning that nobody said": lambda log: log.prunings.update({5: 3}),
    "a pruning beside the records": lambda log: log.prunings.update({900: 3}),
}


@pytest.mark.parametrize("page", [7, 1000])
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_change_is_found(name, page):
    log = Log()
    MUTATIONS[name](log)
    assert log.verdict(page=page)[1] is not None


@pytest.mark.parametrize("size", [0, 1, 2, 4, 76, 255, 256, 299, 300, 556, 599])
def test_the_first_bad_record_is_named_and_what_stands_before_it(size):
    log = Log()
    log.records[size][2] = entry(7777)
    stands, problem = log.verdict()
    assert problem == f"record {size + 1} was changed: its hash is another"
    assert stands == max(commit for commit in (0, *COMMITS) if commit <= size)


def rewritten() -> Log:
    """Another log of the same key's owner, made by somebody who could rewrite all but sign."""
    return Log(bodies=[entry(number + 1000) for number in range(1, 601)], signed=())


def test_who_can_not_sign_can_not_rewrite():
    log, forged = Log(), rewritten()
    assert forged.verdict()[1] is None, "a log of 600 needs no checkpoint yet: that is what the copies are for"
    forged.checkpoints = log.checkpoints
    assert forged.verdict()[1] is not None
    forged.checkpoints = {}
    assert "another root" in str(forged.verdict(log.note(3))[1])


def test_no_more_than_so_many_records_are_without_a_checkpoint(monkeypatch):
    log = Log(signed=(0, 3))
    assert log.verdict() == (600, None)
    monkeypatch.setattr(verification, "CHECKPOINT_RECORDS", 300)
    assert log.verdict() == (557, "records 4 to 557 are without a checkpoint")
    assert CHECKPOINT_RECORDS > 600


def test_a_copy_shows_a_cut_tail_a_rollback_and_another_log():
    log, forged = Log(), rewritten()
    note = log.note(600)
    log.records, log.heads = log.records[:3], {2: log.heads[2], 3: log.heads[3]}
    log.tiles, log.checkpoints = {}, {0: log.checkpoints[0], 3: log.checkpoints[3]}
    assert log.verdict() == (3, None), "a log that was put back whole to what it was shows nothing by itself"
    assert log.verdict(note) == (3, "cut off: there is a checkpoint over 600 records, and the log ends at 3")
    assert forged.verdict(note)[1] == "replaced: the copy of a checkpoint over 600 records has another root"
    assert "rolled back" in str(Log().verdict(note, log.note(3))[1])


def test_a_copy_shows_that_a_checkpoint_was_taken_back_though_all_records_stand():
    log = Log()
    size = max(log.checkpoints)
    note = log.checkpoints.pop(size)[1]
    assert log.verdict()[1] is None
    assert log.verdict(note)[1] == (
        f"rolled back: the checkpoint over {size} records was kept elsewhere and is gone here"
    )


def test_a_copy_that_was_changed_is_not_trusted():
    log = Log()
    note = log.note(300)
    assert "not to be trusted" in str(log.verdict(note.replace("300", "301"))[1])
    stranger = SignerKey.of("example.com/other", bytes(range(32)))
    assert "not to be trusted" in str(log.verdict(Checkpoint(stranger.name, 3, log.roots[3]).signed(stranger))[1])


def pruned(upto: int, *, tombstone: int = 600) -> Log:
    bodies = [entry(number) for number in range(1, 601)]
    bodies[tombstone - 1] = record.encode(Kind.LOG_PRUNED, time_us=1, upto=upto)
    log = Log(bodies=bodies)
    log.prunings = {tombstone: upto}
    for row in log.records[:upto]:
        row[2] = None
    return log


def test_a_pruned_log_stands():
    assert pruned(400).verdict() == (600, None)


def test_more_or_less_pruned_than_said_is_found():
    log = pruned(400)
    log.records[400][2] = None
    assert log.verdict()[1] == "record 401 is without content and was not pruned"
    log = pruned(400)
    log.records[10][2] = entry(11)
    assert log.verdict()[1] == "record 11 was pruned and has content"
    log = pruned(400)
    log.prunings = {600: 399}
    assert "do not agree" in str(log.verdict()[1])
    log = pruned(400)
    log.prunings = {}
    assert "do not agree" in str(log.verdict()[1])


def test_a_hash_that_stands_for_a_pruned_record_can_not_be_changed():
    log = pruned(400)
    log.records[7][1] = changed(log.records[7][1])
    assert log.verdict()[1] is not None
