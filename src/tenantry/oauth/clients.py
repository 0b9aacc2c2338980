"""Dynamic client registration (RFC 7591): what is asked for, what is registered, what is answered.

A client that names no authentication method is registered as a public one, and told so (RFC 7591 section 3.2.1):
PKCE and the redirect URI protect it better than a secret that a native program can't keep. Key-based methods are
refused, because a client that wanted to prove a key must not be weakened in silence.
"""

import hashlib
import json
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tenantry.identity import parse_scope
from tenantry.oauth import redirects
from tenantry.oauth.errors import OAuthError
from tenantry.oauth.metadata import AUTH_METHODS, GRANT_TYPES

MAX_BODY = 64 * 1024
MAX_DEPTH = 16
MAX_REDIRECT_URIS = 10

# Characters that turn the reading direction could make a name on the consent page say something else.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Text = Annotated[str, Field(min_length=1, max_length=128)]
Address = Annotated[str, Field(min_length=1, max_length=2048)]


class _Registration(BaseModel):
    """The members that are understood; all others are ignored (RFC 7591 section 2)."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    redirect_uris: Annotated[list[str], Field(min_length=1, max_length=MAX_REDIRECT_URIS)]
    token_endpoint_auth_method: Text | None = None
    grant_types: Annotated[list[Text], Field(min_length=1, max_length=10)] | None = None
    response_types: Annotated[list[Text], Field(min_length=1, max_length=10)] | None = None
    application_type: Literal["native", "web"] | None = None
    client_name: Text | None = None
    client_uri: Address | None = None
    logo_uri: Address | None = None
    tos_uri: Address | None = None
    policy_uri: Address | None = None
    jwks_uri: Address | None = None
    jwks: dict[str, Any] | None = None
    scope: Annotated[str, Field(max_length=2048)] | None = None
    contacts: Annotated[list[Text], Field(max_length=10)] | None = None
    software_id: Text | None = None
    software_version: Text | None = None
    software_statement: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client, as the other decisions see it."""

    client_id: str
    name: str
    """Empty where the client gave none."""
    redirect_uris: tuple[str, ...]
    refreshes: bool
    """Whether it registered the refresh token grant."""
    secret_digest: str | None = None
    """`token.digest` of its secret; None for a public client."""
    service: "ServiceAccount | None" = None
    """Whose it is where it acts for itself (the client credentials grant) and for nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """What an operator allows a client without a person."""

    tenant: str
    scopes: tuple[str, ...]


def register(body: bytes, *, known_scopes: Collection[str], private_schemes: Collection[str] = ()) -> dict[str, Any]:
    """Turn a registration request into the metadata to keep and to answer, defaults included.

    `private_schemes` are those that redirect URIs may have beside https and http on loopback. Raises `OAuthError`
    invalid_client_metadata, invalid_redirect_uri or invalid_software_statement (RFC 7591 section 3.2.2).
    """
    return accept(parse_json_object(body), known_scopes=known_scopes, private_schemes=private_schemes)


def accept(
    document: dict[str, Any], *, known_scopes: Collection[str], private_schemes: Collection[str] = ()
) -> dict[str, Any]:
    """The same for a document that is decoded already."""
    asked = _understood(document)
    if asked.software_statement is not None:
        raise OAuthError("invalid_software_statement", "software statements are not supported by this server")
    for uri in asked.redirect_uris:
        problem = redirects.problem_with(uri, private_schemes=private_schemes)
        if problem is not None:
            raise OAuthError("invalid_redirect_uri", problem)
    # Keys are of no use to a public client, and kept they would be the largest thing that strangers can store.
    metadata = asked.model_dump(exclude_none=True, exclude={"jwks", "scope"})
    metadata |= {
        "redirect_uris": list(dict.fromkeys(asked.redirect_uris)),
        "token_endpoint_auth_method": _auth_method(asked),
        "grant_types": _grant_types(asked),
        "response_types": _response_types(asked),
    }
    _check_descriptions(asked)
    scope = [name for name in parse_scope(asked.scope or " ".join(known_scopes)) if name in known_scopes]
    return metadata | ({"scope": " ".join(scope)} if scope else {})


def fingerprint(metadata: dict[str, Any], *, network: str) -> str:
    """The same for equal metadata from one network, and for nothing else."""
    canonical = json.dumps([network, metadata], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def client_of(
    client_id: str,
    metadata: dict[str, Any],
    *,
    secret_digest: str | None = None,
    service: ServiceAccount | None = None,
) -> Client:
    """Read kept metadata back."""
    return Client(
        client_id=client_id,
        name=metadata.get("client_name", ""),
        redirect_uris=tuple(metadata["redirect_uris"]),
        refreshes="refresh_token" in metadata["grant_types"],
        secret_digest=secret_digest,
        service=service,
    )


def _invalid(description: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", description)


def _understood(document: dict[str, Any]) -> _Registration:
    try:
        return _Registration.model_validate(document)
    except ValidationError as error:
        fields = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
    if "redirect_uris" in fields:
        raise OAuthError("invalid_redirect_uri", f"give 1 to {MAX_REDIRECT_URIS} redirect_uris as strings")
    # Only names of fields of the model above can stand here, nothing that was sent.
    raise _invalid(f"these members are malformed: {', '.join(sorted(fields))}")


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Read one strict JSON object: UTF-8, no member twice, no NaN, infinity or lone surrogate, bounded depth.

    Raises `OAuthError` invalid_client_metadata.
    """
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_no_double, parse_constant=_no_constant, parse_float=_finite
        )
        # An escaped lone surrogate is found by writing it: it has no UTF-8.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        raise _invalid("the body is not one JSON object") from None
    if not isinstance(document, dict) or _too_deep(document):
        raise _invalid("the body is not one JSON object of moderate depth")
    return document


def _no_double(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _too_deep(document: object) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _auth_method(asked: _Registration) -> str:
    if asked.jwks is not None and asked.jwks_uri is not None:
        raise _invalid("give jwks or jwks_uri, not both")
    method = asked.token_endpoint_auth_method
    if method is None or method in AUTH_METHODS:
        return method or "none"
    raise _invalid(f"token_endpoint_auth_method must be one of {', '.join(AUTH_METHODS)}")


def _grant_types(asked: _Registration) -> list[str]:
    # Left out, the server's own default stands in the answer; named, a client that does not want refresh tokens
    # gets none. What this server does not do is dropped.
    if asked.grant_types is None:
        return list(GRANT_TYPES)
    if "authorization_code" not in asked.grant_types:
        raise _invalid("grant_types must hold authorization_code")
    return [name for name in GRANT_TYPES if name in asked.grant_types]


def _response_types(asked: _Registration) -> list[str]:
    if asked.response_types is not None and "code" not in asked.response_types:
        raise _invalid("response_types must hold code")
    return ["code"]


def _check_descriptions(asked: _Registration) -> None:
    for text in (asked.client_name, asked.software_id, asked.software_version, *(asked.contacts or ())):
        if text is not None and not is_presentable(text):
            raise _invalid("names must not hold control or direction characters")
    # Never fetched and never shown; checked so that nobody who reads them back is led elsewhere.
    for address in (asked.client_uri, asked.logo_uri, asked.tos_uri, asked.policy_uri, asked.jwks_uri):
        if address is not None and not _is_web_address(address):
            raise _invalid("the URIs of a client must be http or https")


def is_presentable(text: str) -> bool:
    """Tell whether a name can be shown to a person without surprise."""
    return not any(unicodedata.category(mark) in ("Cc", "Cs") or mark in _BIDI for mark in text)


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and address.isprintable()
