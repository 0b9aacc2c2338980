import sqlite3
import stat
from contextlib import closing

import pytest

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.server import audit_log
from tenantry.server.audit_log import AuditLog


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
        "INSERT INTO record VALUES (9, x'00')",
        "INSERT INTO record VALUES (2, x'00')",
        "INSERT OR REPLACE INTO record VALUES (1, x'00')",
    ],
)
def test_the_database_itself_refuses_anything_but_the_next_record(path, statement):
    log = AuditLog(path)
    log.commit([entry(1), entry(2)])
    log.close()
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.IntegrityError, match=r"audit log|UNIQUE"):
        connection.execute(statement)
    connection.close()

    assert audit_log.verify(path) == (2, None)


def tampered(path, *statements: str) -> tuple[int, str | None]:
    log = AuditLog(path)
    log.commit([entry(number) for number in range(1, 6)])
    log.close()
    connection = sqlite3.connect(path)
    for trigger in ("no_change", "no_removal", "no_hole"):
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return audit_log.verify(path)


def test_a_record_that_was_taken_out_is_missed(path):
    count, problem = tampered(path, "DELETE FROM record WHERE seq = 3")

    assert (count, problem) == (2, "record 3 is missing; the next one is 4")


@pytest.mark.parametrize("body", ["x'00'", """CAST('{"kind":"other","time":1}' AS BLOB)""", "x''"])
def test_a_record_that_was_spoilt_is_found(path, body):
    count, problem = tampered(path, f"UPDATE record SET body = {body} WHERE seq = 4")

    assert count == 3
    assert problem is not None
    assert "record 4" in problem


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


def test_only_the_owner_can_read_the_log(path):
    AuditLog(path).close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_is_readable_while_it_is_written_to(path):
    log = AuditLog(path)
    log.commit([entry(1)])
    reader = audit_log.read(path)
    with closing(reader):  # type: ignore[type-var]
        first = next(reader)
        log.commit([entry(2)])
    log.close()

    assert first == (1, entry(1))


def test_what_was_not_committed_is_not_there(path, monkeypatch):
    log = AuditLog(path)
    log.commit([entry(1)])
    with pytest.raises(sqlite3.Error):
        log.commit([entry(2), None])  # type: ignore[list-item]

    assert audit_log.verify(path) == (1, None)
    log.close()
