"""The authorization request: what is fatal, what goes back, what is granted."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tenantry.oauth import authorization, pkce
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError

RESOURCE = "https://mcp.example.com/mcp"
CLIENT = Client(client_id="client", name="", redirect_uris=("https://client.example/cb",), refreshes=True)
GOOD = {
    "response_type": "code",
    "redirect_uri": "https://client.example/cb",
    "code_challenge": pkce.challenge_of("v" * 43),
    "code_challenge_method": "S256",
    "resource": RESOURCE,
    "state": "state",
    "scope": "a b a",
}


def validate(**changes: str | None) -> authorization.AuthorizationRequest:
    parameters = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return authorization.validate(parameters, client=CLIENT, redirect_uri=GOOD["redirect_uri"], resource=RESOURCE)


def test_a_good_request_is_understood():
    assert validate(prompt="login consent") == authorization.AuthorizationRequest(
        client_id="client",
        redirect_uri="https://client.example/cb",
        state="state",
        scopes=("a", "b"),
        challenge=GOOD["code_challenge"],
        prompts=frozenset({"login", "consent"}),
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": GOOD["code_challenge"] + "="}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"resource": RESOURCE + "/"}, "invalid_target"),
        ({"resource": RESOURCE.upper()}, "invalid_target"),
        ({"resource": "https://evil.example/mcp"}, "invalid_target"),
        ({"resource": RESOURCE + "#x"}, "invalid_target"),
        ({"prompt": "none consent"}, "invalid_request"),
        ({"scope": "x" * 4097}, "invalid_scope"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://evil.example"}, "request_uri_not_supported"),
    ],
)
def test_what_is_wrong_with_a_request_goes_back_to_the_client(change: dict[str, str | None], error: str):
    with pytest.raises(OAuthError) as caught:
        validate(**change)
    assert (caught.value.error, caught.value.redirectable) == (error, True)


def test_the_resource_may_be_left_out_or_have_its_host_in_upper_case():
    assert validate(resource=None) == validate()
    assert validate(resource="HTTPS://MCP.Example.COM/mcp") == validate()


def test_a_bad_client_and_a_bad_redirect_uri_are_fatal_in_the_same_words():
    said = []
    for client, uri in ((None, GOOD["redirect_uri"]), (CLIENT, "https://client.example/other")):
        with pytest.raises(OAuthError) as caught:
            authorization.redirect_uri_of({"redirect_uri": uri}, client)
        assert not caught.value.redirectable
        said.append(caught.value.body())
    assert said[0] == said[1]


def test_a_redirect_uri_may_be_left_out_where_there_is_one():
    assert authorization.redirect_uri_of({}, CLIENT) == "https://client.example/cb"
    two = Client(client_id="x", name="", redirect_uris=("https://a.example", "https://b.example"), refreshes=True)
    with pytest.raises(OAuthError):
        authorization.redirect_uri_of({}, two)


def test_scopes_are_narrowed_in_the_order_asked():
    assert authorization.narrow(("c", "x", "a"), {"a", "b", "c"}) == ("c", "a")
    assert authorization.narrow(None, {"b", "a"}) == ("a", "b")


@pytest.mark.parametrize(("asked", "grantable"), [(("x",), {"a"}), ((), {"a"}), (None, set()), (("a",), set())])
def test_nothing_left_is_an_invalid_scope(asked: tuple[str, ...] | None, grantable: set[str]):
    with pytest.raises(OAuthError) as caught:
        authorization.narrow(asked, grantable)
    assert (caught.value.error, caught.value.redirectable) == ("invalid_scope", True)


@pytest.mark.parametrize("state", ["", "a&b=c#d", "\x00", "ä€", "%41+ "])
def test_the_state_survives_the_way_back(state: str):
    url = authorization.response_url("https://client.example/cb", issuer="https://i.example", state=state, code="x")
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert query == {"code": ["x"], "state": [state], "iss": ["https://i.example"]}
    assert urlsplit(url).fragment == ""


def test_a_query_in_the_redirect_uri_is_kept():
    for uri, start in (
        ("https://a.example/cb?x=1", "https://a.example/cb?x=1&"),
        ("https://a.example/cb?", "https://a.example/cb?"),
    ):
        url = authorization.response_url(uri, issuer="i", state=None, code="c")
        assert url == f"{start}code=c&iss=i"
