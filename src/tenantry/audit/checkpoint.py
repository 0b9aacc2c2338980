"""Checkpoints: a log's size and root, signed, in the C2SP forms `signed-note` and `tlog-checkpoint`.

A note is a text, an empty line, and signature lines. The text of a checkpoint is three lines: the log's origin, its
size in decimal, its root in base64. The key's name is the origin.
"""

import base64
import binascii
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tenantry.audit.merkle import HASH_BYTES

_ED25519 = b"\x01"
_ID_BYTES = 4
_PRIVATE = "PRIVATE+KEY+"
_NAME = re.compile(r"[^\s+]+\Z")
_TEXT = re.compile(r"(\S+)\n(0|[1-9][0-9]{0,17})\n([A-Za-z0-9+/]{43}=)\n\Z")
# Three of text, an empty one, the log's own signature.
_NOTE_LINES = 5


class BadKey(ValueError):
    """The text is no key of this form."""


class BadCheckpoint(ValueError):
    """The note is no checkpoint of this log's key; the text says why."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a log's key; as text `NAME+ID+BASE64`."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read a key; raises `BadKey`."""
        name, id_, material = _parts(text.strip())
        key = cls(name, material)
        if id_ != key.id.hex():
            raise BadKey("the key's id does not fit the key")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_encoded(_ED25519 + self.public)}"

    @property
    def id(self) -> bytes:
        """What names the key in a signature line."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES]

    def verify(self, note: str) -> str:
        """Give the text of a note that this key has signed; raises `BadCheckpoint`."""
        text, _, signatures = note.rpartition("\n\n")
        text, lines = text + "\n", signatures.split("\n")
        if not all(line.startswith("\u2014 ") for line in lines[:-1]) or lines[-1]:
            raise BadCheckpoint("it is no signed note")
        for line in lines:
            blob = _decoded(line.removeprefix(f"\u2014 {self.name} "))
            if blob[:_ID_BYTES] != self.id:
                continue  # somebody else's: a note may have many signatures
            try:
                Ed25519PublicKey.from_public_bytes(self.public).verify(blob[_ID_BYTES:], text.encode())
            except InvalidSignature:
                raise BadCheckpoint("its signature is wrong") from None
            return text
        raise BadCheckpoint("it has no signature of the log's key")


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A log's key; as text `PRIVATE+KEY+NAME+ID+BASE64`, which is a secret."""

    name: str
    _private: Ed25519PrivateKey

    @classmethod
    def of(cls, name: str, seed: bytes) -> "SignerKey":
        """Make a key of 32 random bytes; raises `BadKey` for a name with a space or a plus."""
        if not _NAME.match(name):
            raise BadKey(f"{name!r} can't be a key's name")
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def parse(cls, text: str) -> "SignerKey":
        """Read a key; raises `BadKey`."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise BadKey("it is no private key")
        name, id_, seed = _parts(text.removeprefix(_PRIVATE))
        key = cls.of(name, seed)
        if id_ != key.verifier.id.hex():
            raise BadKey("the key's id does not fit the key")
        return key

    def __repr__(self) -> str:
        return f"SignerKey({self.name!r})"

    def secret_text(self) -> str:
        """The key with its secret, for the file that keeps it."""
        seed = self._private.private_bytes_raw()
        return f"{_PRIVATE}{self.name}+{self.verifier.id.hex()}+{_encoded(_ED25519 + seed)}"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self._private.public_key().public_bytes_raw())

    def sign(self, text: str) -> str:
        """Make a note of a text that ends with a line feed."""
        blob = self.verifier.id + self._private.sign(text.encode())
        return f"{text}\n\u2014 {self.name} {_encoded(blob)}\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How large a log was, and the root over all that was in it."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, note: str, key: VerifierKey) -> "Checkpoint":
        """Read a signed checkpoint; raises `BadCheckpoint` unless this key has signed it for its own log."""
        match = _TEXT.match(key.verify(note))
        if match is None:
            raise BadCheckpoint("it is signed and says no size and root")
        if match[1] != key.name:
            raise BadCheckpoint(f"it is of another log: {match[1]}")
        root = _decoded(match[3])
        if not root:
            raise BadCheckpoint("its root is not well written")
        return cls(match[1], int(match[2]), root)

    def signed(self, key: SignerKey) -> str:
        """Make the signed note."""
        return key.sign(f"{self.origin}\n{self.size}\n{_encoded(self.root)}\n")


def notes_in(lines: Iterable[str]) -> Iterator[str]:
    """Give the checkpoints' notes in the lines of a file that holds many; what is none, or torn, is passed over."""
    last: deque[str] = deque(maxlen=_NOTE_LINES)
    for line in lines:
        last.append(line)
        if len(last) == _NOTE_LINES and line.startswith("\u2014 ") and last[-2] == "\n":
            yield "".join(last)


def origin_of(note: str) -> str:
    """Give the log that a note says it is of, before anything of it is checked."""
    return note.partition("\n")[0]


def _parts(text: str) -> tuple[str, str, bytes]:
    # Base64 may hold a plus, a name may not.
    try:
        name, id_, encoded = text.split("+", 2)
    except ValueError:
        raise BadKey("a key is NAME+ID+BASE64") from None
    material = _decoded(encoded)
    if not _NAME.match(name) or material[:1] != _ED25519 or len(material) != 1 + HASH_BYTES:
        raise BadKey("it is no Ed25519 key of a log")
    return name, id_, material[1:]


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    """Read base64; anything but the one right way to write some bytes gives none, so that no changed letter passes."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if _encoded(data) == text else b""
