"""`tenantry audit`: what is shown of a log, and the exit statuses of its check."""

import csv
import json
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

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
        "log": "0",
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


# --- several logs


@pytest.fixture
def administered(data):
    """A second log beside the server's, with a record between its second and third."""
    log = AuditLog(data / audit_log.ADMIN_FILE_NAME)
    log.commit([record.encode(Kind.CLIENT_REGISTERED, time_us=NOON + 1_500_000)], sign=True)
    log.close()
    return data


def test_several_logs_are_listed_in_one_order_and_told_apart(audit, administered):
    _, out, _ = audit("list", "--data", administered)
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["1", "2", "admin:1", "3", "4"]
    assert listed(audit, administered, "--log", "admin") == [1]
    assert audit("list", "--data", administered, "--log", "7")[0] == 1


def test_all_logs_are_verified_and_one_that_does_not_stand_is_enough(audit, administered):
    status, out, _ = audit("verify", "--data", administered)
    assert (status, len(out.splitlines())) == (0, 2)
    tamper(administered, "UPDATE record SET body = x'ff' WHERE seq = 4")
    assert audit("verify", "--data", administered)[0] == 1
    assert audit("verify", "--data", administered, "--log", "admin")[0] == 0


# --- verify with what was kept elsewhere


@pytest.fixture
def copied(tmp_path):
    """A data directory whose log's checkpoints have a copy; the log's file before the last record is kept, too."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    path = data / audit_log.FILE_NAME
    for entries in (ENTRIES[:2], ENTRIES[2:]):
        log = AuditLog(path, copy=copy)
        log.commit(entries, sign=True)
        log.close()
        if len(entries) == 2 and not (tmp_path / "old").exists():
            (tmp_path / "old").write_bytes(path.read_bytes())
    return tmp_path


def test_a_log_fits_the_copy_of_its_checkpoints_and_its_key(audit, copied):
    _, key, _ = audit("key", "--data", copied / "data")
    with_copy = ("--data", copied / "data", "--checkpoint-copy", copied / "copy")
    assert audit("verify", *with_copy)[0] == 0
    assert audit("verify", *with_copy, "--key", key.strip())[0] == 0
    assert key.startswith("localhost/tenantry/audit/0+")


def test_a_log_that_was_put_back_is_found_by_the_copy_and_by_nothing_else(audit, copied):
    (copied / "data" / audit_log.FILE_NAME).write_bytes((copied / "old").read_bytes())
    assert audit("verify", "--data", copied / "data")[0] == 0
    status, _, err = audit("verify", "--data", copied / "data", "--checkpoint-copy", copied / "copy")
    assert status == 1
    assert "cut off: there is a checkpoint over 4 records, and the log ends at 2; records 1 to 2 stand" in err


def test_a_log_that_is_gone_is_missed(audit, copied, administered):
    with (copied / "copy").open("a") as file:
        file.write("\n" + str(audit_log.latest_checkpoint(administered / audit_log.ADMIN_FILE_NAME)))
    status, _, err = audit("verify", "--data", copied / "data", "--checkpoint-copy", copied / "copy")
    assert status == 1
    assert "localhost/tenantry/audit/admin" in err


def test_a_check_that_can_not_be_made_as_asked_has_a_status_of_its_own(audit, copied):
    data = copied / "data"
    assert audit("verify", "--data", data, "--key", "nonsense")[0] == 2
    assert audit("verify", "--data", data, "--checkpoint-copy", copied / "nowhere")[0] == 2
    stranger = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert audit("verify", "--data", data, "--key", stranger)[0] == 1
    (data / "audit-0.key").unlink()
    assert audit("verify", "--data", data)[0] == 1


# --- proofs


def test_a_record_is_proven_and_checked_without_the_log(audit, copied, tmp_path):
    data = copied / "data"
    key = audit("key", "--data", data)[1].strip()
    status, proof, _ = audit("prove", "2", "--data", data)
    (tmp_path / "proof").write_text(proof)
    assert status == 0
    assert "tenant-b" not in proof
    status, out, _ = audit("check", tmp_path / "proof", "--key", key)
    assert status == 0
    assert "localhost/tenantry/audit/0: record 2 of 4, 2026-11-23T12:00:01.000Z" in out
    (tmp_path / "proof").write_text(proof.replace("tenant-a", "tenant-c"))
    assert audit("check", tmp_path / "proof", "--key", key)[0] == 1
    assert audit("check", tmp_path / "nowhere", "--key", key)[0] == 2
    assert audit("check", tmp_path / "proof", "--key", "nonsense")[0] == 2


def test_growth_since_a_checkpoint_is_proven_and_checked(audit, copied, tmp_path):
    data = copied / "data"
    key = audit("key", "--data", data)[1].strip()
    first = "".join((copied / "copy").read_text().splitlines(keepends=True)[1:6])
    (tmp_path / "kept").write_text(first)
    status, proof, _ = audit("consistency", tmp_path / "kept", "--data", data)
    (tmp_path / "proof").write_text(proof)
    assert status == 0
    assert audit("check", tmp_path / "proof", "--key", key)[1].endswith("what 2 records were is unchanged in 4\n")
    (tmp_path / "kept").write_text("nonsense")
    assert audit("consistency", tmp_path / "kept", "--data", data)[0] == 2


@pytest.mark.parametrize(("seq", "status"), [("5", 1), ("admin:1", 1), ("x", 2), ("0", 1)])
def test_what_can_not_be_proven_is_said(audit, copied, seq, status):
    found, out, err = audit("prove", seq, "--data", copied / "data")
    assert (found, out) == (status, "")
    assert err.startswith("tenantry: ")


# --- export, stats, prune


def test_everything_is_exported_as_json_lines_and_as_csv(audit, administered, tmp_path):
    _, out, _ = audit("export", "--data", administered)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["log"], line["seq"]) for line in lines] == [("0", 1), ("0", 2), ("admin", 1), ("0", 3), ("0", 4)]
    assert audit("export", "--data", administered, "--format", "csv", "--output", tmp_path / "x.csv")[0] == 0
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [line["kind"] for line in lines]
    assert rows[-1]["tool"] == HOSTILE
    assert audit("export", "--data", administered, "--output", tmp_path / "x.csv")[0] == 1, "no file is written over"


def test_a_cell_is_no_formula(audit, tmp_path):
    log = AuditLog(tmp_path / audit_log.FILE_NAME)
    log.commit([record.encode(Kind.TOOL_CALL, time_us=NOON, tool="=1+1", duration_us=3)])
    log.close()
    _, out, _ = audit("export", "--data", tmp_path, "--format", "csv")
    (row,) = csv.DictReader(out.splitlines())
    assert (row["tool"], row["duration_us"]) == ("'=1+1", "3")


def test_calls_are_counted_and_drawn(audit, data, tmp_path):
    status, out, _ = audit("stats", "--data", data, "--svg", tmp_path / "calls.svg")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["tenant", "called", "succeeded", "all"],
        ["tenant-a", "echo", "1", "1"],
        ["tenant-b", "echo", "1", "1"],
    ]
    drawn = ET.fromstring((tmp_path / "calls.svg").read_text())
    texts = ["".join(element.itertext()) for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert "tenant-a · echo" in texts


def test_what_is_old_is_pruned_and_the_log_stands(audit, data):
    assert audit("prune", "--before", "2026-11-23T12:00:02", "--data", data)[0] == 0
    assert listed(audit, data) == [3, 4, 5]
    status, out, _ = audit("verify", "--data", data)
    assert status == 0
    assert "5 records" in out
    status, out, _ = audit("prune", "--before", "2026-11-23T12:00:02", "--data", data)
    assert (status, "nothing is that old" in out) == (0, True)
    later = datetime.now(UTC).replace(year=2100).isoformat()
    assert audit("prune", "--before", later, "--data", data)[0] == 0
    assert audit("verify", "--data", data)[0] == 0
    assert listed(audit, data) == [5, 6]


def test_a_log_that_a_server_has_is_not_pruned(audit, data):
    log = AuditLog(data / audit_log.FILE_NAME)
    status, _, err = audit("prune", "--before", "2100-01-01", "--data", data)
    log.close()
    assert status == 1
    assert "another process writes to it" in err
    assert listed(audit, data) == [1, 2, 3, 4]
    assert audit("prune", "--before", "2100-01-01", "--data", data / "nowhere")[0] == 1
