"""Reading the access token out of a request, and the challenges."""

import pytest

from tenantry import web
from tenantry.oauth import bearer
from tenantry.oauth.errors import OAuthError
from tests.oauth.flow import config

METADATA = "http://localhost:3000/.well-known/oauth-protected-resource/mcp"


def request(*authorization: str, query: str = "") -> web.Request:
    fields = [("authorization", value) for value in authorization]
    return web.Request(method="POST", path="/mcp", query=query, headers=web.Headers(fields), scheme="http", peer="")


@pytest.mark.parametrize("field", ["Bearer abc.d-e_f~+/=", "bearer abc.d-e_f~+/=", "BEARER   abc.d-e_f~+/="])
def test_the_scheme_is_read_in_any_case(field: str):
    assert bearer.read(request(field)) == "abc.d-e_f~+/="


@pytest.mark.parametrize("fields", [(), ("",), ("Bearer",), ("Bearer ",), ("Basic abc",), ("Bearerabc",)])
def test_without_a_bearer_token_there_is_none(fields: tuple[str, ...]):
    with pytest.raises(bearer.NoToken):
        bearer.read(request(*fields))


def test_a_token_in_the_query_is_none():
    with pytest.raises(bearer.NoToken):
        bearer.read(request(query="access_token=abc"))


@pytest.mark.parametrize(
    "bad",
    [
        request("Bearer a", "Bearer a"),
        request("Bearer a", "Basic b"),
        request("Bearer a b"),
        request("Bearer a,b"),
        request("Bearer a\tb"),
        request("Bearer a", query="x=1&access_token=a"),
    ],
)
def test_two_tokens_are_a_malformed_request(bad: web.Request):
    with pytest.raises(OAuthError) as caught:
        bearer.read(bad)
    assert (caught.value.error, caught.value.status) == ("invalid_request", 400)


@pytest.mark.parametrize("field", ["Bearer !", 'Bearer "abc"', "Bearer ä", "Bearer =abc"])
def test_what_can_not_be_a_token_is_an_invalid_one(field: str):
    with pytest.raises(OAuthError) as caught:
        bearer.read(request(field))
    assert (caught.value.error, caught.value.status) == ("invalid_token", 401)


def test_without_a_token_the_challenge_names_no_error():
    assert bearer.challenge(config()) == (f'Bearer resource_metadata="{METADATA}", scope="docs:read"')


def test_with_a_bad_token_the_challenge_says_so():
    error = OAuthError("invalid_token", 'a "quoted"\r\nword', detail="secret reason")
    assert bearer.challenge(config(), error=error) == (
        'Bearer error="invalid_token", error_description="a ?quoted???word", '
        f'resource_metadata="{METADATA}", scope="docs:read"'
    )


def test_one_challenge_asks_for_every_scope_that_is_needed():
    challenge = bearer.insufficient_scope(config(), {"b", "a"})
    assert challenge.startswith('Bearer error="insufficient_scope", ')
    assert challenge.endswith(f'resource_metadata="{METADATA}", scope="a b"')


def test_a_server_without_scopes_names_none():
    challenge = bearer.challenge(config(scopes={}, tools={}, tenants={}, users={}))
    assert challenge == f'Bearer resource_metadata="{METADATA}"'


def test_a_scope_that_nothing_offered_needs_is_not_asked_of_everybody():
    assert "audit:read" not in bearer.challenge(config(scopes={**config().scopes, "audit:read": "Read the audit log"}))
