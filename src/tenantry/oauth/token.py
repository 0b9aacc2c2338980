"""What the token endpoint decides (OAuth 2.1 sections 3.2, 4.2 and 4.3): which tokens to give, or none.

Each function is given what was found and says what to write; the store repeats the condition when it writes.
Whatever is wrong with a code or a refresh token is the same invalid_grant to the outside, and `detail` names it.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tenantry.identity import parse_scope
from tenantry.oauth import authorization, pkce
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError
from tenantry.oauth.metadata import CLIENT_CREDENTIALS

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one consent gave to one client; all its tokens are one refresh family."""

    family_id: str
    client_id: str
    tenant: str
    subject: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeGrant(Grant):
    """What is kept of an authorization code; times are seconds since the epoch."""

    redirect_uri: str
    challenge: str
    expires_at: float
    redeemed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshGrant(Grant):
    """What is kept of a refresh token and its family; times are seconds since the epoch."""

    family_created_at: float
    family_revoked: bool
    issued_at: float
    rotated_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRules:
    """How long refresh tokens live, in seconds: unused, altogether, and after their rotation."""

    idle_s: float
    absolute_s: float
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Give an access token with these scopes, and a successor where refresh tokens are given."""

    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """The same, for a refresh token that is used for the first time."""

    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reuse:
    """A second use that only a copy explains: revoke the family (RFC 9700 sections 4.5 and 4.14.2)."""


def digest(secret: str) -> str:
    """The form in which codes, refresh tokens and cookies are kept: SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def successor(presented: str, *, secret: bytes) -> str:
    """The refresh token that follows `presented`.

    Derived and not drawn, so that within the grace window the identical one can be given again although only
    digests are kept. Without `secret` nobody can derive it.
    """
    code = hmac.new(secret, presented.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(code).rstrip(b"=").decode("ascii")


def required(parameters: Mapping[str, str], name: str) -> str:
    """The parameter of that name; raises `OAuthError` invalid_request where it is missing."""
    value = parameters.get(name)
    if value is None:
        raise OAuthError("invalid_request", f"{name} is missing")
    return value


def found(grant: Found | None) -> Found:
    """Give back what was looked up; raises `OAuthError` invalid_grant where nothing was found."""
    if grant is None:
        raise invalid_grant("no such code or refresh token")
    return grant


def invalid_grant(detail: str) -> OAuthError:
    """The one error for whatever is wrong with a code or a refresh token (RFC 6749 section 5.2)."""
    return OAuthError("invalid_grant", "the grant is invalid, expired, revoked or of another client", detail=detail)


def redeem(
    parameters: Mapping[str, str],
    grant: CodeGrant,
    *,
    client_id: str,
    now: float,
    resource: str,
    grantable: Collection[str],
) -> Issue | Reuse:
    """Decide on an authorization code (OAuth 2.1 section 4.1.3).

    `client_id` is the client that authenticated, `grantable` what the person may have now. A replay counts as one
    only if it would have been valid: else a stranger who saw a code could revoke the tokens of its owner. Raises
    `OAuthError`.
    """
    if grant.client_id != client_id:
        raise invalid_grant("code of another client")
    if not grant.redeemed and now >= grant.expires_at:
        raise invalid_grant("code expired")
    if not pkce.matches(parameters.get("code_verifier", ""), grant.challenge):
        raise invalid_grant("code_verifier does not match")
    # OAuth 2.1 section 10.2: the parameter is RFC 6749's; a client that sends it is held to it.
    if parameters.get("redirect_uri", grant.redirect_uri) != grant.redirect_uri:
        raise invalid_grant("redirect_uri differs from the authorization request")
    authorization.check_resource(parameters.get("resource"), resource, redirectable=False)
    if grant.redeemed:
        return Reuse()
    return Issue(scopes=_still_grantable(grant.scopes, grantable))


def refresh(
    parameters: Mapping[str, str],
    grant: RefreshGrant,
    *,
    client_id: str,
    now: float,
    rules: RefreshRules,
    resource: str,
    grantable: Collection[str],
) -> Issue | Rotate | Reuse:
    """Decide on a refresh token (OAuth 2.1 section 4.3.1).

    `Rotate` is its first use, `Issue` another one within the grace window. Raises `OAuthError`.
    """
    if grant.client_id != client_id:
        raise invalid_grant("refresh token of another client")
    if grant.family_revoked:
        raise invalid_grant("family revoked")
    if now >= grant.family_created_at + rules.absolute_s:
        raise invalid_grant("family past its absolute lifetime")
    if grant.rotated_at is not None and now >= grant.rotated_at + rules.grace_s:
        return Reuse()
    if grant.rotated_at is None and now >= grant.issued_at + rules.idle_s:
        raise invalid_grant("refresh token idle for too long")
    authorization.check_resource(parameters.get("resource"), resource, redirectable=False)
    scopes = _narrowed(parameters.get("scope"), _still_grantable(grant.scopes, grantable), grant.scopes)
    return Rotate(scopes=scopes) if grant.rotated_at is None else Issue(scopes=scopes)


def check_grant_type(client: Client, grant_type: str) -> None:
    """Raise `OAuthError` unauthorized_client where the client acts for people and this is for itself, or vice versa."""
    if (grant_type == CLIENT_CREDENTIALS) is not (client.service is not None):
        raise OAuthError("unauthorized_client", "this client may not use this grant type")


def of_service(
    parameters: Mapping[str, str],
    client: Client,
    *,
    family_id: str,
    resource: str,
    grantable: Callable[[str, str], Collection[str]],
) -> Grant:
    """Decide on the client credentials grant (OAuth 2.1 section 4.2): what the client is given for itself.

    `grantable` tells for a tenant and a subject what they may have now. The client id is the subject: it can't be
    anybody's name (RFC 9068 section 5). Raises `OAuthError`.
    """
    service = client.service
    authorization.check_resource(parameters.get("resource"), resource, redirectable=False)
    if service is None or not (left := grantable(service.tenant, client.client_id)):
        raise OAuthError("unauthorized_client", "this client has no service account that may have anything")
    return Grant(
        family_id=family_id,
        client_id=client.client_id,
        tenant=service.tenant,
        subject=client.client_id,
        scopes=_narrowed(parameters.get("scope"), _still_grantable(service.scopes, left), service.scopes),
    )


def _still_grantable(granted: tuple[str, ...], grantable: Collection[str]) -> tuple[str, ...]:
    left = tuple(name for name in granted if name in grantable)
    if not left:
        raise invalid_grant("the person is gone or has none of the scopes left")
    return left


def _narrowed(asked: str | None, left: tuple[str, ...], granted: tuple[str, ...]) -> tuple[str, ...]:
    # RFC 6749 section 6: never wider than the grant; a narrower answer leaves the grant as it is.
    if asked is None:
        return left
    names = parse_scope(asked)
    kept = tuple(name for name in names if name in left)
    if not kept or not set(names) <= set(granted):
        raise OAuthError("invalid_scope", "the scope is wider than what was granted")
    return kept


def access_token_lifetime(*, now: float, lifetime_s: int, family_created_at: float, absolute_s: float) -> int:
    """Seconds that an access token may live: no longer than its family."""
    return max(1, min(lifetime_s, int(family_created_at + absolute_s - now)))


def response(
    *, access_token: str, expires_in: int, scopes: tuple[str, ...], refresh_token: str | None
) -> dict[str, object]:
    """The members of the successful answer (RFC 6749 section 5.1); the scope is always said."""
    body: dict[str, object] = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": expires_in,
        "scope": " ".join(scopes),
    }
    return body if refresh_token is None else body | {"refresh_token": refresh_token}
