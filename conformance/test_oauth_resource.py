"""The resource server's end: tokens that are sent, challenges that come back (RFC 6750, OAuth 2.1 section 5, MCP)."""

import json
import re

import pytest

from conformance.authority import FORM, Authority, Grant, parse_challenge
from conformance.clauses import clause
from conformance.client import JSON, Answer, NotApplicable
from conformance.peer import Peer, Site

SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
PLAIN = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
STRANGE = "a%22b%5Cc<script>"


def challenge(answer: Answer) -> dict[str, str]:
    """The parameters of the one Bearer challenge of an answer, each of which comes once."""
    fields = answer.all("www-authenticate")
    assert len(fields) == 1, answer
    scheme, parameters = parse_challenge(fields[0])
    assert scheme == "Bearer", fields
    assert parameters, fields
    assert len(dict(parameters)) == len(parameters), fields
    return dict(parameters)


# The token in its place


@clause(
    "rfc6750:2.1:header",
    "oauth-2.1:5.1.1:header",
    "oauth-2.1:5:validated",
    "rfc6749:7:validated",
    "mcp-authorization:tokens:validated",
)
def test_a_token_in_the_header_is_taken(authority: Authority) -> None:
    token = authority.grant().access_token
    assert authority.opens(token)
    assert authority.call(None, {"authorization": f"bearer {token}"}).status not in {401, 403}
    assert authority.call(None, {"authorization": f"BEARER {token}"}).status not in {401, 403}


@clause(
    "oauth-2.1:5.1:query-ignored",
    "oauth-2.1:7.1.3:page-urls",
    "rfc6750:2.3:uri-query-not-used",
    "mcp-authorization:tokens:not-in-query",
)
def test_a_token_in_the_query_opens_nothing(authority: Authority) -> None:
    token = authority.grant().access_token
    answer = authority.at(f"{authority.url}?access_token={token}").http("POST", b"{}", {"content-type": JSON})
    assert answer.status == 401, answer
    assert challenge(answer)
    assert authority.opens(token)


@clause("rfc6750:3.1:one-method", "rfc6750:3.1:invalid-request", "oauth-2.1:5.3.2:invalid-request")
def test_a_token_in_two_places_is_a_malformed_request(authority: Authority) -> None:
    token = authority.grant().access_token
    answer = authority.at(f"{authority.url}?access_token={token}", token).http("POST", b"{}", {"content-type": JSON})
    assert answer.status == 400, answer
    assert challenge(answer)["error"] == "invalid_request"


@clause("rfc6750:3.1:invalid-request", "oauth-2.1:5.3.2:invalid-request", "mcp-authorization:errors:status-codes")
@pytest.mark.parametrize("kind", ["twice", "list", "two-words"])
def test_two_tokens_are_a_malformed_request(authority: Authority, kind: str) -> None:
    token = authority.grant().access_token
    fields = {
        "twice": [f"Bearer {token}", f"Bearer {token}"],
        "list": [f"Bearer {token}, Bearer {token}"],
        "two-words": [f"Bearer {token} {token}"],
    }
    answer = authority.call(None, {"authorization": fields[kind]})
    assert answer.status == 400, answer
    if answer.header("www-authenticate"):
        assert challenge(answer)["error"] == "invalid_request"


@clause("rfc6750:5.2:no-cookies", "oauth-2.1:7.1.1:no-cookies")
def test_a_token_in_a_cookie_opens_nothing_and_none_is_set(authority: Authority) -> None:
    grant = authority.grant()
    assert grant.answer.header("set-cookie") is None
    assert all(grant.access_token not in (each.value or "") for each in authority.browser.cookies)
    answer = authority.call(None, {"cookie": f"access_token={grant.access_token}; token={grant.access_token}"})
    assert answer.status == 401, answer


@clause("mcp-authorization:tokens:not-in-query", "oauth-2.1:5.1:query-ignored")
def test_a_token_in_a_form_opens_no_mcp(authority: Authority) -> None:
    body = f"access_token={authority.grant().access_token}".encode()
    answer = authority.at(authority.url).http("POST", body, {"content-type": FORM})
    assert answer.status == 401, answer
    assert challenge(answer)


# No token


@clause(
    "rfc6750:3:www-authenticate",
    "rfc6750:3:scheme",
    "rfc6750:3:parameters",
    "rfc6750:3.1:no-error-without-token",
    "oauth-2.1:5.3.1:www-authenticate",
    "oauth-2.1:5.3.1:scheme",
    "oauth-2.1:5.3.2:no-error",
    "mcp-authorization:overview:401",
    "mcp-authorization:errors:status-codes",
)
@pytest.mark.parametrize("header", [None, "Basic dTpw", "Digest x", "Bearer", "Bearer ", "Negotiate", ""])
def test_without_a_token_the_client_is_told_where_to_go_and_no_error(authority: Authority, header: str | None) -> None:
    answer = authority.call(None, {"authorization": header})
    assert answer.status == 401, answer
    told = challenge(answer)
    assert not {"error", "error_description", "error_uri"} & told.keys()


@clause(
    "mcp-authorization:tokens:every-request",
    "mcp-authorization:overview:401",
    "rfc6750:3:www-authenticate",
    "mcp-authorization:tokens:no-data-to-strangers",
    "mcp-security:handles:every-request",
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "HEAD"])
def test_every_method_needs_a_token(authority: Authority, method: str) -> None:
    answer = authority.at(authority.url).http(method, b"", {"accept": "text/event-stream, application/json"})
    assert answer.status in {401, 405}, answer
    assert method not in {"GET", "POST", "DELETE"} or answer.status == 401
    assert answer.status != 401 or challenge(answer)
    assert b'"result"' not in answer.body
    assert answer.header("mcp-session-id") is None


@clause(
    "rfc6750:3:scope",
    "rfc6750:3:scope-once",
    "rfc6750:3:scope-characters",
    "rfc6750:3:realm-once",
    "mcp-authorization:scopes:in-challenge",
    "mcp-authorization:scopes:consistent",
    "mcp-authorization:refresh:no-offline-access",
)
def test_the_challenge_names_scopes_and_always_the_same(authority: Authority) -> None:
    first, second = (challenge(authority.call(None)) for _ in range(2))
    assert SCOPE.fullmatch(first["scope"])
    assert first["scope"] == second["scope"]
    assert "offline_access" not in first["scope"].split()


# Bad tokens


@clause(
    "rfc6750:3:www-authenticate-bad-token",
    "rfc6750:3:error",
    "rfc6750:3:error-description",
    "rfc6750:3:error-once",
    "rfc6750:3.1:invalid-token",
    "oauth-2.1:5.3:informed",
    "oauth-2.1:5.3.1:error",
    "oauth-2.1:5.3.1:once",
    "oauth-2.1:5.3.1:description",
    "oauth-2.1:5.3.2:invalid-token",
    "rfc6749:7.2:informed",
    "mcp-authorization:tokens:invalid-401",
    "mcp-authorization:tokens:no-other",
    "mcp-security:tokens:no-passthrough",
    "rfc9068:4:errors",
)
@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "e30.e30.", "A" * 3000, "...", "mF_9.B5f-4.1JqM", "0=="])
def test_a_token_that_is_none_is_answered_401_with_invalid_token(authority: Authority, token: str) -> None:
    answer = authority.call(token)
    assert answer.status == 401, answer
    told = challenge(answer)
    assert told["error"] == "invalid_token"
    assert told["resource_metadata"]
    assert b'"result"' not in answer.body


@clause(
    "rfc6750:3:error-characters",
    "rfc6750:3:error-uri-characters",
    "oauth-2.1:5.3.1:characters",
)
@pytest.mark.parametrize("token", [STRANGE, "\u00e9", 'x"y', "x\\y", "x\ty"])
def test_an_error_of_the_challenge_stays_within_its_set_of_characters(authority: Authority, token: str) -> None:
    answer = authority.call(token)
    assert answer.status in {400, 401}, answer
    field = answer.header("www-authenticate") or "Bearer x=y"
    assert field.isascii()
    assert "<script" not in field
    told = dict(parse_challenge(field)[1])
    assert PLAIN.fullmatch(told.get("error", "x"))
    assert PLAIN.fullmatch(told.get("error_description", "x"))
    assert not set(told.get("error_uri", "")) & set('"\\ ')


@clause(
    "rfc6750:3.1:revoked-token",
    "oauth-2.1:5.3.2:invalid-token",
    "rfc7009:2:access-tokens",
    "rfc7009:2.1:at-once",
)
def test_a_revoked_token_is_answered_401_with_invalid_token(authority: Authority) -> None:
    grant = authority.grant()
    assert authority.opens(grant.access_token)
    revoked = authority.form(authority.endpoint("revocation"), {**grant.client.proof(), "token": grant.access_token})
    assert revoked.status == 200, revoked
    answer = authority.call(grant.access_token)
    assert answer.status == 401, answer
    assert challenge(answer)["error"] == "invalid_token"


@clause("mcp-authorization:tokens:no-other", "mcp-security:tokens:no-passthrough", "rfc6749:10.3:no-forgery")
def test_a_refresh_token_or_a_code_is_no_access_token(authority: Authority) -> None:
    code = authority.code()
    assert not authority.opens(code.code)
    assert not authority.opens(Grant(client=code.client, answer=authority.redeem(code)).refresh_token)


# Scopes


def stepped_up(site: Site) -> tuple[Authority, str, Answer]:
    """Alice's token without one scope, and what a tool that needs it is answered; only where the demo is served."""
    alice = site.authority_for("alice")
    token = alice.grant({"scope": "tools:call"}).access_token
    call = {"name": "admin_purge", "arguments": {"confirm": False}}
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "conformance", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**call, "_meta": meta}}
    headers = {
        "content-type": JSON,
        "accept": f"{JSON}, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "admin_purge",
    }
    return alice, token, alice.at(alice.url, token).http("POST", json.dumps(body).encode(), headers)


@clause(
    "rfc6750:3.1:insufficient-scope",
    "rfc6750:3.1:insufficient-scope-names",
    "oauth-2.1:5.2:authorized",
    "oauth-2.1:5.3.2:insufficient-scope",
    "oauth-2.1:5.3.2:insufficient-scope-names",
    "oauth-2.1:7.1.4:actions",
    "rfc9700:2.3:actions",
    "mcp-authorization:scopes:insufficient",
    "mcp-authorization:scopes:insufficient-error",
    "mcp-authorization:scopes:insufficient-names",
    "mcp-authorization:scopes:insufficient-metadata",
    "mcp-authorization:scopes:all-at-once",
    "mcp-authorization:scopes:existing-too",
    "mcp-authorization:errors:status-codes",
    "mcp-security:scopes:precise",
)
def test_a_token_that_lacks_a_scope_is_answered_403_with_all_that_is_needed(site: Site) -> None:
    alice, _, answer = stepped_up(site)
    assert answer.status == 403, answer
    told = challenge(answer)
    assert told["error"] == "insufficient_scope"
    assert set(told["scope"].split()) == {"tools:call", "admin"}
    assert alice.get(told["resource_metadata"]).json["resource"] == alice.url


@clause(
    "mcp-security:scopes:reduced-token",
    "oauth-2.1:7.1.4:least",
    "rfc9700:2.3:least",
    "rfc6749:3.3:ignored",
    "mcp-authorization:scopes:claims-not-enough",
    "rfc9068:4:in-context",
)
def test_a_token_covers_what_was_asked_for_and_no_more(site: Site) -> None:
    alice, token, _ = stepped_up(site)
    assert alice.opens(token)
    granted = alice.grant({"scope": "tools:call"}).answer.json["scope"]
    assert granted == "tools:call"
    # Bob asks for more than he may have, and is given what he may.
    assert site.authority_for("bob").grant({"scope": "tools:call admin"}).answer.json["scope"] == "tools:call"


# Sessions


@clause("mcp-authorization:tokens:every-request", revisions=["2025-11-25"])
def test_a_session_does_not_stand_in_for_a_token(peer: Peer) -> None:
    if not peer.sessionful:
        raise NotApplicable("the server keeps no sessions")
    client = peer.connect()
    assert client.request("ping").status == 200
    for header in (None, "Bearer nonsense"):
        answer = client.request("ping", headers={"authorization": header})
        assert answer.status == 401, answer
        assert challenge(answer)


@clause(
    "mcp-security:handles:no-authentication",
    "mcp-security:handles:bound",
    "mcp-security:handles:unguessable",
)
def test_the_session_of_one_person_is_of_no_use_to_another(site: Site) -> None:
    alice, bob = (site.authority_for(name) for name in ("alice", "bob"))
    handshake = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": handshake}).encode()
    headers = {"content-type": JSON, "accept": f"{JSON}, text/event-stream"}
    token = alice.grant().access_token
    opened = alice.at(alice.url, token).http("POST", body, headers)
    session = opened.header("mcp-session-id")
    if session is None:
        raise NotApplicable("the server keeps no sessions")
    assert len(session) >= 22
    with_session = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
    assert alice.call(token, with_session).status == 200
    assert bob.call(bob.grant().access_token, with_session).status == 404


# Forwarded headers


@clause("rfc9700:4.13:headers-not-trusted")
def test_forwarding_headers_change_nothing_in_what_the_server_says(authority: Authority) -> None:
    lies = {
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "gopher",
        "x-forwarded-for": "203.0.113.9",
        "forwarded": "host=evil.example;proto=gopher",
        "x-original-url": "/evil",
        "x-forwarded-prefix": "/evil",
    }
    assert challenge(authority.call(None, dict(lies))) == challenge(authority.call(None))
    assert authority.get(authority.protected_url, lies).json == authority.protected
    assert b"evil" not in authority.call(None, dict(lies)).body
