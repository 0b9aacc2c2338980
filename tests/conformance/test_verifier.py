"""The independent verifier accepts real logs and refuses each kind of change of one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.audit import record
from tenantry.audit.checkpoint import SignerKey
from tenantry.audit.record import Kind
from tenantry.server import audit_log
from tenantry.server.audit_key import key_file, read_verifier
from tenantry.server.audit_log import AuditLog
from tests.audit_logs import tamper

VERIFIER = Path(__file__).parents[2] / "conformance" / "verifier.py"


def entry(number: int) -> bytes:
    return record.encode(Kind.TOOL_CALL, time_us=number, tool="echo")


@pytest.fixture
def data(tmp_path):
    """A log of six hundred records in several commits, pruned once, with checkpoints and their copy."""
    log = AuditLog(tmp_path / audit_log.FILE_NAME, copy=tmp_path / "copy")
    log.commit([], sign=True)
    log.commit([entry(number) for number in range(300)])
    log.commit([entry(number) for number in range(300, 310)], sign=True)
    log.prune(100, record.encode(Kind.LOG_PRUNED, time_us=1, upto=100))
    for number in range(4):
        log.commit([entry(number)] * 72, sign=number == 2)
    log.close()
    return tmp_path


def verdict(data: Path, *more: str, key: str = "") -> tuple[int, str]:
    key = key or str(read_verifier(data / audit_log.FILE_NAME))
    command = [sys.executable, "-I", str(VERIFIER), str(data), "--key", key, *more]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout + run.stderr


def test_a_real_log_stands_with_and_without_the_copy(data):
    assert audit_log.verify(data / audit_log.FILE_NAME) == (599, None)
    for more in ((), ("--checkpoint-copy", str(data / "copy"))):
        assert verdict(data, *more) == (0, "localhost/tenantry/audit/0: 599 records stand\n")


CHANGES = [
    "UPDATE record SET body = CAST(replace(CAST(body AS TEXT), 'echo', 'echa') AS BLOB) WHERE seq = 400",
    "UPDATE record SET leaf = zeroblob(32) WHERE seq = 400",
    "UPDATE record SET leaf = zeroblob(32) WHERE seq = 50",
    "UPDATE record SET body = NULL WHERE seq = 400",
    "UPDATE record SET body = x'7b7d' WHERE seq = 50",
    "DELETE FROM record WHERE seq = 400",
    "DELETE FROM record WHERE seq > 590",
    "DELETE FROM record",
    "DELETE FROM head WHERE size = 300",
    "DELETE FROM head WHERE size > 500",
    "UPDATE head SET root = zeroblob(32) WHERE size = 300",
    "UPDATE head SET number = 9 WHERE size = 300",
    "UPDATE tile SET hash = zeroblob(32) WHERE number = 1",
    "DELETE FROM tile WHERE number = 0",
    "UPDATE checkpoint SET note = replace(note, '310', '300')",
    "DELETE FROM checkpoint WHERE size = 310",
    "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 0)",
    "UPDATE pruning SET upto = 99",
    "DELETE FROM pruning",
    "INSERT INTO record VALUES (600, zeroblob(32), NULL)",
    "INSERT INTO record VALUES (0, zeroblob(32), NULL)",
    "DROP TABLE record",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_log_is_refused(data, change):
    tamper(data / audit_log.FILE_NAME, change)
    status, said = verdict(data)
    assert status == 1
    assert "the log does not stand" in said


def test_two_rows_that_changed_places_are_refused(data):
    path = data / audit_log.FILE_NAME
    move = "UPDATE record SET seq = {} WHERE seq = {}"
    tamper(path, move.format(9999, 310), move.format(310, 400), move.format(400, 9999))
    assert verdict(data)[0] == 1


def test_a_log_that_was_put_back_or_replaced_is_refused_by_the_copy(data):
    path, copy = data / audit_log.FILE_NAME, ("--checkpoint-copy", str(data / "copy"))
    tamper(path, "DELETE FROM record WHERE seq > 310", "DELETE FROM head WHERE size > 310", "DELETE FROM pruning")
    tamper(path, "DELETE FROM tile WHERE number > 0", "DELETE FROM checkpoint WHERE size > 310")
    assert "cut off" in verdict(data, *copy)[1] or "pruned" in verdict(data, *copy)[1]
    path.unlink()
    log = AuditLog(path)
    log.commit([entry(7)] * 599, sign=True)
    log.close()
    assert verdict(data)[0] == 0, "the owner of the key made a new log: nothing inside of it can show that"
    assert "another root" in verdict(data, *copy)[1]


def test_another_key_and_no_key_are_refused(data):
    stranger = SignerKey.of("localhost/tenantry/audit/0", bytes(32))
    assert verdict(data, key=str(stranger.verifier))[0] == 1
    assert verdict(data, key=str(read_verifier(data / audit_log.FILE_NAME)).replace("+", "+0", 1))[0] == 1
    key_file(data / audit_log.FILE_NAME).unlink()


def test_it_is_short_and_shares_nothing_with_the_server():
    text = VERIFIER.read_text()
    assert len(text.splitlines()) <= 100
    assert not re.search(r"^\s*(from|import) (tenantry|conformance)", text, re.MULTILINE)
