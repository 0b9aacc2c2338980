"""Access tokens: signed JWTs after RFC 9068, ES256 only, made and checked here.

PyJWT does the signature; every claim is checked here against `now`, because PyJWT reads the clock itself, takes
any `typ`, any far `exp` and a list as audience.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from tenantry.identity import Principal, parse_scope
from tenantry.oauth.errors import OAuthError
from tenantry.oauth.jwk import SigningKey

ALGORITHM = "ES256"
TYPE = "at+jwt"
# Decoding costs time before the signature is known to be good; ours are below 1 KiB.
MAX_BYTES = 8 * 1024
# No access token of ours lives longer (`config.Lifetimes`), so one that claims to is not ours.
MAX_LIFETIME_S = 3600
# For clocks of several machines behind one issuer.
LEEWAY_S = 5
_HEADER_MEMBERS = {"alg", "kid", "typ"}
_TEXT_CLAIMS = ("iss", "aud", "sub", "client_id", "jti", "scope", "tenant", "family")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What an access token is to say; times in whole seconds since the epoch."""

    issuer: str
    audience: str
    subject: str
    tenant: str
    client_id: str
    scopes: tuple[str, ...]
    token_id: str
    family_id: str
    issued_at: int
    expires_at: int


def mint(claims: Claims, key: SigningKey) -> str:
    """Sign an access token (RFC 9068 sections 2.1 and 2.2); `tenant` and `family` are private claims."""
    payload = {
        "iss": claims.issuer,
        "aud": claims.audience,
        "sub": claims.subject,
        "client_id": claims.client_id,
        "iat": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.token_id,
        "scope": " ".join(claims.scopes),
        "tenant": claims.tenant,
        "family": claims.family_id,
    }
    return jwt.encode(payload, key.private_key, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": key.kid})


def verify(
    token: str, *, keys: Mapping[str, EllipticCurvePublicKey], issuer: str, audience: str, now: float
) -> Principal:
    """Check an access token (RFC 9068 section 4, RFC 8725 section 3) and say who its bearer is.

    Raises `OAuthError` invalid_token with one public text for every reason.
    """
    claims = _signed_claims(token, keys)
    for name in _TEXT_CLAIMS:
        if not isinstance(claims.get(name), str) or not claims[name]:
            _refuse(f"{name} is missing or no text")
    if claims["iss"] != issuer:
        _refuse("iss is another issuer")
    if claims["aud"] != audience:
        _refuse("aud is another resource")
    _check_times(claims, now)
    return Principal(
        tenant=claims["tenant"],
        subject=claims["sub"],
        client_id=claims["client_id"],
        scopes=frozenset(parse_scope(claims["scope"])),
        token_id=claims["jti"],
        family_id=claims["family"],
        expires_at=claims["exp"],
    )


def refusal(detail: str) -> OAuthError:
    """The one error for whatever is wrong with an access token (RFC 6750 section 3.1)."""
    return OAuthError("invalid_token", "the access token is invalid or expired", detail=detail)


def _refuse(detail: str) -> NoReturn:
    raise refusal(detail)


def _signed_claims(token: str, keys: Mapping[str, EllipticCurvePublicKey]) -> dict[str, Any]:
    if len(token) > MAX_BYTES or not token.isascii():
        _refuse("too long or not ASCII")
    segments = token.split(".")
    if len(segments) != 3:
        _refuse("not three segments")
    header = _json_object(segments[0])
    # Only what `mint` writes: crit, jwk, jku, x5c, b64 and whatever comes next are refused by not being known.
    if set(header) != _HEADER_MEMBERS or header["alg"] != ALGORITHM or header["typ"] != TYPE:
        _refuse("header is not one of ours")
    key = keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        _refuse("kid is unknown")
    claims = _json_object(segments[1])
    _bytes(segments[2])
    try:
        jwt.PyJWS(algorithms=[ALGORITHM]).decode(token, key, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError as error:
        _refuse(f"signature: {type(error).__name__}")
    return claims


def _json_object(segment: str) -> dict[str, Any]:
    try:
        document = json.loads(_bytes(segment).decode("utf-8"), object_pairs_hook=_no_double)
    except (ValueError, RecursionError):
        _refuse("a segment is not strict JSON")
    return document if isinstance(document, dict) else _refuse("a segment is no object")


def _no_double(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members


def _bytes(segment: str) -> bytes:
    # Decoding is lenient about padding, foreign characters and loose last bits; encoding again shows all three,
    # so that one access token has one spelling.
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        _refuse("a segment is not base64url")
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode("ascii") != segment:
        _refuse("a segment is not canonical base64url")
    return decoded


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    for name in ("iat", "exp", *(["nbf"] if "nbf" in claims else [])):
        if type(claims.get(name)) is not int:
            _refuse(f"{name} is missing or no integer")
    if now >= claims["exp"] + LEEWAY_S:
        _refuse("expired")
    if claims["iat"] > now + LEEWAY_S or claims.get("nbf", 0) > now + LEEWAY_S:
        _refuse("not valid yet")
    if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFETIME_S:
        _refuse("lives for longer than any of ours")
