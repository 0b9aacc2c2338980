"""ES256 keys: their public form (RFC 7517, RFC 7518 section 6.2) and the name that follows from it (RFC 7638)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

_COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The key that new access tokens are signed with."""

    kid: str
    private_key: EllipticCurvePrivateKey


def _coordinates(key: EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": _encoded(numbers.x), "y": _encoded(numbers.y)}


def _encoded(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(_COORDINATE_BYTES, "big")).rstrip(b"=").decode("ascii")


def thumbprint(key: EllipticCurvePublicKey) -> str:
    """The key's name: SHA-256 over its required members in order, base64url (RFC 7638 section 3)."""
    text = json.dumps(_coordinates(key), sort_keys=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def key_set(keys: Mapping[str, EllipticCurvePublicKey]) -> dict[str, object]:
    """The JWK Set of public keys by name (RFC 7517 section 5)."""
    return {
        "keys": [{**_coordinates(key), "kid": kid, "use": "sig", "alg": "ES256"} for kid, key in keys.items()],
    }
