"""Proof Key for Code Exchange, S256 only (RFC 7636; OAuth 2.1 section 4.1.1)."""

import base64
import hashlib
import hmac
import re

# SHA-256 in base64url without padding is 43 characters; the last one carries two zero bits.
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
# RFC 7636 section 4.1
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def is_challenge(text: str) -> bool:
    """Tell whether `text` can be an S256 code challenge at all (RFC 7636 section 4.2)."""
    return _CHALLENGE.fullmatch(text) is not None


def challenge_of(verifier: str) -> str:
    """The S256 code challenge of a code verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def matches(verifier: str, challenge: str) -> bool:
    """Compare in constant time (RFC 7636 section 4.6); False for a verifier of the wrong form."""
    if _VERIFIER.fullmatch(verifier) is None:
        return False
    return hmac.compare_digest(challenge_of(verifier), challenge)
