import pytest

from tenantry.audit import record
from tenantry.audit.checkpoint import Checkpoint
from tenantry.audit.record import Kind
from tenantry.server import audit_log
from tenantry.server.audit_key import read_verifier
from tenantry.server.audit_log import AuditLog, AuditLogUnreadable, NotProvable
from tests.server.test_audit_log import entry

SIZES = (1, 2, 255, 256, 257, 512, 513, 777, 1500)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log with a checkpoint at each of some sizes, and the notes by size."""
    path = tmp_path_factory.mktemp("data") / audit_log.FILE_NAME
    log, notes = AuditLog(path), {}
    for size in SIZES:
        log.commit([entry(number) for number in range(log.size + 1, size + 1)], sign=True)
        notes[size] = audit_log.latest_checkpoint(path)
    log.commit([entry(1501)])
    log.close()
    return path, notes


@pytest.mark.parametrize("seq", [1, 2, 100, 255, 256, 257, 511, 512, 513, 1024, 1025, 1280, 1281, 1499, 1500])
def test_every_record_is_provable(log, seq):
    path, _ = log
    proof = audit_log.prove_record(path, seq)
    assert proof.check(read_verifier(path)).size == 1500
    assert proof.record == entry(seq)


@pytest.mark.parametrize("first", SIZES)
def test_growth_since_every_checkpoint_is_provable(log, first):
    path, notes = log
    key = read_verifier(path)
    proof = audit_log.prove_growth(path, notes[first], Checkpoint.parse(notes[first], key))
    assert [checkpoint.size for checkpoint in proof.check(key)] == [first, 1500]


@pytest.mark.parametrize(
    ("seq", "why"), [(0, "no record 0"), (-1, "no record"), (1501, "yet"), (1502, "no record 1502")]
)
def test_what_is_not_there_or_not_signed_yet_is_not_provable(log, seq, why):
    with pytest.raises(NotProvable, match=why):
        audit_log.prove_record(log[0], seq)


def test_what_was_pruned_is_not_provable_and_what_is_left_is(tmp_path):
    path = tmp_path / audit_log.FILE_NAME
    log = AuditLog(path)
    log.commit([entry(number) for number in range(600)])
    log.prune(300, record.encode(Kind.LOG_PRUNED, time_us=1, upto=300))
    log.close()
    with pytest.raises(NotProvable, match="pruned"):
        audit_log.prove_record(path, 300)
    assert audit_log.prove_record(path, 301).check(read_verifier(path)).size == 601


def test_without_a_log_or_a_checkpoint_nothing_is_provable(tmp_path):
    path = tmp_path / audit_log.FILE_NAME
    with pytest.raises(AuditLogUnreadable):
        audit_log.prove_record(path, 1)
    log = AuditLog(path)
    log.commit([entry(1)])
    log.close()
    with pytest.raises(NotProvable, match="no checkpoint"):
        audit_log.prove_record(path, 1)
