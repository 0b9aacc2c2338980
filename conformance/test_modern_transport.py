"""The endpoint, its statuses and its streams (2026-07-28, Streamable HTTP)."""

import json

import pytest

from conformance.clauses import clause
from conformance.client import EVENTS, JSON, Headers
from conformance.modern import CAPABILITIES, META, REVISION, call_something, complete_answers, without
from conformance.peer import Peer

FOREIGN_ORIGINS = (
    "http://evil.example",
    "https://evil.example:443",
    "http://localhost.evil.example",
    "null",
    "file://",
)


@clause("mcp-2026-07-28:basic/transports/http/endpoint:one-endpoint")
def test_the_endpoint_takes_posts_and_other_paths_are_none(peer: Peer) -> None:
    client = peer.modern()
    assert client.request("server/discover").status == 200
    body = json.dumps(client.message("server/discover")).encode()
    for target in ("/", "/mcp/", "/mcp2", "/MCP", "/sse", "/messages"):
        answer = client.http("POST", body, target=target, usual=client.usual_headers(client.message("server/discover")))
        assert answer.status in {404, 405}, target


@clause(
    "mcp-2026-07-28:basic/transports/http/endpoint:origin-validated",
    "mcp-2026-07-28:basic/transports/http/endpoint:origin-status",
    "mcp-2026-07-28:basic/transports/http/endpoint:origin-body-without-id",
)
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("method", ["server/discover", "tools/call"])
def test_a_foreign_origin_is_403(peer: Peer, origin: str, method: str) -> None:
    answer = peer.modern().request(method, {"name": "echo"}, headers={"origin": origin})
    assert answer.status == 403, answer
    assert not any("result" in message or "id" in message for message in answer.messages)


@clause("mcp-2026-07-28:basic/transports/http/endpoint:origin-validated")
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
def test_a_foreign_origin_is_403_by_any_method_and_without_a_token(peer: Peer, method: str) -> None:
    answer = peer.endpoint(token=None).http(method, b"", {"origin": FOREIGN_ORIGINS[0]})
    assert answer.status == 403, answer


@clause("mcp-2026-07-28:basic/transports/http/endpoint:origin-validated")
def test_the_servers_own_origin_is_served(peer: Peer) -> None:
    assert peer.modern().request("server/discover", headers={"origin": peer.issuer}).status == 200


@clause("own:modern:foreign-host-refused")
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example"]
)
@pytest.mark.parametrize("target", ["/mcp", "/", "/.well-known/oauth-protected-resource/mcp"])
def test_a_foreign_host_is_refused_on_every_path(peer: Peer, host: str, target: str) -> None:
    for method in ("GET", "POST"):
        answer = peer.endpoint().http(method, b"", {"host": host}, target=target)
        assert answer.status in {403, 421}, answer


@clause(
    "mcp-2026-07-28:basic/transports/http/endpoint:authenticates",
    "mcp-2026-07-28:basic/auth:http-authorization",
    "mcp-2026-07-28:server/caching:scope-is-no-access-control",
    "own:modern:strangers-learn-nothing",
)
def test_without_a_valid_access_token_everything_is_401_in_the_same_words(peer: Peer) -> None:
    for token in (None, "", "not-a-token", "a.b.c"):
        stranger = peer.modern(token=token)
        answers = [
            stranger.request(method) for method in ("server/discover", "tools/list", "resources/list", "no/such/method")
        ]
        answers += [stranger.call("echo"), stranger.post(b"no json"), stranger.notify("notifications/cancelled")]
        for answer in answers:
            assert answer.status == 401, answer
            assert (answer.header("www-authenticate") or "").lower().startswith("bearer"), answer
            assert answer.body == answers[0].body
            assert not answer.messages


@clause("mcp-2026-07-28:basic/transports/http/sending:no-client-responses")
@pytest.mark.parametrize("answer", [{"result": {}}, {"error": {"code": -1, "message": "no"}}], ids=["result", "error"])
def test_a_posted_response_is_refused(peer: Peer, answer: dict[str, object]) -> None:
    for id_ in (1, "1", 0):
        refused = peer.modern().post({"jsonrpc": "2.0", "id": id_, **answer})
        assert refused.status >= 400, refused
        assert not any("result" in message for message in refused.messages)


@clause(
    "mcp-2026-07-28:basic/transports/http/sending:notification-202",
    "mcp-2026-07-28:basic/transports/http/sending:notification-202-without-body",
)
def test_a_notification_is_accepted_without_a_body(peer: Peer) -> None:
    answer = peer.modern().notify("notifications/cancelled", {"requestId": 99, "reason": "none"})
    assert (answer.status, answer.body) == (202, b""), answer


@clause(
    "mcp-2026-07-28:basic/transports/http/sending:notification-refused-by-status",
    "mcp-2026-07-28:basic/transports/http/sending:notification-refused-without-id",
)
@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "1.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": [1]},
        {"jsonrpc": "2.0", "method": 5},
    ],
    ids=str,
)
def test_a_notification_that_is_none_is_refused_by_status(peer: Peer, message: dict[str, object]) -> None:
    answer = peer.modern().post(message)
    assert 400 <= answer.status < 500, answer
    assert not any("id" in each or "result" in each for each in answer.messages)


@clause("mcp-2026-07-28:basic/transports/http/sending:answer-json-or-stream")
def test_an_answer_is_one_object_or_a_stream(peer: Peer) -> None:
    for method, answer in complete_answers(peer).items():
        assert answer.content_type in {JSON, EVENTS}, method
        if answer.content_type == JSON:
            assert isinstance(answer.json, dict), method
        else:
            assert answer.events[-1].message == answer.response, method


@clause("own:modern:accept-judged")
@pytest.mark.parametrize("accept", [JSON, EVENTS, "text/html", "", f"{JSON};q=0, {EVENTS}", f"{JSON}, {EVENTS};q=0"])
def test_an_accept_that_lacks_one_of_the_two_is_406(peer: Peer, accept: str) -> None:
    answer = peer.modern().request("server/discover", headers={"accept": accept})
    assert answer.status == 406, answer


@clause("own:modern:accept-judged")
@pytest.mark.parametrize(
    "accept", ["*/*", f"{EVENTS}, {JSON}", f"{JSON}; q=0.1, text/*", "APPLICATION/json,TEXT/Event-Stream"]
)
def test_an_accept_that_covers_both_is_served(peer: Peer, accept: str) -> None:
    assert peer.modern().request("server/discover", headers={"accept": accept}).status == 200


@clause("own:modern:content-type-judged")
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None])
def test_a_body_that_is_not_declared_as_json_is_415(peer: Peer, kind: str | None) -> None:
    answer = peer.modern().request("server/discover", headers={"content-type": kind})
    assert answer.status == 415, answer


@clause("own:modern:content-type-judged")
@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", 'application/json; charset="UTF-8"']
)
def test_every_spelling_of_json_is_json(peer: Peer, kind: str) -> None:
    assert peer.modern().request("server/discover", headers={"content-type": kind}).status == 200


@clause("own:modern:duplicate-keys-refused")
@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"server/discover"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"server/discover"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","n\\u0061me":"b"}}',
    ],
)
def test_a_member_named_twice_is_refused(peer: Peer, body: bytes) -> None:
    answer = peer.modern().post(body, {"mcp-method": "server/discover"})
    assert (answer.status, answer.code) == (400, -32700), answer


@clause("own:modern:depth-bounded")
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused_and_the_next_request_served(peer: Peer, opening: str, closing: str) -> None:
    client = peer.modern()
    for depth in (1_000, 100_000):
        value = opening * depth + "1" + closing * depth
        body = f'{{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{{"x":{value}}}}}'
        assert client.post(body.encode(), {"mcp-method": "server/discover"}).status in {400, 413}
    assert client.request("server/discover").status == 200


@clause("own:modern:first-failure-wins")
def test_of_several_faults_the_first_of_the_ladder_is_answered(peer: Peer) -> None:
    client = peer.modern()
    message = without(client.message("no/such/method", {"cursor": 5}), CAPABILITIES)
    wrong: Headers = {
        "origin": FOREIGN_ORIGINS[0],
        "authorization": None,
        "content-type": "text/plain",
        "accept": "text/html",
        "mcp-method": "other",
        "mcp-protocol-version": "1900-01-01",
    }
    bad_version = client.message("no/such/method", {"cursor": 5}, meta=client.meta(protocolVersion="1900-01-01"))
    good = client.message("no/such/method", {"cursor": 5})
    rungs = [
        (b"no json", [], 403, None),
        (b"no json", ["origin"], 401, None),
        (b"no json", ["origin", "authorization"], 415, None),
        (b"no json", ["origin", "authorization", "content-type"], 406, None),
        (b"no json", ["origin", "authorization", "content-type", "accept"], 400, -32700),
        (b'{"id": 1}', ["origin", "authorization", "content-type", "accept"], 400, -32600),
        (message, ["origin", "authorization", "content-type", "accept"], 400, -32602),
        (good, ["origin", "authorization", "content-type", "accept"], 400, -32020),
        (bad_version, ["origin", "authorization", "content-type", "accept"], 400, -32020),
        (bad_version, ["origin", "authorization", "content-type", "accept", "mcp-method"], 400, -32022),
        (good, list(wrong), 404, -32601),
    ]
    for body, mended, status, code in rungs:
        spoilt = {name: value for name, value in wrong.items() if name not in mended}
        answer = client.post(body, spoilt)
        assert (answer.status, answer.code) == (status, code), (mended, answer)


@clause("mcp-2026-07-28:basic/transports/http/receiving:notifications-before-response")
@clause("mcp-2026-07-28:basic/transports/http/receiving:response-ends-stream")
@clause("mcp-2026-07-28:basic/transports/http/receiving:no-buffering-header")
@clause("mcp-2026-07-28:basic/transports/http/receiving:not-resumable")
@clause("mcp-2026-07-28:schema:notifications-valid")
def test_a_stream_carries_notifications_then_the_response_and_ends(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_progress")
    client = peer.modern()
    with client.open("tools/call", {"name": "test_tool_with_progress"}, meta=client.meta(progressToken="p")) as stream:
        assert (stream.header("x-accel-buffering") or "").lower() == "no"
        events = [event for event in stream.events() if event.data]
    assert all(event.id is None for event in events), "streams can't be resumed, so events have no ids"
    assert all("method" in event.message for event in events[:-1])
    assert len(events) > 1
    assert "result" in events[-1].message


@clause(
    "mcp-2026-07-28:basic/transports/http/receiving:no-server-requests",
    "mcp-2026-07-28:basic/patterns:no-server-initiated-requests",
    "mcp-2026-07-28:basic/mrtr:through-results-only",
)
@pytest.mark.parametrize(
    "tool",
    ["test_streaming_elicitation", "test_elicitation", "test_sampling", "test_input_required_result_elicitation"],
)
def test_no_stream_carries_a_request_of_the_server(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    client = peer.modern(capabilities={"elicitation": {}, "sampling": {}, "roots": {}})
    answer = client.call(
        tool, {"message": "hi", "prompt": "hi"} if tool in {"test_elicitation", "test_sampling"} else {}
    )
    assert not any("method" in message and "id" in message for message in answer.messages), answer


@clause(
    "mcp-2026-07-28:basic/transports/http/receiving:notifications-relate-to-request",
    "mcp-2026-07-28:basic/patterns:notifications-while-in-flight",
)
def test_two_streams_at_once_carry_each_its_own_progress(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_progress")
    client = peer.modern()
    params = {"name": "test_tool_with_progress"}
    with (
        client.open("tools/call", params, meta=client.meta(progressToken="one")) as one,
        client.open("tools/call", params, meta=client.meta(progressToken="other")) as other,
    ):
        tokens = [{m["params"]["progressToken"] for m in stream.messages() if "method" in m} for stream in (one, other)]
    assert tokens == [{"one"}, {"other"}]


@clause("mcp-2026-07-28:basic/transports/http/compatibility:get-delete-405")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH"])
def test_without_legacy_sessions_other_methods_are_405(peer: Peer, method: str) -> None:
    if peer.mode != "stateless" and method in {"GET", "DELETE"}:
        # Both are served to legacy clients here; a modern one has no session to name.
        answer = peer.modern().http(method, b"", {"accept": EVENTS, "mcp-protocol-version": REVISION})
        assert answer.status in {400, 404, 405}, answer
        return
    answer = peer.modern().http(method, b"", {"accept": EVENTS, "mcp-protocol-version": REVISION})
    assert answer.status == 405, answer
    assert "POST" in (answer.header("allow") or "")


@clause(
    "mcp-2026-07-28:basic/transports/http/compatibility:session-id-ignored",
    "mcp-2026-07-28:basic/transports/http/compatibility:session-id-not-minted",
    "mcp-2026-07-28:basic/transports/http/compatibility:last-event-id-ignored",
)
@pytest.mark.parametrize("headers", [{"mcp-session-id": "no-such-session"}, {"last-event-id": "7"}], ids=str)
def test_headers_of_older_transports_change_nothing(peer: Peer, headers: dict[str, str]) -> None:
    client = peer.modern()
    plain, marked = client.request("tools/list"), client.request("tools/list", headers=headers)
    assert marked.status == 200, marked
    assert marked.result == plain.result
    assert marked.header("mcp-session-id") is None
    assert call_something(client, headers=headers).header("mcp-session-id") is None


@clause("mcp-2026-07-28:basic/transports/http/compatibility:session-id-not-minted")
def test_no_answer_hands_out_a_session(peer: Peer) -> None:
    for method, answer in complete_answers(peer).items():
        assert answer.header("mcp-session-id") is None, method


@clause("mcp-2026-07-28:basic/transports/http/compatibility:http-sse-not-adopted")
def test_the_transport_of_2024_is_not_offered(peer: Peer) -> None:
    for target in ("/sse", "/messages", "/mcp"):
        answer = peer.endpoint().wire("GET", b"", {"accept": EVENTS}, target=target)
        with answer:
            assert answer.status >= 400, target


@clause("mcp-2026-07-28:basic/transports/http/headers:absent-header-is-legacy")
def test_a_request_without_header_and_metadata_is_not_served_as_a_modern_one(peer: Peer) -> None:
    answer = peer.legacy(revision="2025-03-26").post(without(peer.modern().message("tools/list"), "_meta"))
    served = [message["result"] for message in answer.messages if "result" in message]
    assert not any("resultType" in result or f"{META}serverInfo" in result.get("_meta", {}) for result in served)
