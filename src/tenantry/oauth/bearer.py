"""The resource server's end of RFC 6750: read the access token from the header, and build the challenges."""

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from tenantry import web
from tenantry.oauth import access_token, metadata
from tenantry.oauth.errors import OAuthError

# RFC 6750 section 2.1, b64token
_SEPARATOR = re.compile(r"[\s,]")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class ProtectedResource(Protocol):
    """What a challenge says of us; the configuration fits."""

    @property
    def resource(self) -> str:
        """The identifier that is the audience of access tokens (RFC 8707)."""

    @property
    def needed_scopes(self) -> Sequence[str]:
        """Every scope that something offered needs."""


class NoToken(Exception):
    """The request carries no access token: the client is told where to get one, and no error."""


def read(request: web.Request) -> str:
    """The access token out of the `Authorization` field, the one place where it is looked for.

    A query or a body is never searched (RFC 6750 section 5.3, MCP authorization). Raises `NoToken` where there is
    no Bearer token, `OAuthError` invalid_request for two of them, invalid_token for one that can't be one.
    """
    fields = request.headers.all("authorization")
    if len(fields) > 1:
        raise OAuthError("invalid_request", "the request has more than one Authorization field")
    scheme, _, token = (fields[0] if fields else "").strip(" ").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise NoToken
    if _TOKEN.fullmatch(token) is None:
        if _SEPARATOR.search(token):
            raise OAuthError("invalid_request", "the Authorization field holds more than one access token")
        raise access_token.refusal("not a b64token")
    if _in_query(request.query):
        raise OAuthError("invalid_request", "the access token must not be in the query as well")
    return token


def _in_query(query: str) -> bool:
    return any(pair.partition("=")[0] == "access_token" for pair in query.split("&"))


def challenge(protected: ProtectedResource, *, error: OAuthError | None = None) -> str:
    """The `WWW-Authenticate` value of a 400 or 401 (RFC 6750 section 3, RFC 9728 section 5.1).

    Names every scope that something offered needs, because clients are poor at asking for more later. Without `error`
    the client is told nothing but where to go.
    """
    return _challenge(protected, protected.needed_scopes, error)


def insufficient_scope(protected: ProtectedResource, needed: Iterable[str]) -> str:
    """The challenge of a 403: every scope that is needed, in one go (RFC 6750 section 3.1, MCP scope challenge)."""
    error = OAuthError("insufficient_scope", "the access token lacks a scope that this needs")
    return _challenge(protected, sorted(needed), error)


def _challenge(protected: ProtectedResource, scopes: Iterable[str], error: OAuthError | None) -> str:
    parameters = {} if error is None else {"error": error.error, "error_description": error.description}
    parameters["resource_metadata"] = metadata.protected_resource_url(protected.resource)
    wanted = " ".join(scopes)
    return web.bearer_challenge(**parameters, **({"scope": wanted} if wanted else {}))
