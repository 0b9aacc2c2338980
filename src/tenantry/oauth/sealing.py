"""Values that a form carries out and brings back unchanged, so that the server keeps nothing for strangers.

Fernet: encrypted and authenticated, with the time inside. The library draws its own initialization vector; the
clock is an argument.
"""

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken


class BrokenSeal(Exception):
    """The value is not one that was sealed here for this purpose, or it is too old."""


def seal(purpose: str, values: dict[str, Any], *, key: bytes, now: float) -> str:
    """Seal JSON `values` for one `purpose`; `key` is a Fernet key, `now` seconds since the epoch."""
    text = json.dumps([purpose, values]).encode("ascii")
    return Fernet(key).encrypt_at_time(text, int(now)).decode("ascii")


def unseal(purpose: str, sealed: str, *, key: bytes, now: float, lifetime_s: int) -> dict[str, Any]:
    """Give the values back; raises `BrokenSeal`."""
    try:
        text = Fernet(key).decrypt_at_time(sealed.encode("utf-8"), lifetime_s, int(now))
    except (InvalidToken, ValueError):
        raise BrokenSeal("not sealed here, or too old") from None
    kind, values = json.loads(text)
    if kind != purpose:
        raise BrokenSeal("sealed for something else")
    return dict(values)


def sign(purpose: str, *values: str, key: bytes) -> str:
    """Give 43 URL-safe characters that only the holder of `key` can give for these values and this purpose."""
    text = json.dumps([purpose, *values]).encode("ascii")
    return base64.urlsafe_b64encode(hmac.new(key, text, hashlib.sha256).digest()).rstrip(b"=").decode("ascii")
