"""Streamable HTTP of the revisions up to 2025-11-25: one endpoint, what it takes and how it answers; sessions."""

import json
import math
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import EVENTS, JSON, Legacy, NotApplicable
from conformance.legacy import EVERYTHING, PROGRESSING, is_fine, join, params_of, refused
from conformance.peer import Peer

METHODS = ("POST", "GET", "DELETE")
FOREIGN = ("https://attacker.example", "http://attacker.example:8080", "http://127.0.0.1.attacker.example", "null")
NO_VERSIONS = ("1999-01-01", "2099-12-31", "1.0", "latest", "2025-11-2", "2025-11-25, 2025-06-18")
NO_MESSAGES: tuple[Any, ...] = (
    {"jsonrpc": "2.0", "method": 5},
    {"jsonrpc": "1.0", "method": "notifications/initialized"},
    {"method": "notifications/initialized"},
    {"jsonrpc": "2.0", "method": "notifications/initialized", "params": 7},
)


def status_of(client: Legacy, method: str, **headers: str | None) -> tuple[int, str]:
    """Send a request in good order but for `headers`, and give the status and media type of the answer."""
    body = json.dumps(client.message("ping")).encode() if method == "POST" else b""
    usual = client.usual_headers({}) if method == "POST" else {"accept": EVENTS, **client.session_headers()}
    with client.wire(method, body, headers, usual=usual) as wire:
        kinds = [value for name, value in wire.headers if name == "content-type"]
        return wire.status, (kinds or [""])[0].partition(";")[0]


@clause("mcp-2025-11-25:transports.endpoint:one-path", "mcp-2025-11-25:transports.listening:stream-or-405")
def test_the_path_that_takes_posts_answers_gets_with_a_stream_or_405(peer: Peer) -> None:
    client = join(peer)
    assert status_of(client, "POST")[0] == 200
    status, kind = status_of(client, "GET")
    assert status == 405 or (status, kind) == (200, EVENTS)


@clause("mcp-2025-11-25:transports.security:origin-checked")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("origin", FOREIGN)
def test_requests_from_foreign_sites_are_not_served(peer: Peer, method: str, origin: str) -> None:
    client = join(peer)
    assert 400 <= status_of(client, method, origin=origin)[0] < 500
    assert is_fine(client), "the foreign request must not have ended the session"


@clause("mcp-2025-11-25:transports.security:origin-403")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("origin", FOREIGN)
def test_requests_from_foreign_sites_are_answered_403(peer: Peer, method: str, origin: str) -> None:
    assert status_of(join(peer), method, origin=origin)[0] == 403


@clause("mcp-2025-11-25:transports.security:authentication")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("credentials", [None, "", "Bearer", "Bearer nonsense", "Basic dGVzdDp0ZXN0"], ids=repr)
def test_without_credentials_nothing_is_served(peer: Peer, method: str, credentials: str | None) -> None:
    if peer.token is None:
        raise NotApplicable("the server is open")
    client = join(peer)
    assert status_of(client, method, authorization=credentials)[0] == 401
    assert is_fine(client)


@clause("mcp-2025-11-25:transports.sending:single-message")
def test_an_array_of_messages_is_refused_and_none_is_carried_out(peer: Peer) -> None:
    client = join(peer)
    for batch in ([], [client.message("ping")], [client.message("ping"), client.message("tools/list")]):
        answer = client.post(batch)
        assert refused(answer), answer
        assert answer.status >= 400, answer


@clause("mcp-2025-11-25:transports.sending:response-202")
@pytest.mark.parametrize("body", [{"result": {}}, {"error": {"code": -1, "message": "no"}}], ids=str)
def test_a_response_is_answered_202_or_refused(peer: Peer, body: Any) -> None:
    client = join(peer, EVERYTHING)
    answer = client.post({"jsonrpc": "2.0", "id": "nothing was asked", **body})
    assert (answer.status, answer.body) == (202, b"") or answer.status >= 400, answer
    assert is_fine(client)


@clause("mcp-2025-11-25:transports.sending:refused-status")
@pytest.mark.parametrize("message", NO_MESSAGES, ids=str)
def test_a_notification_that_is_not_accepted_gets_an_error_status(peer: Peer, message: Any) -> None:
    client = join(peer)
    answer = client.post(message)
    assert 400 <= answer.status < 500, answer
    assert is_fine(client)


@clause("mcp-2025-11-25:transports.sending:refused-status", modes=["sessionful"])
def test_a_notification_to_no_session_gets_an_error_status(peer: Peer) -> None:
    client = join(peer)
    answer = client.notify("notifications/initialized", headers={"mcp-session-id": "no-such-session"})
    assert 400 <= answer.status < 500, answer


@clause("mcp-2025-11-25:transports.sending:refused-body")
@pytest.mark.parametrize("message", NO_MESSAGES, ids=str)
def test_the_error_about_a_notification_answers_no_request(peer: Peer, message: Any) -> None:
    for error in join(peer).post(message).messages:
        assert "error" in error
        assert error.get("id") is None


@clause("mcp-2025-11-25:transports.sending:json-or-stream")
@pytest.mark.parametrize("method", ["ping", "tools/list", "tools/call", "no/such/method"])
def test_a_request_is_answered_as_json_or_as_a_stream(peer: Peer, method: str) -> None:
    client = join(peer)
    answer = client.request(method, params_of(PROGRESSING, "a") if method == "tools/call" else {})
    assert answer.content_type in (JSON, EVENTS)
    assert len([each for each in answer.messages if "method" not in each]) == 1


@clause("mcp-2025-11-25:transports.version-header:invalid-400")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", NO_VERSIONS)
def test_a_version_header_that_names_no_revision_is_answered_400(peer: Peer, method: str, version: str) -> None:
    client = join(peer)
    status = status_of(client, method, **{"mcp-protocol-version": version})[0]
    # A method that is not offered at all is refused as such.
    assert status == 400 or (status == 405 and method != "POST")


@clause("mcp-2025-11-25:transports.version-header:assumed")
def test_without_session_and_version_header_a_request_is_one_of_2025_03_26(peer: Peer) -> None:
    peer.needs("tools")
    client = join(peer)
    listed = client.request("tools/list", headers={"mcp-protocol-version": None}).result["tools"]
    assert listed
    assert [name for tool in listed for name in ("title", "outputSchema", "icons", "execution") if name in tool] == []


@clause("mcp-2025-11-25:transports.sessions:assigned", "mcp-2025-11-25:transports.sessions:visible-ascii")
def test_the_handshake_hands_out_a_session_of_visible_ascii(peer: Peer) -> None:
    client = peer.legacy()
    answer = client.initialize()
    assert len(answer.all("mcp-session-id")) == 1
    assert client.session
    assert all(0x21 <= ord(character) <= 0x7E for character in client.session)
    assert client.request("ping").header("mcp-session-id") in (None, client.session)


@clause("mcp-2025-11-25:transports.sessions:unique-and-secure")
def test_sessions_can_not_be_told_from_one_another(peer: Peer) -> None:
    found = [str(join(peer).session) for _ in range(8)]
    assert len(set(found)) == len(found)
    # The characters that two of them share in place are what could be guessed; 96 bits must remain.
    differing = min(sum(x != y for x, y in zip(a, b, strict=True)) for a in found for b in found if a != b)
    alphabet = len({character for each in found for character in each})
    assert differing * math.log2(alphabet) >= 96


@clause("mcp-2025-11-25:transports.sessions:missing-400")
@pytest.mark.parametrize("method", METHODS)
def test_a_request_that_lacks_its_session_is_answered_400(peer: Peer, method: str) -> None:
    client = join(peer)
    assert status_of(client, method, **{"mcp-session-id": None})[0] == 400
    assert is_fine(client)


@clause("mcp-2025-11-25:transports.sessions:ended-404", "mcp-2025-11-25:transports.sessions:delete-405")
@pytest.mark.parametrize("method", METHODS)
def test_whatever_is_sent_to_a_session_that_ended_is_answered_404(peer: Peer, method: str) -> None:
    client = join(peer)
    ending = client.delete()
    if ending.status == 405:
        raise NotApplicable("clients can not end sessions")
    assert 200 <= ending.status < 300, ending
    assert status_of(client, method)[0] == 404


@clause("mcp-2025-11-25:transports.sessions:ended-404")
def test_ending_a_session_leaves_others_alone(peer: Peer) -> None:
    first, second = join(peer), join(peer)
    if first.delete().status == 405:
        raise NotApplicable("clients can not end sessions")
    assert is_fine(second)
    again = join(peer)
    assert again.session != first.session
