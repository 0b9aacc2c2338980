"""The documents by which clients find their way."""

import json

from tenantry.oauth import metadata

ISSUER = "https://mcp.example.com"


def test_the_authorization_server_says_everything_explicitly():
    assert metadata.authorization_server(
        issuer=ISSUER, scopes={"b": "", "a": ""}, registration=True, client_documents=False
    ) == {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "registration_endpoint": f"{ISSUER}/register",
        "revocation_endpoint": f"{ISSUER}/revoke",
        "introspection_endpoint": f"{ISSUER}/introspect",
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "jwks_uri": f"{ISSUER}/jwks",
        "scopes_supported": ["b", "a"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
    }


def test_the_protected_resource_names_itself_and_its_authorization_server():
    document = metadata.protected_resource(resource=f"{ISSUER}/mcp", issuer=ISSUER, scopes=["a"])
    assert document == {
        "resource": f"{ISSUER}/mcp",
        "resource_name": "MCP server at mcp.example.com",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["a"],
        "bearer_methods_supported": ["header"],
    }


def test_where_nobody_can_register_no_endpoint_is_named():
    assert "registration_endpoint" not in metadata.authorization_server(
        issuer=ISSUER, scopes={"a": ""}, registration=False, client_documents=False
    )


def test_nothing_is_null_or_empty():
    for document in (
        metadata.authorization_server(issuer=ISSUER, scopes=[], registration=False, client_documents=False),
        metadata.protected_resource(resource=f"{ISSUER}/mcp", issuer=ISSUER, scopes=[]),
    ):
        assert "null" not in json.dumps(document)
        assert "[]" not in json.dumps(document)


def test_the_well_known_path_goes_between_host_and_path():
    assert metadata.protected_resource_path(f"{ISSUER}/mcp") == "/.well-known/oauth-protected-resource/mcp"
    assert metadata.protected_resource_url(f"{ISSUER}/mcp") == f"{ISSUER}/.well-known/oauth-protected-resource/mcp"
