"""What is said of a token to who may ask (RFC 7662): all of it, or that it is not active and nothing more."""

from collections.abc import Collection

from tenantry.identity import Principal, format_scope
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError
from tenantry.oauth.token import Grant

INACTIVE: dict[str, object] = {"active": False}


def check_asker(client: Client) -> None:
    """Raise `OAuthError` invalid_client for a client that proves nothing (RFC 7662 section 2.1)."""
    if client.secret_digest is None:
        raise OAuthError("invalid_client", "introspection needs a client with a secret", detail="a public client")


def may_see_access_token(asker: Client, *, tenant: str, client_id: str, trusted: Collection[str]) -> bool:
    """Tell whether a client may know what an access token is good for.

    Its own; a service account, its tenant's; one that the configuration trusts, everybody's. Anybody may register
    a client with a secret, so that alone opens nothing.
    """
    own_tenant = asker.service is not None and asker.service.tenant == tenant
    return own_tenant or asker.client_id == client_id or asker.client_id in trusted


def of_access_token(principal: Principal, *, issuer: str, audience: str) -> dict[str, object]:
    """The members of an access token that counts (RFC 7662 section 2.2)."""
    return {
        "active": True,
        "token_type": "Bearer",
        "scope": format_scope(principal.scopes),
        "client_id": principal.client_id,
        "sub": principal.subject,
        "tenant": principal.tenant,
        "iss": issuer,
        "aud": audience,
        "exp": principal.expires_at,
        "jti": principal.token_id,
    }


def of_refresh_token(grant: Grant, *, issuer: str) -> dict[str, object]:
    """The members of a refresh token that can be redeemed; it is told to its own client alone."""
    return {
        "active": True,
        "scope": " ".join(grant.scopes),
        "client_id": grant.client_id,
        "sub": grant.subject,
        "tenant": grant.tenant,
        "iss": issuer,
    }
