"""`tenantry audit`: what is shown of a log, and the exit statuses of its check."""

import json

import pytest

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.cli import app
from tenantry.server import audit_log
from tenantry.server.audit_log import AuditLog
from tests.audit_logs import tamper as tamper_with

HOSTILE = "\x1b[2J[red]\u202eevil[/red]\n[/]"
# 2026-11-23 12:00:00 UTC, in microseconds
NOON = 1_795_435_200_000_000
ENTRIES = [
    record.encode(Kind.LOGIN, time_us=NOON, tenant="tenant-a", subject="alice"),
    record.encode(Kind.TOOL_CALL, time_us=NOON + 1_000_000, tenant="tenant-a", tool="echo", outcome="succeeded"),
    record.encode(Kind.TOOL_CALL, time_us=NOON + 2_000_000, tenant="tenant-b", tool="echo", outcome="succeeded"),
    record.encode(Kind.TOOL_DENIED, time_us=NOON + 3_000_000, tenant="tenant-b", tool=HOSTILE, decision="denied"),
]


@pytest.fixture
def data(tmp_path):
    log = AuditLog(tmp_path / audit_log.FILE_NAME)
    log.commit(ENTRIES[:3])
    log.commit(ENTRIES[3:])
    log.close()
    return tmp_path


@pytest.fixture
def audit(capsys):
    """Run `tenantry audit` and give exit status, stdout and stderr."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            app(["audit", *map(str, words)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def tamper(data, *statements):
    tamper_with(data / audit_log.FILE_NAME, *statements)


def listed(audit, data, *words):
    """The sequence numbers that `audit list` shows."""
    status, out, _ = audit("list", "--data", data, "--json", *words)
    assert status == 0
    return [json.loads(line)["seq"] for line in out.splitlines()]


def test_the_table_has_a_line_for_each_record_oldest_first(audit, data):
    status, out, err = audit("list", "--data", data)
    heading, *lines = out.splitlines()
    assert (status, err, len(lines)) == (0, "", len(ENTRIES))
    assert heading.split()[:4] == ["seq", "time", "kind", "tenant"]
    assert lines[0].split() == ["1", "2026-11-23T12:00:00.000Z", "login", "tenant-a", "alice"]
    assert lines[1].split() == ["2", "2026-11-23T12:00:01.000Z", "tool_call", "tenant-a", "echo", "succeeded"]


def test_json_has_one_object_a_line_with_everything_that_the_record_holds(audit, data):
    _, out, _ = audit("list", "--data", data, "--json")
    first = json.loads(out.splitlines()[0])
    assert first == {
        "seq": 1,
        "kind": "login",
        "time": "2026-11-23T12:00:00.000Z",
        "tenant": "tenant-a",
        "subject": "alice",
    }


def test_a_hostile_name_is_text_in_the_table(audit, data):
    _, out, _ = audit("list", "--data", data)
    assert "\\u001b[2J[red]\\u202eevil[/red]\\u000a[/]" in out
    assert all(line.isprintable() for line in out.splitlines())


def test_a_hostile_name_is_ascii_in_json(audit, data):
    _, out, _ = audit("list", "--data", data, "--json")
    assert all(line.isascii() and line.isprintable() for line in out.splitlines())
    assert json.loads(out.splitlines()[-1])["tool"] == HOSTILE


@pytest.mark.parametrize(
    ("words", "sequence"),
    [
        ((), [1, 2, 3, 4]),
        (("--tenant", "tenant-a"), [1, 2]),
        (("--kind", "tool_call"), [2, 3]),
        (("--tool", "echo"), [2, 3]),
        (("--tool", "echo", "--tenant", "tenant-b"), [3]),
        (("--since", "2026-11-23T12:00:02"), [3, 4]),
        (("--since", "2026-11-23T13:00:03+01:00"), [4]),
        (("--tenant", "tenant-c"), []),
    ],
)
def test_filters_let_through_what_has_all_the_values(audit, data, words, sequence):
    assert listed(audit, data, *words) == sequence


def test_a_log_that_is_not_there_can_not_be_listed(audit, tmp_path):
    status, out, err = audit("list", "--data", tmp_path / "nowhere")
    assert (status, out) == (1, "")
    assert err.startswith("tenantry: ")
    assert err.count("\n") == 1


def test_a_malformed_record_ends_the_list_with_an_error(audit, data):
    tamper(data, "UPDATE record SET body = x'7b7d' WHERE seq = 2")
    status, out, err = audit("list", "--data", data, "--json")
    assert (status, len(out.splitlines())) == (1, 1)
    assert "kind is missing" in err


def test_an_intact_log_stands(audit, data):
    status, out, err = audit("verify", "--data", data)
    assert (status, err) == (0, "")
    assert "4 records" in out


def test_an_empty_log_stands(audit, tmp_path):
    AuditLog(tmp_path / audit_log.FILE_NAME).close()
    status, out, _ = audit("verify", "--data", tmp_path)
    assert status == 0
    assert " 0 records" in out


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM record WHERE seq = 4", "records 1 to 3 stand"),
        ("DELETE FROM record WHERE seq = 1", "record 1 is missing; the next one is 2"),
        ("UPDATE record SET body = x'ff' WHERE seq = 4", "record 4 was changed: its hash is another; records 1 to 3"),
        ("DROP TABLE record", "can't be read"),
    ],
)
def test_a_log_that_was_changed_does_not_stand(audit, data, statement, problem):
    tamper(data, statement)
    status, out, err = audit("verify", "--data", data)
    assert (status, out) == (1, "")
    assert problem in err


def test_a_log_that_is_not_there_does_not_stand(audit, tmp_path):
    status, out, err = audit("verify", "--data", tmp_path / "nowhere")
    assert (status, out) == (1, "")
    assert "can't be read" in err


def test_looking_changes_nothing_on_the_disk(audit, data):
    path = data / audit_log.FILE_NAME
    before = path.read_bytes()
    audit("verify", "--data", data)
    audit("list", "--data", data)
    assert path.read_bytes() == before
    assert audit("list", "--data", data / "none")[0] == 1
    assert not (data / "none").exists()
