"""The bearer check of the peers in Python, which remembers what it has verified; run in their own environments."""

import json
import os
from typing import Any

import jwt

_key = jwt.PyJWK(json.loads(os.environ["PEER_KEY"]))
_known: dict[str, dict[str, Any]] = {}


def claims_of(token: str) -> dict[str, Any] | None:
    """Give the claims of an access token, None where it does not count."""
    if token not in _known:
        issuer, audience = os.environ["PEER_ISSUER"], os.environ["PEER_AUDIENCE"]
        try:
            _known[token] = jwt.decode(token, _key, algorithms=["ES256"], issuer=issuer, audience=audience)
        except jwt.InvalidTokenError:
            return None
    return _known[token]
