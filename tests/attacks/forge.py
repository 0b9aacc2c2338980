"""Access tokens as only the server's own key, or an attacker's, could sign them."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_private_key

from tests.attacks.target import Target

Part = Mapping[str, Any] | bytes | str


def encoded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(segment: str) -> bytes:
    """The bytes behind base64url without padding."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token."""
    header, claims, _ = token.split(".")
    return json.loads(decoded(header)), json.loads(decoded(claims))


def signing_keys(server: Target) -> list[tuple[str, ec.EllipticCurvePrivateKey]]:
    """The server's own keys by their names, which nobody but the test can read; the newest comes last."""
    found = []
    for kid, encoded_key in server.stored("SELECT kid, private FROM signing_key ORDER BY signs_from, rowid"):
        key = load_der_private_key(encoded_key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found.append((kid, key))
    return found


def another_key() -> ec.EllipticCurvePrivateKey:
    """An attacker's key."""
    return ec.generate_private_key(ec.SECP256R1())


def signature(text: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """An ES256 signature."""
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _segment(part: Part) -> str:
    if isinstance(part, str):
        return part
    return encoded(part if isinstance(part, bytes) else json.dumps(part).encode())


def signed(header: Part, claims: Part, key: ec.EllipticCurvePrivateKey) -> str:
    """A compact JWS; a part that is text stands as it is."""
    text = f"{_segment(header)}.{_segment(claims)}"
    return f"{text}.{encoded(signature(text.encode(), key))}"


class Forger:
    """Makes variants of one good token with the server's own key."""

    def __init__(self, server: Target, token: str) -> None:
        self.header, self.claims = parts_of(token)
        self.key = dict(signing_keys(server))[self.header["kid"]]

    def token(self, *, header: Mapping[str, Any] = {}, claims: Mapping[str, Any] = {}, drop: str = "") -> str:
        """The token with some members changed and one left out."""
        now = int(time.time())
        fresh = {"iat": now - 60, "exp": now + 300}
        members = [{**self.header, **header}, {**self.claims, **fresh, **claims}]
        made = [{name: value for name, value in part.items() if name != drop} for part in members]
        return signed(made[0], made[1], self.key)
