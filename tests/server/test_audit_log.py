import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from tenantry.audit import checkpoint, denials, record
from tenantry.audit.checkpoint import BadKey, SignerKey
from tenantry.audit.denials import Denial
from tenantry.audit.record import Kind
from tenantry.server import audit_log
from tenantry.server.audit_key import AuditLogInUse, key_file
from tenantry.server.audit_log import AuditLog, AuditLogDamaged, writing
from tenantry.server.audit_log.growth import ROWS_MAX
from tests.audit_logs import tamper


def entry(number: int, **fields: object) -> bytes:
    return record.encode(Kind.TOOL_CALL, time_us=number, **fields)


@pytest.fixture
def path(tmp_path):
    return tmp_path / audit_log.FILE_NAME


def test_records_are_read_back_in_order_and_numbered_from_one_over_a_reopening(path):
    log = AuditLog(path)
    log.commit([entry(1), entry(2)])
    log.close()
    log = AuditLog(path)
    log.commit([entry(3)])

    assert list(audit_log.read(path)) == [(1, entry(1)), (2, entry(2)), (3, entry(3))]
    assert list(audit_log.read(path, after=2)) == [(3, entry(3))]
    assert audit_log.verify(path) == (3, None)
    log.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET body = x'00' WHERE seq = 1",
        "DELETE FROM record",
        "UPDATE record SET body = NULL WHERE seq = 1",
        "UPDATE record SET leaf = x'00' WHERE seq = 1",
        "INSERT INTO record VALUES (9, x'00', x'00')",
        "INSERT INTO record VALUES (2, x'00', x'00')",
        "INSERT INTO record VALUES (3, x'00', NULL)",
        "INSERT OR REPLACE INTO record VALUES (1, x'00', x'00')",
        "UPDATE head SET root = x'00'",
        "DELETE FROM head",
        "UPDATE checkpoint SET note = ''",
        "DELETE FROM checkpoint",
        "UPDATE tile SET hash = x'00'",
        "DELETE FROM tile",
    ],
)
def test_the_database_itself_refuses_anything_but_the_next_record(path, statement):
    log = AuditLog(path)
    log.commit([entry(number) for number in range(1, 257)], sign=True)
    log.close()
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match=r"audit log|UNIQUE"):
        connection.execute(statement)
    connection.close()

    assert audit_log.verify(path) == (256, None)


def tampered(path, *statements: str) -> tuple[int, str | None]:
    log = AuditLog(path)
    log.commit([entry(number) for number in range(1, 4)])
    log.commit([entry(number) for number in range(4, 6)], sign=True)
    log.close()
    tamper(path, *statements)
    return audit_log.verify(path)


def test_a_record_that_was_taken_out_is_missed(path):
    count, problem = tampered(path, "DELETE FROM record WHERE seq = 3")

    assert (count, problem) == (0, "record 3 is missing; the next one is 4")


@pytest.mark.parametrize("body", ["x'00'", """CAST('{"kind":"other","time":1}' AS BLOB)""", "x''"])
def test_a_record_that_was_spoilt_is_found(path, body):
    count, problem = tampered(path, f"UPDATE record SET body = {body} WHERE seq = 4")

    assert count == 3
    assert problem == "record 4 was changed: its hash is another"


def test_a_file_that_is_no_database_is_said_to_be_unreadable(path):
    path.write_bytes(b"nonsense" * 1000)
    count, problem = audit_log.verify(path)

    assert count == 0
    assert problem is not None


def test_a_log_that_is_not_there_is_not_made_by_reading(path):
    assert audit_log.verify(path)[1] is not None
    assert not path.exists()


def test_records_are_found_by_their_values(path):
    log = AuditLog(path)
    log.commit([entry(1, tenant="a", tool="echo"), entry(2, tenant="b", tool="echo"), entry(3, tenant="a", tool="x")])
    log.close()

    def seqs(**wanted) -> list[int]:
        return [found["seq"] for found in audit_log.matching(path, **wanted)]

    assert seqs(tenant="a") == [1, 3]
    assert seqs(tenant="a", tool="echo") == [1]
    assert seqs(since_us=2) == [2, 3]
    assert seqs(kind="tool_denied") == []


def test_only_the_owner_can_read_the_log_and_its_key(path):
    AuditLog(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file(path).stat().st_mode) == 0o600


def test_a_log_is_readable_while_it_is_written_to(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    reader = audit_log.read(path)
    with closing(reader):
        first = next(reader)
        log.commit([entry(2)])
    log.close()

    assert first == (1, entry(1))


def fill(log: AuditLog) -> None:
    """Leave the file no room, until it is opened again."""
    (pages,) = log._connection.execute("PRAGMA page_count").fetchone()
    log._connection.execute(f"PRAGMA max_page_count={pages}")


def test_what_was_not_committed_is_not_there(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    fill(log)
    with pytest.raises(sqlite3.Error, match="full"):
        log.commit([entry(2), bytes(100_000)])

    assert audit_log.verify(path) == (1, None)
    log.close()


def test_a_dropped_trigger_is_found(path):
    assert tampered(path) == (5, None)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER record_no_change")
    assert audit_log.verify(path) == (5, "the database no longer refuses changes: its form was changed")
    with pytest.raises(AuditLogDamaged, match="form"):
        AuditLog(path)


def test_a_second_writer_is_refused_and_the_first_goes_on(path):
    log = AuditLog(path)
    with pytest.raises(AuditLogInUse):
        AuditLog(path)
    log.commit([entry(1)])
    log.close()
    AuditLog(path).close()
    assert audit_log.verify(path) == (1, None)


def test_a_checkpoint_is_made_when_asked_for_and_after_so_many_records_and_never_twice_of_one_size(path):
    log = AuditLog(path)
    log.commit([], sign=True)
    log.commit([], sign=True)
    log.commit([entry(1)], sign=True)
    for _ in range(10):
        log.commit([entry(2)] * 250)
    log.close()
    with closing(sqlite3.connect(path)) as connection:
        sizes = [size for (size,) in connection.execute("SELECT size FROM checkpoint ORDER BY number")]

    assert sizes == [0, 1, 1001, 2001]
    assert audit_log.verify(path) == (2501, None)


def test_checkpoints_are_copied_one_after_another(path, tmp_path):
    copy = tmp_path / "elsewhere"
    copy.write_text("torn in the mid")
    log = AuditLog(path, host="example.com", copy=copy)
    for number in range(3):
        log.commit([entry(number)], sign=True)
    log.close()
    notes = list(checkpoint.notes_in(StringIO(copy.read_text())))

    assert [note.splitlines()[:2] for note in notes] == [["example.com/tenantry/audit/0", str(n)] for n in (1, 2, 3)]
    assert audit_log.latest_checkpoint(path) == notes[-1]
    assert audit_log.verify(path, copies=notes) == (3, None)


def test_a_copy_that_can_not_be_written_does_not_stop_the_log(path, tmp_path):
    log = AuditLog(path, copy=tmp_path / "nowhere" / "copy")
    log.commit([entry(1)], sign=True)
    log.close()
    assert audit_log.verify(path) == (1, None)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700])
def test_a_log_goes_on_where_it_ended(path, size):
    for _ in range(2):
        log = AuditLog(path)
        log.commit([entry(number) for number in range(size)])
        log.close()
    assert audit_log.verify(path) == (2 * size, None)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM record WHERE seq = 5",
        "DELETE FROM head WHERE size = 5",
        "UPDATE record SET body = x'00' WHERE seq = 5",
        "UPDATE record SET leaf = x'00' WHERE seq = 4",
        "UPDATE head SET root = x'00' WHERE size = 5",
        "UPDATE checkpoint SET note = replace(note, '5', '6')",
    ],
)
def test_nothing_is_added_to_a_log_whose_end_does_not_fit(path, statement):
    tampered(path, statement)
    with pytest.raises(AuditLogDamaged):
        AuditLog(path)


def test_a_log_whose_key_was_replaced_is_neither_trusted_nor_added_to(path):
    tampered(path)
    key_file(path).write_text(SignerKey.of("localhost/tenantry/audit/0", bytes(32)).secret_text())
    with pytest.raises(AuditLogDamaged, match="key"):
        AuditLog(path)
    assert "not to be trusted" in str(audit_log.verify(path)[1])


@pytest.mark.parametrize("torn", ["", "PRIVATE+KEY+loc", "\0" * 100])
def test_a_key_that_a_power_cut_tore_is_made_anew_before_there_is_a_log_and_never_after(path, torn):
    key_file(path).write_text(torn)
    AuditLog(path).close()
    assert audit_log.verify(path) == (0, None)
    key_file(path).write_text(torn)
    with pytest.raises(BadKey):
        AuditLog(path)
    assert audit_log.verify(path)[1] is not None


def test_after_a_failure_nothing_is_taken_until_the_file_was_opened_again(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    fill(log)
    with pytest.raises(sqlite3.Error, match="full"):
        log.commit([entry(2), bytes(100_000)])
    with pytest.raises(sqlite3.Error, match="failed before"):
        log.commit([entry(2)])
    log.reopen()
    log.commit([entry(3)])
    log.close()
    assert [body for _, body in audit_log.read(path)] == [entry(1), entry(3)]
    assert audit_log.verify(path) == (2, None)


def test_a_file_that_lost_what_was_acknowledged_is_not_taken_again(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    old = path.read_bytes(), (path.parent / (path.name + "-wal")).read_bytes()
    log.commit([entry(2)])
    log.close()
    log = AuditLog(path)
    for name, content in zip((path.name, path.name + "-wal"), old, strict=True):
        (path.parent / name).write_bytes(content)
    (path.parent / (path.name + "-shm")).unlink()
    with pytest.raises(AuditLogDamaged, match="acknowledged"):
        log.reopen()
    with pytest.raises(sqlite3.Error):
        log.commit([entry(3)])
    log.close()


def wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def records_without_wal(path: Path) -> int:
    """How many records are where they stay."""
    alone = path.with_name("alone.db")
    alone.write_bytes(path.read_bytes())
    with closing(sqlite3.connect(alone)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return 0
        return int(connection.execute("SELECT count(*) FROM record").fetchone()[0])


def test_a_backfill_moves_and_flushes_what_was_committed_which_commits_leave_alone(path, monkeypatch):
    log = AuditLog(path)
    flushed: list[str] = []
    monkeypatch.setattr(writing, "_flush", lambda file: flushed.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    for number in range(600):  # more pages than SQLite itself would leave
        log.commit([entry(number, reason="x" * 250)])
    assert records_without_wal(path) == 0
    log.backfill()
    assert records_without_wal(path) == 600
    assert flushed == [str(path.resolve())]
    log.commit([entry(601)])
    assert records_without_wal(path) == 600
    log.close()
    assert audit_log.verify(path) == (601, None)


def test_where_nobody_backfills_a_commit_does_before_the_write_ahead_log_is_too_long(path, monkeypatch):
    monkeypatch.setattr(writing, "WAL_PAGES_MAX", 50)
    log = AuditLog(path)
    for number in range(100):
        log.commit([entry(number)])
    assert wal_of(path).stat().st_size < 60 * 4120
    assert records_without_wal(path) > 50
    log.close()


def test_a_backfill_takes_no_lock_away_by_which_others_know_that_the_log_is_open(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    log.backfill()
    log.reopen()
    log.commit([entry(2)])
    log.backfill()
    other = (
        f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('SELECT * FROM record').fetchall(); c.close()"
    )
    subprocess.run([sys.executable, "-c", other], check=True)
    assert wal_of(path).exists(), "somebody else thought that it was the last to have it open"
    log.commit([entry(3)])
    log.close()
    assert audit_log.verify(path) == (3, None)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_backfill_holds_no_more_files_than_the_log_did_before(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    before = descriptors()
    log.backfill()
    assert descriptors() == before
    log.reopen()
    assert descriptors() == before
    log.close()


def test_a_pruned_log_has_the_hashes_and_the_tombstone_and_stands(path):
    log = AuditLog(path)
    secret = entry(1, tool="a-name-that-goes")
    log.commit([secret, entry(2)])
    log.prune(2, record.encode(Kind.LOG_PRUNED, time_us=3, upto=2))
    log.commit([entry(4)])
    log.prune(3, record.encode(Kind.LOG_PRUNED, time_us=5, upto=3))
    log.commit([entry(6)])
    log.close()

    assert audit_log.verify(path) == (6, None)
    assert [seq for seq, _ in audit_log.read(path)] == [3, 4, 5, 6]
    log = AuditLog(path)
    log.close()
    assert b"a-name-that-goes" not in b"".join(file.read_bytes() for file in path.parent.glob("audit-0.db*"))


def counters(path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT about, count, first, last FROM denial ORDER BY about").fetchall()


def test_more_kinds_of_denials_than_a_statement_takes_are_counted_and_summarised_in_one_commit(path):
    log = AuditLog(path)
    log._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)  # SQLite's own; some allow more
    alike = [denials.about(tenant="a", tool=f"t{number}") for number in range(3 * ROWS_MAX)]
    log.commit([entry(1)], denials=[Denial(about, 5) for about in alike])
    assert len(counters(path)) == len(alike)
    log.commit([], summarise=True)
    assert (log.size, counters(path)) == (1 + len(alike), [])
    log.close()
    assert audit_log.verify(path).problem is None


def test_denials_are_counted_durably_and_become_records_that_count_as_many(path):
    log = AuditLog(path)
    alike = denials.about(tenant="a", tool="x")
    log.commit([entry(1)], denials=[Denial(alike, 5), Denial(alike, 6)])
    log.commit([], denials=[Denial(alike, 3)])
    assert counters(path) == [(alike, 3, 3, 6)]
    assert log.size == 1
    log.commit([entry(2)], denials=[Denial(alike, 9)], summarise=True)
    assert counters(path) == [(alike, 1, 9, 9)], "what came with the summary is counted anew"
    log.close()
    log = AuditLog(path)
    log.commit([], summarise=True)
    log.commit([], summarise=True)
    log.close()

    assert counters(path) == []
    found = [record.decode(body) for _, body in audit_log.read(path)]
    assert [(one.get("count"), one.get("first"), one.get("last")) for one in found] == [
        (None, None, None),
        (None, None, None),
        (3, 3, 6),
        (1, 9, 9),
    ]
    assert audit_log.verify(path) == (4, None)
