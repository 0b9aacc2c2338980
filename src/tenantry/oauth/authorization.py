"""The authorization request (OAuth 2.1 section 4.1.1) and its answer.

Two stages: as long as the client and its redirect URI are not known to be good, an error is a page (fatal); from
there on it may travel back through the redirect URI.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from tenantry.identity import parse_scope
from tenantry.oauth import pkce, redirects
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError

# Echoed back in a URL, so it must fit in one.
MAX_STATE = 4096
MAX_SCOPE = 4096
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A request that has passed both stages."""

    client_id: str
    redirect_uri: str
    state: str | None
    scopes: tuple[str, ...] | None
    """As asked; None where the client left the choice to the server."""
    challenge: str
    prompts: frozenset[str]


def redirect_uri_of(parameters: Mapping[str, str], client: Client | None) -> str:
    """First stage: the redirect URI to trust, out of those registered.

    Raises `OAuthError`, not redirectable, with the same words for a bad client and a bad URI, so that the page
    tells a stranger nothing.
    """
    if client is None:
        raise _fatal("client_id is missing or not registered")
    uri = parameters.get("redirect_uri")
    if uri is None:
        # OAuth 2.1 section 4.1.1: it may be left out only where there is just one, which then is meant.
        if len(client.redirect_uris) == 1:
            return client.redirect_uris[0]
        raise _fatal("redirect_uri is missing and several are registered")
    if len(uri) > redirects.MAX_LENGTH or not any(redirects.equal(uri, known) for known in client.redirect_uris):
        raise _fatal("redirect_uri is not registered")
    if len(parameters.get("state", "")) > MAX_STATE:
        raise OAuthError("invalid_request", f"state is longer than {MAX_STATE} characters")
    return uri


def _fatal(detail: str) -> OAuthError:
    return OAuthError("invalid_request", "the client or its redirect URI is not registered here", detail=detail)


def validate(
    parameters: Mapping[str, str], *, client: Client, redirect_uri: str, resource: str
) -> AuthorizationRequest:
    """Second stage: everything else.

    Raises `OAuthError`, redirectable: invalid_request, unsupported_response_type, invalid_target, or the codes
    by which OpenID Connect Core section 3.1.2.6 refuses request objects.
    """
    _check_response(parameters)
    check_resource(parameters.get("resource"), resource, redirectable=True)
    prompts = frozenset(parse_scope(parameters.get("prompt", "")))
    if "none" in prompts and len(prompts) > 1:
        raise _redirectable("invalid_request", "prompt none stands alone")
    scope = parameters.get("scope")
    if scope is not None and len(scope) > MAX_SCOPE:
        raise _redirectable("invalid_scope", "the scope is too long")
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        state=parameters.get("state"),
        scopes=None if scope is None else parse_scope(scope),
        challenge=_challenge(parameters),
        prompts=prompts,
    )


def _redirectable(error: str, description: str) -> OAuthError:
    return OAuthError(error, description, redirectable=True)


def _check_response(parameters: Mapping[str, str]) -> None:
    if "request" in parameters:
        raise _redirectable("request_not_supported", "request objects are not supported")
    if "request_uri" in parameters:
        raise _redirectable("request_uri_not_supported", "request objects are not supported")
    kind = parameters.get("response_type")
    if kind is None:
        raise _redirectable("invalid_request", "response_type is missing")
    if kind != "code":
        raise _redirectable("unsupported_response_type", "response_type must be code")
    if parameters.get("response_mode", "query") != "query":
        raise _redirectable("invalid_request", "response_mode must be query")


def _challenge(parameters: Mapping[str, str]) -> str:
    challenge = parameters.get("code_challenge")
    if challenge is None:
        raise _redirectable("invalid_request", "code_challenge is required")
    # RFC 7636 section 4.3 reads a missing method as plain, which OAuth 2.1 has dropped.
    if parameters.get("code_challenge_method") != "S256":
        raise _redirectable("invalid_request", "code_challenge_method must be S256")
    if not pkce.is_challenge(challenge):
        raise _redirectable("invalid_request", "code_challenge is not a SHA-256 digest in base64url")
    return challenge


def check_resource(asked: str | None, resource: str, *, redirectable: bool) -> None:
    """Raise `OAuthError` invalid_target unless `asked` is our one resource (RFC 8707 section 2).

    Left out, the one resource is meant. Scheme and host may come in upper case (MCP authorization, canonical
    server URI); path and query count to the letter.
    """
    if asked is not None and asked != resource and _lower_origin(asked) != resource:
        raise OAuthError("invalid_target", "the resource is not one of this server", redirectable=redirectable)


def _lower_origin(uri: str) -> str:
    head, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{head.lower()}{separator}{host.lower()}{slash}{path}"


def narrow(asked: tuple[str, ...] | None, grantable: Collection[str]) -> tuple[str, ...]:
    """What of `asked` this person can grant, in the order asked; all they can where nothing was asked.

    Names that nobody knows fall away like those the person may not have (RFC 6749 section 3.3). Raises
    `OAuthError` invalid_scope, redirectable, if nothing is left.
    """
    granted = tuple(sorted(grantable)) if asked is None else tuple(name for name in asked if name in grantable)
    if not granted:
        # Only what is well-formed is repeated, and no more of it than a person reads (RFC 6749 sections 3.3, 4.1.2.1).
        named = " ".join([name for name in asked or () if _SCOPE.fullmatch(name)][:5])
        raise _redirectable("invalid_scope", f"this person can't grant {named or 'anything here'}")
    return granted


def response_url(redirect_uri: str, *, issuer: str, state: str | None, **parameters: str) -> str:
    """The redirect URI with the answer in its query, `state` and `iss` included (RFC 9207 section 2).

    A query that the URI has already is kept (RFC 6749 section 3.1.2).
    """
    answer = {**parameters, **({} if state is None else {"state": state}), "iss": issuer}
    separator = "&" if urlsplit(redirect_uri).query else "" if redirect_uri.endswith("?") else "?"
    return f"{redirect_uri}{separator}{urlencode(answer)}"


def error_url(error: OAuthError, redirect_uri: str, *, issuer: str, state: str | None) -> str:
    """The redirect URI with an error as its answer (RFC 6749 section 4.1.2.1)."""
    return response_url(redirect_uri, issuer=issuer, state=state, **error.body())
