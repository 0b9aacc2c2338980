"""Client ID metadata documents: a client's id is the https URL at which it says what it is.

draft-ietf-oauth-client-id-metadata-document, of which MCP authorization names -00. What is decided without asking
anybody stands here: which URLs can be an id, whether a document can be believed, and for how long.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tenantry.oauth import clients, redirects
from tenantry.oauth.errors import OAuthError

SCHEME = "https://"
# An audit record keeps this much of a client's id.
MAX_URL = 255
# A document is believed for a while even where its host says otherwise, so that a host can't make us ask at will,
# and never for longer than a day, so that a change gets through.
LEAST_AGE_S = 60
DEFAULT_AGE_S = 3600
GREATEST_AGE_S = 86_400

_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?([0-9]{1,9})\"?\s*(?:,|$)", re.IGNORECASE)
_NOT_KEPT = re.compile(r"(?:^|,)\s*no-(?:store|cache)\s*(?:,|=|$)", re.IGNORECASE)
# RFC 7518 section 6: what is private in a JWK.
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a document is to be asked for."""

    host: str
    port: int
    authority: str
    """Host and port as the URL writes them."""
    target: str
    """Path and query."""


def is_url(client_id: str) -> bool:
    """Tell whether a client id is the URL of a document; those that we give are not."""
    return client_id.startswith(SCHEME)


def unusable(detail: str) -> OAuthError:
    """The one error for whatever is wrong with a document: what exactly, the log is told alone."""
    return OAuthError("invalid_client", "the client's metadata document can't be used", detail=detail)


def location(url: str) -> Location:
    """Take a client id apart; raises `OAuthError` invalid_client where it can't be one (draft-00 section 3)."""
    problem = redirects.problem_with(url)
    if not is_url(url) or len(url) > MAX_URL or problem is not None:
        raise unusable(problem or "not an https URL of moderate length")
    parts = urlsplit(url)
    if parts.path in ("", "/") or _DOT_SEGMENT.search(parts.path):
        raise unusable("the URL has no path, or a dot segment in it")
    if parts.netloc.endswith(":") or parts.netloc != parts.netloc.lower():
        raise unusable("the URL has an empty port, or capitals in its host")
    return Location(
        host=parts.hostname or "",
        port=parts.port or 443,
        authority=parts.netloc,
        target=parts.path + (f"?{parts.query}" if parts.query else ""),
    )


def read(
    url: str, body: bytes, *, known_scopes: Collection[str], private_schemes: Collection[str] = ()
) -> dict[str, Any]:
    """Turn the document at `url` into the metadata of a registered client.

    The rules are those of a registration, and more: the document names its own URL byte for byte, and no secret
    (draft-00 section 4.1), and has a name for people (MCP authorization). Raises `OAuthError` invalid_client.
    """
    try:
        document = clients.parse_json_object(body)
        _check(url, document)
        public = {**document, "token_endpoint_auth_method": "none"}
        return clients.accept(public, known_scopes=known_scopes, private_schemes=private_schemes)
    except OAuthError as error:
        raise unusable(error.detail or error.description) from None


def _check(url: str, document: dict[str, Any]) -> None:
    if document.get("client_id") != url:
        raise unusable("client_id is not the URL of the document")
    if not document.get("client_name"):
        raise unusable("client_name is missing")
    if "client_secret" in document or "client_secret_expires_at" in document or _has_private_key(document):
        raise unusable("the document holds a secret")
    if document.get("token_endpoint_auth_method", "none") != "none":
        raise unusable("token_endpoint_auth_method must be none")


def _has_private_key(document: dict[str, Any]) -> bool:
    keys = document["jwks"].get("keys") if isinstance(document.get("jwks"), dict) else None
    return isinstance(keys, list) and any(isinstance(key, dict) and _PRIVATE & key.keys() for key in keys)


def lifetime_s(cache_control: str | None) -> int:
    """Seconds for which a document may be believed, by its `Cache-Control` and within our own bounds."""
    field = cache_control or ""
    if _NOT_KEPT.search(field):
        return LEAST_AGE_S
    said = _MAX_AGE.search(field)
    return DEFAULT_AGE_S if said is None else min(max(int(said[1]), LEAST_AGE_S), GREATEST_AGE_S)
