"""Proofs that stand by themselves: with nothing but a file and the log's public key, anybody can check them.

A proof shows one record and hashes, and nothing else of the log: a tenant's record can be proven to that tenant
without showing another's.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from tenantry.audit import merkle
from tenantry.audit.checkpoint import BadCheckpoint, Checkpoint, VerifierKey

RECORD_FORMAT = "tenantry-audit-record/1"
GROWTH_FORMAT = "tenantry-audit-growth/1"


class BadProof(ValueError):
    """The file is no proof, or proves nothing; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """That a record stands in a log at its sequence number."""

    seq: int
    record: bytes
    path: list[bytes]
    """From the record's leaf to the root (RFC 9162 section 2.1.3)."""
    checkpoint: str
    """The signed note over that root."""

    def to_text(self) -> str:
        """The proof as a file."""
        return _written(
            RECORD_FORMAT,
            seq=self.seq,
            record=self.record.decode(),
            path=_encoded(self.path),
            checkpoint=self.checkpoint,
        )

    def check(self, key: VerifierKey) -> Checkpoint:
        """Give the checkpoint under which the record stands; raises `BadProof`."""
        under = _checkpoint(self.checkpoint, key)
        leaf = merkle.leaf_hash(self.record)
        if not merkle.included(leaf, self.seq - 1, under.size, self.path, under.root):
            raise BadProof(f"record {self.seq} is not in the tree that was signed")
        return under


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthProof:
    """That a log only grew between two checkpoints: nothing under the first was changed or cut."""

    first: str
    second: str
    path: list[bytes]
    """RFC 9162 section 2.1.4."""

    def to_text(self) -> str:
        """The proof as a file."""
        return _written(GROWTH_FORMAT, first=self.first, second=self.second, path=_encoded(self.path))

    def check(self, key: VerifierKey) -> tuple[Checkpoint, Checkpoint]:
        """Give both checkpoints; raises `BadProof`."""
        first, second = _checkpoint(self.first, key), _checkpoint(self.second, key)
        if first.size and not merkle.consistent(first.size, second.size, self.path, first.root, second.root):
            raise BadProof(f"the log over {second.size} records does not go on from the one over {first.size}")
        return first, second


def parse(text: str) -> RecordProof | GrowthProof:
    """Read either proof; raises `BadProof`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise BadProof("it is not JSON") from None
    if not isinstance(document, dict):
        raise BadProof("it is no proof")
    path = _decoded(document.get("path"))
    if document.get("format") == RECORD_FORMAT:
        seq = document.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool):
            raise BadProof("seq is missing")
        return RecordProof(
            seq=seq, record=_text(document, "record").encode(), path=path, checkpoint=_text(document, "checkpoint")
        )
    if document.get("format") == GROWTH_FORMAT:
        return GrowthProof(first=_text(document, "first"), second=_text(document, "second"), path=path)
    raise BadProof(f"its format is neither {RECORD_FORMAT} nor {GROWTH_FORMAT}")


def _written(format_: str, **members: object) -> str:
    return json.dumps({"format": format_, **members}, indent=1, ensure_ascii=False) + "\n"


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    try:
        if isinstance(value, str) and value.encode():
            return value
    except UnicodeEncodeError:
        pass
    raise BadProof(f"{name} is missing")


def _encoded(path: list[bytes]) -> list[str]:
    return [base64.b64encode(hash_).decode() for hash_ in path]


def _decoded(path: object) -> list[bytes]:
    try:
        hashes = [base64.b64decode(hash_, validate=True) for hash_ in path] if isinstance(path, list) else None
    except (binascii.Error, TypeError, ValueError):
        hashes = None
    if hashes is None or any(len(hash_) != merkle.HASH_BYTES for hash_ in hashes):
        raise BadProof("its path is no list of hashes")
    return hashes


def _checkpoint(note: str, key: VerifierKey) -> Checkpoint:
    try:
        return Checkpoint.parse(note, key)
    except BadCheckpoint as error:
        raise BadProof(f"its checkpoint is not to be trusted: {error}") from None
