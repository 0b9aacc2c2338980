"""The documents by which clients find their way: RFC 8414 and RFC 9728.

Built from the configured public URL alone, never from a request; absent things are left out rather than null or
empty (RFC 9728 section 3.2, RFC 8414 section 3.2).
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

AUTHORIZATION_SERVER_PATH = "/.well-known/oauth-authorization-server"
PROTECTED_RESOURCE_PATH = "/.well-known/oauth-protected-resource"
# Those that a registration may ask for; client_credentials is for what an operator has made.
GRANT_TYPES = ("authorization_code", "refresh_token")
CLIENT_CREDENTIALS = "client_credentials"
RESPONSE_TYPES = ("code",)
SECRET_METHODS = ("client_secret_basic", "client_secret_post")
AUTH_METHODS = ("none", *SECRET_METHODS)


def protected_resource_path(resource: str) -> str:
    """Where the document about `resource` lives: its path goes behind the well-known one (RFC 9728 section 3.1)."""
    return PROTECTED_RESOURCE_PATH + urlsplit(resource).path.rstrip("/")


def protected_resource_url(resource: str) -> str:
    """The absolute URL of the document about `resource`, for `resource_metadata` in challenges."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{protected_resource_path(resource)}"


def authorization_server(
    *, issuer: str, scopes: Iterable[str], registration: bool, client_documents: bool
) -> dict[str, object]:
    """The authorization server's own description (RFC 8414 section 2, RFC 9207 section 3).

    `registration` says whether clients can register (RFC 7591), `client_documents` whether a client's id may be the
    URL of its metadata document.
    """
    return _without_empty(
        {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register" if registration else None,
            "revocation_endpoint": f"{issuer}/revoke",
            "introspection_endpoint": f"{issuer}/introspect",
            "jwks_uri": f"{issuer}/jwks",
            "scopes_supported": list(scopes),
            "response_types_supported": list(RESPONSE_TYPES),
            "response_modes_supported": ["query"],
            "grant_types_supported": [*GRANT_TYPES, CLIENT_CREDENTIALS],
            "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
            "introspection_endpoint_auth_methods_supported": list(SECRET_METHODS),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": client_documents or None,
        }
    )


def protected_resource(*, resource: str, issuer: str, scopes: Iterable[str]) -> dict[str, object]:
    """The MCP endpoint's description (RFC 9728 section 2)."""
    return _without_empty(
        {
            "resource": resource,
            "resource_name": f"MCP server at {urlsplit(resource).netloc}",
            "authorization_servers": [issuer],
            "scopes_supported": list(scopes),
            "bearer_methods_supported": ["header"],
        }
    )


def _without_empty(document: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in document.items() if value not in (None, [])}
