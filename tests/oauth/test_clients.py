"""Registration: what is taken, replaced, dropped and refused."""

import json
from typing import Any

import pytest

from tenantry.oauth import clients
from tenantry.oauth.errors import OAuthError

SCOPES = ("docs:read", "docs:export")
REDIRECT = "http://localhost:1234/callback"


def register(**members: object) -> dict[str, Any]:
    document = {"redirect_uris": [REDIRECT], **members}
    return clients.register(json.dumps(document).encode(), known_scopes=SCOPES)


def refused(**members: object) -> str:
    with pytest.raises(OAuthError) as caught:
        register(**members)
    assert caught.value.status == 400
    return caught.value.error


def test_the_least_registration_gets_every_default():
    assert register() == {
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "docs:read docs:export",
    }


def test_what_the_client_says_of_itself_comes_back():
    said = {
        "client_name": "Client",
        "client_uri": "https://client.example",
        "contacts": ["me@client.example"],
        "application_type": "native",
        "software_id": "x",
        "scope": "docs:read",
        "grant_types": ["authorization_code"],
    }
    assert register(**said).items() >= said.items()


def test_unknown_members_are_dropped():
    assert register(client_secret="x", admin=True, **{"client_name#ja": "x"}) == register()


@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ({"token_endpoint_auth_method": "client_secret_basic"}, "client_secret_basic"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "client_secret_post"),
        ({"token_endpoint_auth_method": "none"}, "none"),
        ({}, "none"),
    ],
)
def test_a_client_is_public_unless_it_asks_for_a_secret(asked: dict[str, str], method: str):
    registered = register(**asked)
    assert registered["token_endpoint_auth_method"] == method
    assert "client_secret" not in registered  # the server draws it


@pytest.mark.parametrize(
    "members",
    [
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"jwks": {"keys": []}, "jwks_uri": "https://client.example/keys"},
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["implicit"]},
        {"grant_types": []},
        {"grant_types": "authorization_code"},
        {"response_types": ["token"]},
        {"client_name": "x" * 129},
        {"client_name": ""},
        {"client_name": 5},
        {"client_name": "a\u202eb"},
        {"client_name": "a\nb"},
        {"client_uri": "javascript:alert(1)"},
        {"logo_uri": "file:///etc/passwd"},
        {"tos_uri": "gopher://example"},
        {"policy_uri": "https://[broken"},
        {"jwks_uri": "data:,x"},
        {"application_type": "browser"},
        {"contacts": ["x"] * 11},
        {"scope": "x" * 2049},
    ],
)
def test_metadata_that_can_not_be_is_refused(members: dict[str, object]):
    assert refused(**members) == "invalid_client_metadata"


@pytest.mark.parametrize(
    "uris",
    [[], "https://client.example", None, [5], ["http://client.example"], [REDIRECT] * 11, [REDIRECT, "javascript:1"]],
)
def test_redirect_uris_that_can_not_be_are_refused(uris: object):
    assert refused(redirect_uris=uris) == "invalid_redirect_uri"


def test_a_software_statement_is_refused():
    assert refused(software_statement="eyJhbGciOiJub25lIn0.e30.") == "invalid_software_statement"


def test_scopes_and_grants_beyond_ours_are_dropped():
    registered = register(
        scope="admin:everything docs:read", grant_types=["authorization_code", "implicit", "password"]
    )
    assert registered["scope"] == "docs:read"
    assert registered["grant_types"] == ["authorization_code"]
    assert "scope" not in register(scope="admin:everything")


def test_a_description_of_an_error_never_repeats_what_was_sent():
    with pytest.raises(OAuthError) as caught:
        register(client_name=["secret"], redirect_uris=[REDIRECT])
    assert "secret" not in str(caught.value.body())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"redirect_uris": ["https://a.example"], "redirect_uris": ["https://b.example"]}',
        b'{"redirect_uris": ["https://a.example"], "x": NaN}',
        b'{"redirect_uris": ["https://a.example"], "x": 1e999}',
        b'\xef\xbb\xbf{"redirect_uris": ["https://a.example"]}',
        '{"redirect_uris": ["https://a.example"]}'.encode("utf-16"),
        b'{"redirect_uris": ["https://a.example"], "x": ' + b"[" * 20 + b"]" * 20 + b"}",
        b"[" * 60_000,
        b"\xff",
        b'{"redirect_uris": ["https://a.example"], "unknown": "\\ud800"}',
        b'{"redirect_uris": ["https://a.example"], "x": ' + b"1" * 5000 + b"}",
    ],
)
def test_only_one_strict_json_object_is_read(body: bytes):
    with pytest.raises(OAuthError) as caught:
        clients.register(body, known_scopes=SCOPES)
    assert caught.value.error == "invalid_client_metadata"


def test_a_lone_surrogate_in_a_name_is_refused():
    with pytest.raises(OAuthError):
        clients.register(b'{"redirect_uris": ["https://a.example"], "client_name": "\\ud800"}', known_scopes=SCOPES)


def test_kept_metadata_is_read_back():
    client = clients.client_of("id", register(client_name="Client", grant_types=["authorization_code"]))
    assert client == clients.Client(client_id="id", name="Client", redirect_uris=(REDIRECT,), refreshes=False)
