import json

import pytest

from tenantry.audit import merkle, proof
from tenantry.audit.checkpoint import Checkpoint, SignerKey
from tenantry.audit.proof import BadProof, GrowthProof, RecordProof
from tests.audit.test_merkle import by_definition, entries_of, subtree_of

KEY = SignerKey.of("example.com/tenantry/audit/0", bytes(32))
OTHER = SignerKey.of("example.com/tenantry/audit/0", bytes(range(32)))
ENTRIES = entries_of(11)


def note(size: int, key: SignerKey = KEY) -> str:
    return Checkpoint(key.name, size, by_definition(ENTRIES[:size])).signed(key)


def of_record(seq: int = 6) -> RecordProof:
    path = merkle.inclusion_path(seq - 1, 11, subtree_of(ENTRIES))
    return RecordProof(seq=seq, record=ENTRIES[seq - 1], path=path, checkpoint=note(11))


def of_growth(first: int = 5) -> GrowthProof:
    path = merkle.consistency_path(first, 11, subtree_of(ENTRIES)) if first else []
    return GrowthProof(first=note(first), second=note(11), path=path)


def test_a_proof_of_a_record_is_written_read_and_holds():
    read = proof.parse(of_record().to_text())
    assert read == of_record()
    assert isinstance(read, RecordProof)
    assert read.check(KEY.verifier).size == 11


@pytest.mark.parametrize("first", [0, 1, 5, 8, 11])
def test_a_proof_of_growth_is_written_read_and_holds(first):
    read = proof.parse(of_growth(first).to_text())
    assert read == of_growth(first)
    assert isinstance(read, GrowthProof)
    assert [checkpoint.size for checkpoint in read.check(KEY.verifier)] == [first, 11]


def test_a_proof_shows_one_record_and_no_other():
    text = json.loads(of_record().to_text())
    assert text["record"] == "5"
    assert set(text) == {"format", "seq", "record", "path", "checkpoint"}


def changed(text: str, **members: object) -> str:
    return json.dumps({**json.loads(text), **members})


@pytest.mark.parametrize(
    "members",
    [
        {"seq": 7},
        {"seq": 0},
        {"seq": True},
        {"seq": "6"},
        {"record": "6"},
        {"record": ""},
        {"record": "\ud800"},
        {"path": []},
        {"path": "x"},
        {"path": ["AA=="]},
        {"path": [7]},
        {"checkpoint": note(10)},
        {"checkpoint": note(11, OTHER)},
        {"checkpoint": 7},
        {"format": "tenantry-audit-record/2"},
    ],
)
def test_a_proof_with_anything_changed_does_not_hold(members):
    with pytest.raises(BadProof):
        proof.parse(changed(of_record().to_text(), **members)).check(KEY.verifier)


@pytest.mark.parametrize(
    "members", [{"first": note(4)}, {"first": note(5, OTHER)}, {"second": note(10)}, {"path": []}, {"second": note(3)}]
)
def test_a_proof_of_growth_with_anything_changed_does_not_hold(members):
    with pytest.raises(BadProof):
        proof.parse(changed(of_growth().to_text(), **members)).check(KEY.verifier)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000])
def test_what_is_no_proof_is_refused(text):
    with pytest.raises(BadProof):
        proof.parse(text)
