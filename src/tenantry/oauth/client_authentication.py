"""How a client says who it is at the token endpoint and its neighbours (OAuth 2.1 section 2.4, RFC 6749 section 2.3).

A public client names itself. A confidential one proves it by its secret, in the header or in the form, whichever it
registered: RFC 6749 section 2.3.1 has Basic taken from every client with a secret. A secret is 256 random bits, so
its plain digest is as good as a slow one.
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

from tenantry.oauth import token
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """Who a client says it is."""

    client_id: str
    secret: str | None


def presented(form: Mapping[str, str], authorization: Sequence[str]) -> Presented:
    """Read a client's credentials out of the form and the lines of the `Authorization` field.

    Raises `OAuthError` invalid_request where there are none or two, invalid_client where they can't be read.
    """
    if not authorization:
        return Presented(client_id=token.required(form, "client_id"), secret=form.get("client_secret"))
    if len(authorization) > 1 or "client_secret" in form:
        raise OAuthError("invalid_request", "authenticate in one way only")
    client_id, secret = _basic(authorization[0])
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id differs from the one in the Authorization field")
    return Presented(client_id=client_id, secret=secret)


def authenticated(client: Client | None, given: Presented) -> Client:
    """Give back the client that was found for `given`, or raise `OAuthError` invalid_client."""
    if client is None:
        raise _refused("unknown client")
    if client.secret_digest is None and given.secret is not None:
        raise _refused("a public client sent a secret")
    if client.secret_digest is not None and not _matches(given.secret, client.secret_digest):
        raise _refused("the secret is missing or wrong")
    return client


def _matches(secret: str | None, digest: str) -> bool:
    return secret is not None and hmac.compare_digest(token.digest(secret), digest)


def _basic(field: str) -> tuple[str, str]:
    scheme, _, encoded = field.strip(" ").partition(" ")
    if scheme.lower() != "basic":
        raise _refused("an Authorization field that is not Basic")
    try:
        decoded = base64.b64decode(encoded.strip(" "), validate=True).decode("ascii")
        # RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
        name, separator, secret = decoded.partition(":")
        client_id, secret = unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        raise _refused("Basic credentials that can't be decoded") from None
    if not (separator and client_id and secret):
        raise _refused("Basic credentials without an id or a secret")
    return client_id, secret


def _refused(detail: str) -> OAuthError:
    return OAuthError(
        "invalid_client", "the client is not known here or did not prove that it is this client", detail=detail
    )
