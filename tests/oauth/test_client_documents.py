"""Which URLs can be a client's id, which documents are believed, and for how long."""

import json
from typing import Any

import pytest

from tenantry.oauth import client_documents
from tenantry.oauth.client_documents import Location
from tenantry.oauth.errors import OAuthError

URL = "https://app.example/oauth/client.json"
SCOPES = ("docs:read", "docs:export")
DOCUMENT: dict[str, Any] = {
    "client_id": URL,
    "client_name": "App",
    "redirect_uris": ["http://127.0.0.1/callback", "https://app.example/cb"],
}


def read(**changes: object) -> dict[str, Any]:
    document = {name: value for name, value in {**DOCUMENT, **changes}.items() if value is not None}
    return client_documents.read(URL, json.dumps(document).encode(), known_scopes=SCOPES)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, Location(host="app.example", port=443, authority="app.example", target="/oauth/client.json")),
        (
            "https://app.example:8443/c?v=1",
            Location(host="app.example", port=8443, authority="app.example:8443", target="/c?v=1"),
        ),
        ("https://[2001:db8::1]/c", Location(host="2001:db8::1", port=443, authority="[2001:db8::1]", target="/c")),
        (
            "https://app.example/..c/.d",
            Location(host="app.example", port=443, authority="app.example", target="/..c/.d"),
        ),
    ],
)
def test_a_url_is_taken_apart(url: str, expected: Location):
    assert client_documents.location(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/c",
        "http://localhost/c",
        "HTTPS://app.example/c",
        "https://app.example",
        "https://app.example/",
        "https://app.example?c",
        "https://app.example/c#f",
        "https://app.example/c#",
        "https://user@app.example/c",
        "https://user:pass@app.example/c",
        "https://app.example/../c",
        "https://app.example/a/./c",
        "https://app.example/a/..",
        "https://app.example/a/%2E%2e/c",
        "https://app.example/a/.%2e",
        "https://App.example/c",
        "https://app.example./c",
        "https://app.example:/c",
        "https://app.example:0/c",
        "https://app.example:99999/c",
        "https://[::1/c",
        "https://äpp.example/c",
        "https://app.example/ä",
        "https://app.example/a b",
        "https://app.example/a\\b",
        "https://app.example/\r\nx: y",
        "https://app.example/" + "c" * 255,
        "https://",
        "",
    ],
)
def test_what_can_not_be_an_id_is_refused(url: str):
    with pytest.raises(OAuthError) as caught:
        client_documents.location(url)
    assert caught.value.error == "invalid_client"


def test_a_document_is_read_as_a_registration_of_a_public_client():
    assert read(scope="docs:read admin", logo_uri="https://app.example/logo", unknown=1) == {
        "client_name": "App",
        "redirect_uris": DOCUMENT["redirect_uris"],
        "logo_uri": "https://app.example/logo",
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "docs:read",
    }
    assert read(grant_types=["authorization_code"])["grant_types"] == ["authorization_code"]
    assert read(jwks={"keys": [{"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}]}) == read()


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": URL + "/"},
        {"client_id": URL.upper()},
        {"client_id": "https://app.example:443/oauth/client.json"},
        {"client_id": [URL]},
        {"client_name": None},
        {"client_name": ""},
        {"client_name": "a\u202eb"},
        {"client_secret": ""},
        {"client_secret": "secret"},
        {"client_secret_expires_at": 0},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": ["none"]},
        {"jwks": {"keys": [{"kty": "EC", "d": "private"}]}},
        {"jwks": {"keys": [{}, {"kty": "oct", "k": "shared"}]}},
        {"jwks": "keys"},
        {"redirect_uris": None},
        {"redirect_uris": []},
        {"redirect_uris": ["http://app.example/cb"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"grant_types": ["client_credentials"]},
        {"software_statement": "e30.e30."},
    ],
)
def test_a_document_that_can_not_be_believed_is_refused(changes: dict[str, object]):
    with pytest.raises(OAuthError) as caught:
        read(**changes)
    assert caught.value.error == "invalid_client"
    assert "secret" not in str(caught.value.body())


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b'{"client_id": "a", "client_id": "b"}'])
def test_only_one_strict_json_object_is_a_document(body: bytes):
    with pytest.raises(OAuthError) as caught:
        client_documents.read(URL, body, known_scopes=SCOPES)
    assert caught.value.error == "invalid_client"


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        (None, 3600),
        ("", 3600),
        ("public", 3600),
        ("max-age=7200", 7200),
        ("public, MAX-AGE=7200, immutable", 7200),
        ('max-age="7200"', 7200),
        ("max-age=0", 60),
        ("max-age=315360000", 86_400),
        ("max-age=999999999999999999999", 3600),
        ("s-maxage=7200", 3600),
        ("no-store", 60),
        ("max-age=7200, no-cache", 60),
        ("x-no-store", 3600),
    ],
)
def test_a_document_is_believed_for_a_while_within_our_bounds(cache_control: str | None, seconds: int):
    assert client_documents.lifetime_s(cache_control) == seconds
