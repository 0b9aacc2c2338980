"""Messages, their metadata and the versions they are of (2026-07-28, basic and versioning)."""

import json
import re

import pytest

from conformance.clauses import clause
from conformance.client import Answer
from conformance.modern import (
    CAPABILITIES,
    EVERYTHING,
    META,
    REVISION,
    TASKS,
    VERSION,
    call_something,
    complete_answers,
    connection,
    meta_keys,
    without,
)
from conformance.peer import Peer

IDS = (0, -1, 1, 2**53 - 1, "", "0", "a", "ü-語")
DEFINED = {-32020, -32021, -32022}
STANDARD = {-32700, -32600, -32601, -32602, -32603}
REMOVED = (
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
)
# A key: labels with dots between, a slash, a name; both begin and end as the text says.
LABEL = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
KEY = re.compile(rf"(?:(?P<prefix>{LABEL}(?:\.{LABEL})*)/)?(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?")
DEFINED_KEYS = {f"{META}serverInfo", f"{META}subscriptionId"}
METHODS = ("server/discover", "tools/list", "tools/call", "no/such/method")


def errors(peer: Peer) -> dict[str, Answer]:
    """One answer for each fault that a client can make."""
    client = peer.modern()
    good = client.message("tools/list")
    return {
        "syntax": client.post(b'{"jsonrpc": "2.0", '),
        "no message": client.post(b'{"id": 1}'),
        "method": client.request("no/such/method"),
        "removed method": client.request("ping"),
        "no metadata": client.post(without(good, "_meta")),
        "no capabilities": client.post(without(good, CAPABILITIES)),
        "version": unserved(peer, "1900-01-01"),
        "method header": client.request("tools/list", headers={"mcp-method": "tools/call"}),
        "name header": client.call("echo", headers={"mcp-name": "other"}),
    }


def unserved(peer: Peer, version: str, method: str = "tools/list", **more: object) -> Answer:
    """Ask in another version, by header and metadata alike."""
    client = peer.modern()
    message = client.message(method, meta=client.meta(protocolVersion=version)) | more
    return client.post(message, {"mcp-protocol-version": version})


@clause("mcp-2026-07-28:basic/messages:jsonrpc-member")
def test_every_message_says_that_it_is_jsonrpc_2(peer: Peer) -> None:
    for name, answer in {**complete_answers(peer), **errors(peer)}.items():
        assert answer.messages, name
        assert all(message["jsonrpc"] == "2.0" for message in answer.messages), name


@clause("mcp-2026-07-28:basic/messages:malformed-json-is-parse-error")
@pytest.mark.parametrize("body", [b"", b"{", b'{"a":}', b"hello", b"{'jsonrpc': '2.0'}", b'{"jsonrpc":"2.0"} x'])
def test_what_is_no_json_is_a_parse_error(peer: Peer, body: bytes) -> None:
    answer = peer.modern().post(body)
    assert (answer.status, answer.code) == (400, -32700), answer


@clause("mcp-2026-07-28:basic/messages:not-a-message-is-invalid-request")
@pytest.mark.parametrize(
    "message",
    [
        b"1",
        b'"text"',
        b"null",
        b"true",
        {},
        {"id": 1},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "1.0", "id": 1, "method": "server/discover"},
        {"id": 1, "method": "server/discover"},
        {"jsonrpc": "2.0", "id": 1, "method": 7},
        {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": "text"},
    ],
    ids=str,
)
def test_json_that_is_no_message_is_an_invalid_request(peer: Peer, message: object) -> None:
    answer = peer.modern().post(message)
    assert (answer.status, answer.code) == (400, -32600), answer


@clause("mcp-2026-07-28:basic/messages:one-message-a-body")
def test_a_body_with_several_messages_is_refused_and_none_is_run(peer: Peer) -> None:
    client = peer.modern()
    for batch in ([], [client.message("server/discover")], [client.message("server/discover") for _ in range(2)]):
        answer = client.post(json.dumps(batch).encode())
        assert (answer.status, answer.code) == (400, -32600), answer


@clause("mcp-2026-07-28:basic/messages:utf8-sent")
@pytest.mark.parametrize("id_", ["é", "語", "🙂", "\u2028"])
def test_answers_are_utf8_whatever_characters_come_back(peer: Peer, id_: str) -> None:
    answer = peer.modern().request("server/discover", id=id_)
    assert not answer.body.startswith(b"\xef\xbb\xbf")
    assert json.loads(answer.body.decode("utf-8", "strict"))["id"] == id_


@clause("mcp-2026-07-28:basic/messages:utf8-required")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_bytes_that_are_no_utf8_are_not_read(peer: Peer, encoding: str) -> None:
    client = peer.modern()
    body = json.dumps(client.message("server/discover", id="é"), ensure_ascii=False).encode(encoding)
    answer = client.post(body)
    assert (answer.status, answer.code) == (400, -32700), answer


@clause("mcp-2026-07-28:basic/requests:id-is-string-or-integer")
@pytest.mark.parametrize("id_", [1.5, True, False, [], [1], {}, {"id": 1}], ids=str)
def test_an_id_that_is_neither_text_nor_whole_is_refused(peer: Peer, id_: object) -> None:
    answer = peer.modern().request("server/discover", id=id_)
    assert (answer.status, answer.code) == (400, -32600), answer
    assert "id" not in answer.response, "an id that is none can't be repeated"


@clause("mcp-2026-07-28:basic/requests:id-not-null")
def test_an_id_that_is_null_is_refused(peer: Peer) -> None:
    answer = peer.modern().request("server/discover", id=None)
    assert (answer.status, answer.code) == (400, -32600), answer
    assert "id" not in answer.response


@clause("mcp-2026-07-28:basic/requests:same-id-kept-apart", "mcp-2026-07-28:basic/statelessness:connection-not-needed")
def test_two_requests_with_one_id_get_each_their_own_answer(peer: Peer) -> None:
    client = peer.modern()
    with connection(client) as one, connection(client) as other:
        one.send(client.message("server/discover", id=7))
        other.send(client.message("tools/list", id=7))
        assert "tools" in other.receive().result
        assert "supportedVersions" in one.receive().result


@clause("mcp-2026-07-28:basic/responses:result-has-request-id")
@pytest.mark.parametrize("id_", IDS, ids=repr)
def test_a_result_repeats_the_id_with_its_type(peer: Peer, id_: int | str) -> None:
    answer = peer.modern().request("server/discover", id=id_).response
    assert "result" in answer
    assert (answer["id"], type(answer["id"])) == (id_, type(id_))


@clause("mcp-2026-07-28:basic/responses:error-has-request-id")
@pytest.mark.parametrize("id_", IDS, ids=repr)
def test_an_error_repeats_the_id_with_its_type(peer: Peer, id_: int | str) -> None:
    client = peer.modern()
    for answer in (
        client.request("no/such/method", id=id_),
        client.post(without(client.message("tools/list", id=id_), CAPABILITIES)),
        unserved(peer, "1900-01-01", id=id_),
        client.request("tools/list", id=id_, headers={"mcp-method": "other"}),
    ):
        assert "error" in answer.response, answer
        assert (answer.response["id"], type(answer.response["id"])) == (id_, type(id_)), answer


@clause(
    "mcp-2026-07-28:basic/responses:result-member",
    "mcp-2026-07-28:basic/responses:result-type-present",
    "mcp-2026-07-28:basic/responses:result-type-complete",
    "mcp-2026-07-28:schema:results-valid",
)
def test_a_result_is_an_object_that_says_complete(peer: Peer) -> None:
    for method, answer in complete_answers(peer).items():
        assert answer.status == 200, method
        assert isinstance(answer.response["result"], dict), method
        assert "error" not in answer.response, method
        assert answer.result["resultType"] == "complete", method


@clause("mcp-2026-07-28:basic/responses:result-type-known")
def test_result_types_are_of_the_protocol_or_of_a_declared_extension(peer: Peer) -> None:
    known = {"complete", "input_required"}
    if TASKS in (peer.capabilities or {}).get("extensions", {}):
        known.add("task")
    client = peer.modern(capabilities=EVERYTHING)
    for tool in client.request("tools/list").result["tools"]:
        if tool["inputSchema"].get("required"):
            continue
        response = client.call(tool["name"]).response
        if "result" in response:
            assert response["result"]["resultType"] in known, tool["name"]


@clause(
    "mcp-2026-07-28:basic/responses:error-code-and-message",
    "mcp-2026-07-28:basic/responses:error-code-integer",
    "mcp-2026-07-28:basic/responses:error-message-is-short",
    "mcp-2026-07-28:basic/responses:error-data",
    "mcp-2026-07-28:schema:errors-valid",
    "own:modern:recognizable-errors",
)
def test_every_error_has_a_code_and_a_short_message(peer: Peer) -> None:
    for fault, answer in errors(peer).items():
        error = answer.error
        assert type(error["code"]) is int, fault
        assert isinstance(error["message"], str), fault
        assert 0 < len(error["message"]) <= 300, fault
        assert "\n" not in error["message"], fault
        assert set(error) <= {"code", "message", "data"}, fault
        assert answer.content_type == "application/json", fault


@clause(
    "mcp-2026-07-28:basic/error-codes:legacy-range-not-allocated",
    "mcp-2026-07-28:basic/error-codes:legacy-range-unused",
    "mcp-2026-07-28:basic/error-codes:reserved-range-only-defined",
    "mcp-2026-07-28:basic/error-codes:own-codes-outside",
    "mcp-2026-07-28:basic/error-codes:no-url-code-of-old",
)
def test_codes_are_standard_or_defined_or_outside_the_reserved_range(peer: Peer) -> None:
    for fault, answer in errors(peer).items():
        code = answer.error["code"]
        assert code in STANDARD | DEFINED or not -32768 <= code <= -32000, fault


@clause(
    "mcp-2026-07-28:basic/error-codes:reserved-codes-as-defined",
    "mcp-2026-07-28:basic/error-codes:method-not-found",
)
def test_each_fault_has_the_code_that_is_meant_for_it(peer: Peer) -> None:
    assert {fault: answer.code for fault, answer in errors(peer).items()} == {
        "syntax": -32700,
        "no message": -32600,
        "method": -32601,
        "removed method": -32601,
        "no metadata": -32602,
        "no capabilities": -32602,
        "version": -32022,
        "method header": -32020,
        "name header": -32020,
    }


@clause("mcp-2026-07-28:basic/notifications:never-answered")
@pytest.mark.parametrize(
    "method", ["notifications/cancelled", "notifications/initialized", "no/such/thing", "tools/list", "tools/call"]
)
def test_a_notification_gets_no_jsonrpc_answer(peer: Peer, method: str) -> None:
    answer = peer.modern().notify(method)
    assert not any("result" in message or "id" in message for message in answer.messages), answer
    assert answer.status == 202 or answer.status >= 400


@clause("mcp-2026-07-28:basic/notifications:sent-without-id")
def test_notifications_of_the_server_have_no_id(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_progress")
    client = peer.modern()
    answer = client.request("tools/call", {"name": "test_tool_with_progress"}, meta=client.meta(progressToken="p"))
    sent = [message for message in answer.messages if "method" in message]
    assert sent
    assert all("id" not in message for message in sent)


@clause(
    "mcp-2026-07-28:basic/statelessness:no-context-from-connection",
    "mcp-2026-07-28:basic/versioning:each-request-on-its-own",
)
def test_nothing_of_an_earlier_request_on_the_connection_counts(peer: Peer) -> None:
    client = peer.modern()
    with connection(client) as same:
        assert same.request("tools/list").status == 200
        assert same.post(without(client.message("tools/list"), CAPABILITIES)).code == -32602
        assert same.post(without(client.message("tools/list"), VERSION)).code == -32602
        other = client.message("tools/list", meta=client.meta(protocolVersion="2999-01-01"))
        assert same.post(other, {"mcp-protocol-version": "2999-01-01"}).code == -32022
        assert same.request("tools/list").status == 200


@clause("mcp-2026-07-28:basic/statelessness:conversations-interleaved")
def test_conversations_of_several_clients_share_a_connection(peer: Peer) -> None:
    client = peer.modern()
    with connection(client) as same:
        for turn in range(6):
            meta = client.meta(clientInfo={"name": f"client {turn % 2}", "version": str(turn)})
            method = "tools/list" if turn % 2 else "server/discover"
            answer = same.request(method, id=turn // 2, meta=meta)
            assert ("tools" if turn % 2 else "supportedVersions") in answer.result
            assert answer.message["id"] == turn // 2


@clause("mcp-2026-07-28:basic/meta:no-assumptions-about-reserved")
@pytest.mark.parametrize("value", [0, "text", [], {}, {"a": {"b": []}}], ids=str)
@pytest.mark.parametrize("key", ["traceparent", "tracestate", "baggage", f"{META}subscriptionId", f"{META}new"])
def test_reserved_keys_that_mean_nothing_here_may_hold_anything(peer: Peer, key: str, value: object) -> None:
    client = peer.modern()
    assert client.request("tools/list", meta=client.meta() | {key: value}).status == 200


@clause(
    "mcp-2026-07-28:basic/meta:prefix-form",
    "mcp-2026-07-28:basic/meta:prefix-reverse-dns",
    "mcp-2026-07-28:basic/meta:reserved-prefix-kept-free",
    "mcp-2026-07-28:basic/meta:name-form",
)
def test_keys_that_the_server_sends_in_meta_are_well_formed(peer: Peer) -> None:
    keys = {key for answer in complete_answers(peer).values() for key in meta_keys(answer.response)}
    assert keys, "at least serverInfo is expected"
    for key in keys:
        match = KEY.fullmatch(key)
        assert match, key
        labels = (match["prefix"] or "").split(".")
        if len(labels) > 1 and labels[1] in {"modelcontextprotocol", "mcp"}:
            assert key in DEFINED_KEYS, key
        elif match["prefix"]:
            assert len(labels) > 1, f"{key} is no name in reverse DNS notation"


@clause(
    "mcp-2026-07-28:basic/meta:missing-version-refused",
    "mcp-2026-07-28:basic/meta:missing-capabilities-refused",
    "mcp-2026-07-28:basic/meta:missing-field-status",
)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "keys", [(VERSION,), (CAPABILITIES,), (VERSION, CAPABILITIES), ("_meta",), ("params",)], ids=str
)
def test_a_request_that_lacks_required_metadata_is_malformed(peer: Peer, method: str, keys: tuple[str, ...]) -> None:
    client = peer.modern()
    answer = client.post(without(client.message(method, {"name": "echo"}), *keys))
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:basic/meta:missing-version-refused", "mcp-2026-07-28:basic/meta:missing-field-status")
@pytest.mark.parametrize("params", [[], ["a"], [{}]], ids=str)
def test_params_that_are_a_list_hold_no_metadata(peer: Peer, params: list[object]) -> None:
    answer = peer.modern().post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
    assert answer.status == 400, answer
    assert answer.code in {-32602, -32600}, "by the schema of this revision it isn't even a request"


@clause("mcp-2026-07-28:basic/meta:missing-version-refused", "mcp-2026-07-28:basic/meta:missing-capabilities-refused")
@pytest.mark.parametrize("key", [VERSION, CAPABILITIES])
@pytest.mark.parametrize("value", [None, 1, [], True], ids=str)
def test_required_metadata_of_another_type_is_as_good_as_none(peer: Peer, key: str, value: object) -> None:
    client = peer.modern()
    answer = client.request("tools/list", meta=client.meta() | {key: value})
    assert answer.status == 400, answer
    assert answer.code in {-32602, -32020}, "a version that is no text differs from its header, too"


@clause("mcp-2026-07-28:basic/meta:client-info-optional")
def test_a_client_that_does_not_name_itself_is_served(peer: Peer) -> None:
    client = peer.modern()
    assert client.request("tools/list", meta=client.meta(clientInfo=None)).status == 200


@clause(
    "mcp-2026-07-28:basic/meta:client-info-changes-nothing",
    "mcp-2026-07-28:basic/meta:client-info-no-security",
)
@pytest.mark.parametrize("name", ["admin", "root", "tenantry"])
def test_what_a_client_calls_itself_changes_no_answer(peer: Peer, name: str) -> None:
    client = peer.modern()
    meta = client.meta(clientInfo={"name": name, "version": "999", "title": "The server itself"})
    assert client.request("tools/list", meta=meta).result == client.request("tools/list").result
    plain, marked = client.call("no_such_tool").response, client.call("no_such_tool", meta=meta).response
    assert without(marked, "id") == without(plain, "id")


@clause("mcp-2026-07-28:basic/meta:server-info-in-results")
def test_every_result_names_the_server(peer: Peer) -> None:
    for method, answer in complete_answers(peer).items():
        info = answer.result["_meta"][f"{META}serverInfo"]
        assert isinstance(info["name"], str), method
        assert isinstance(info["version"], str), method


@clause(
    "mcp-2026-07-28:basic/versioning:unsupported-version-code",
    "mcp-2026-07-28:basic/versioning:unsupported-version-lists-supported",
    "mcp-2026-07-28:basic/versioning:unsupported-version-names-requested",
    "mcp-2026-07-28:basic/transports/http/headers:unsupported-version-status",
)
@pytest.mark.parametrize("version", ["1900-01-01", "2999-12-31", "2026-07-29", "draft", "2026-07"])
@pytest.mark.parametrize("method", ["server/discover", "tools/list"])
def test_a_version_that_is_not_served_is_answered_with_those_that_are(peer: Peer, version: str, method: str) -> None:
    answer = unserved(peer, version, method)
    assert (answer.status, answer.code) == (400, -32022), answer
    assert answer.error["data"]["requested"] == version
    assert REVISION in answer.error["data"]["supported"]


@clause("mcp-2026-07-28:basic/versioning:unsupported-version-code")
@pytest.mark.parametrize("version", ["2025-11-25", "2025-03-26"])
def test_a_version_of_the_other_era_is_not_served_by_metadata(peer: Peer, version: str) -> None:
    answer = unserved(peer, version)
    assert (answer.status, answer.code) == (400, -32022), answer


@clause(
    "mcp-2026-07-28:basic/versioning:discover-implemented",
    "mcp-2026-07-28:server/discover:same-versions-as-error",
    "mcp-2026-07-28:server/discover:versions",
)
def test_discover_lists_the_versions_that_the_error_lists(peer: Peer) -> None:
    versions = peer.modern().request("server/discover").result["supportedVersions"]
    assert REVISION in versions
    assert len(versions) == len(set(versions))
    assert unserved(peer, "1900-01-01").error["data"]["supported"] == versions


@clause("mcp-2026-07-28:basic/versioning:discover-not-needed-first")
def test_the_first_request_may_be_any_other(peer: Peer) -> None:
    with connection(peer.modern()) as fresh:
        assert fresh.request("tools/list").status == 200


@clause("mcp-2026-07-28:basic/versioning:extension-identifier-form", "mcp-tasks:negotiation:settings-empty")
def test_extensions_of_the_server_have_a_prefix_and_settings(peer: Peer) -> None:
    extensions = peer.modern().request("server/discover").result["capabilities"]["extensions"]
    assert extensions
    for name, settings in extensions.items():
        match = KEY.fullmatch(name)
        assert match, name
        assert match["prefix"], name
        assert isinstance(settings, dict), name


@clause("mcp-2026-07-28:basic/versioning:unknown-extension-tolerated")
def test_an_extension_that_the_server_does_not_know_changes_nothing(peer: Peer) -> None:
    declaring = peer.modern(capabilities={"extensions": {"com.example/no-such-thing": {"deep": [1]}}})
    assert declaring.request("tools/list").result == peer.modern().request("tools/list").result
    assert call_something(declaring).result["resultType"] == "complete"


@clause("mcp-2026-07-28:basic/versioning:removed-methods-unknown")
@pytest.mark.parametrize("method", REMOVED)
def test_a_method_that_was_taken_out_is_unknown(peer: Peer, method: str) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    answer = peer.modern().request(method, {**params, "level": "info", "uri": "test://watched-resource"})
    assert (answer.status, answer.code) == (404, -32601), answer
    assert answer.header("mcp-session-id") is None


@clause(
    "mcp-2026-07-28:basic/versioning:modern-metadata-served-statelessly",
    "mcp-2026-07-28:basic/versioning:initialize-opens-legacy",
    "mcp-2026-07-28:basic/versioning:both-eras-served",
)
def test_both_eras_take_turns_at_one_address(peer: Peer) -> None:
    legacy = peer.legacy()
    handshake = legacy.initialize()
    assert handshake.result["protocolVersion"] == "2025-11-25"
    assert "resultType" not in handshake.result
    answer = peer.modern().request("tools/list", headers=legacy.session_headers() | {"mcp-protocol-version": REVISION})
    assert answer.result["resultType"] == "complete"
    assert "resultType" not in legacy.request("tools/list").result
