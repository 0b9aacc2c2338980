from io import StringIO

import pytest

from tenantry.audit import checkpoint
from tenantry.audit.checkpoint import BadCheckpoint, BadKey, Checkpoint, SignerKey, VerifierKey

# The example of the implementation in Go that the form comes from.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GO_NOTE = f"{GO_TEXT}\n\u2014 PeterNeumann {GO_SIGNATURE}\n"
# The example of C2SP's text on signed notes.
C2SP_VERIFIER = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

KEY = SignerKey.of("example.com/log", bytes(32))
OTHER = SignerKey.of("example.com/other", bytes(range(32)))
ROOT = bytes(range(100, 132))
NOTE = Checkpoint("example.com/log", 7, ROOT).signed(KEY)


def test_a_note_is_byte_for_byte_the_published_one():
    key = SignerKey.parse(GO_SIGNER)
    assert key.sign(GO_TEXT) == GO_NOTE
    assert str(key.verifier) == GO_VERIFIER
    assert key.secret_text() == GO_SIGNER
    assert VerifierKey.parse(GO_VERIFIER).verify(GO_NOTE) == GO_TEXT


def test_a_published_verifier_key_is_read_and_written_back():
    assert str(VerifierKey.parse(C2SP_VERIFIER + "\n")) == C2SP_VERIFIER


def test_a_checkpoint_is_read_back():
    assert Checkpoint.parse(NOTE, KEY.verifier) == Checkpoint("example.com/log", 7, ROOT)
    assert NOTE.splitlines()[:2] == ["example.com/log", "7"]


def test_the_signature_of_a_witness_beside_the_logs_own_does_no_harm():
    witness = OTHER.sign(NOTE.rpartition("\n\n")[0] + "\n").rpartition("\n\n")[2]
    assert Checkpoint.parse(NOTE + witness, KEY.verifier).size == 7


@pytest.mark.parametrize("position", range(len(NOTE.encode())))
def test_no_letter_of_a_note_can_be_changed(position):
    changed = bytearray(NOTE.encode())
    changed[position] ^= 1
    with pytest.raises(BadCheckpoint):
        Checkpoint.parse(changed.decode("utf-8", "replace"), KEY.verifier)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        "nonsense",
        NOTE[:-1],
        NOTE + "x",
        NOTE.partition("\n\n")[0],
        NOTE.replace("\u2014", "-"),
        KEY.sign("example.com/log\n07\n" + "A" * 43 + "=\n"),
        KEY.sign("example.com/log\n7\n"),
        KEY.sign("example.com/log\n7\n" + "A" * 42 + "B=\n"),
        OTHER.sign(NOTE.rpartition("\n\n")[0] + "\n"),
        Checkpoint("example.com/other", 7, ROOT).signed(KEY),
    ],
)
def test_what_is_no_checkpoint_of_the_log_is_refused(note):
    with pytest.raises(BadCheckpoint):
        Checkpoint.parse(note, KEY.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        GO_VERIFIER.replace("c74f20a3", "c74f20a4"),
        GO_VERIFIER[:-4],
        GO_VERIFIER.replace("+AR", "+BR"),
        "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        GO_SIGNER,
    ],
)
def test_what_is_no_verifier_key_is_refused(text):
    with pytest.raises(BadKey):
        VerifierKey.parse(text)


@pytest.mark.parametrize("text", ["", GO_VERIFIER, GO_SIGNER.replace("c74f20a3", "c74f20a4"), GO_SIGNER[:-4]])
def test_what_is_no_signer_key_is_refused(text):
    with pytest.raises(BadKey):
        SignerKey.parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb"])
def test_a_key_has_a_name_that_a_note_can_hold(name):
    with pytest.raises(BadKey):
        SignerKey.of(name, bytes(32))


def test_a_secret_is_not_in_what_a_key_shows_of_itself():
    assert KEY.secret_text().rpartition("+")[2] not in repr(KEY)


def test_notes_are_found_one_after_another_and_torn_ones_passed_over():
    torn = NOTE[:30]
    assert list(checkpoint.notes_in(StringIO(NOTE + "\n" + torn + "\n" + NOTE + "\n" + torn))) == [NOTE, NOTE]
    assert checkpoint.origin_of(NOTE) == "example.com/log"
