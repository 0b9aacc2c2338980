"""Messages of the revisions up to 2025-11-25: requests, responses, notifications, metadata, pings."""

import json
import re
import time
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Answer, Legacy, NotApplicable
from conformance.legacy import (
    ELICITING,
    EVERYTHING,
    LOGGING,
    NO_TOOL,
    PROGRESSING,
    SAMPLED,
    SAMPLING,
    accepted,
    exchange,
    heard,
    is_fine,
    is_notification,
    is_request,
    join,
    metadata_keys,
    params_of,
    refused,
    streaming,
    unreserved,
)
from conformance.peer import Peer

IDS = (0, 1, -1, 2**53 - 1, "", "0", "a", "ü語")
LABEL = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
PREFIX = re.compile(rf"{LABEL}(?:\.{LABEL})*")
NAME = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)?")
# What a host name written backwards begins with; enough for keys that a server is likely to make.
TOP_LEVEL = re.compile(r"(?:com|org|net|io|dev|app|ai|edu|gov|info|me|co|[a-z]{2})\.")


def errors(client: Legacy) -> dict[str, Answer]:
    """Give one answer for each fault that a readable request can have."""
    return {
        "method": client.request("no/such/method"),
        "tool": client.call(NO_TOOL),
        "cursor": client.request("tools/list", {"cursor": "no cursor of ours"}),
        "params": client.request("tools/call", {"name": 7}),
    }


@clause("mcp-2025-11-25:basic:json-rpc")
def test_whatever_comes_says_that_it_is_json_rpc_2(peer: Peer) -> None:
    client = join(peer)
    errors(client)
    client.request("ping")
    client.request("tools/call", params_of(PROGRESSING, "a"))
    assert len(peer.recorder.messages) >= 6
    assert all(message["jsonrpc"] == "2.0" for message in peer.recorder.messages)


@clause("mcp-2025-11-25:basic.responses:same-id", "mcp-2025-11-25:basic.requests:id-string-or-integer")
@pytest.mark.parametrize("id_", IDS, ids=repr)
def test_a_result_repeats_the_id_with_its_type(peer: Peer, id_: Any) -> None:
    answer = join(peer).request("ping", id=id_)
    assert answer.result == {}
    assert (answer.response["id"], type(answer.response["id"])) == (id_, type(id_))


@clause(
    "mcp-2025-11-25:basic.responses:error-same-id",
    "mcp-2025-11-25:basic.responses:error-members",
    "mcp-2025-11-25:basic.responses:error-code-integer",
    "mcp-2025-11-25:basic.responses:error-message-concise",
    "mcp-2025-11-25:basic.schema:error",
)
@pytest.mark.parametrize("id_", IDS, ids=repr)
def test_an_error_repeats_the_id_and_has_a_whole_number_and_a_text(peer: Peer, id_: Any) -> None:
    answer = join(peer).request("no/such/method", id=id_)
    assert (answer.response["id"], type(answer.response["id"])) == (id_, type(id_))
    assert type(answer.error["code"]) is int
    assert isinstance(answer.error["message"], str)
    assert re.fullmatch(r"[^\n\r]{1,200}", answer.error["message"])
    assert peer.recorder.violations == []


@clause(
    "mcp-2025-11-25:basic.responses:error-members",
    "mcp-2025-11-25:basic.responses:error-code-integer",
    "mcp-2025-11-25:basic.responses:error-message-concise",
)
@pytest.mark.parametrize("fault", ["method", "tool", "cursor", "params"])
def test_every_error_has_a_whole_number_and_a_text(peer: Peer, fault: str) -> None:
    answer = errors(join(peer))[fault]
    assert type(answer.error["code"]) is int
    assert re.fullmatch(r"[^\n\r]{1,200}", answer.error["message"])


@clause(
    "mcp-2025-11-25:basic.responses:result-member",
    "mcp-2025-06-18:basic.responses:one-of-two",
    "mcp-2025-06-18:basic.responses:not-both",
)
def test_a_response_has_a_result_or_an_error_and_never_both(peer: Peer) -> None:
    client = join(peer)
    good = [client.request("ping"), client.request("ping", {})]
    for answer in good:
        assert "result" in answer.response
        assert "error" not in answer.response
    for answer in errors(client).values():
        assert "error" in answer.response
        assert "result" not in answer.response


@clause("mcp-2025-11-25:basic.requests:id-string-or-integer")
@pytest.mark.parametrize("id_", [1.5, True, False, [], [1], {}, {"id": 1}], ids=str)
def test_a_request_with_another_kind_of_id_is_not_carried_out(peer: Peer, id_: Any) -> None:
    client = join(peer)
    assert refused(client.request("ping", id=id_))
    assert is_fine(client)


@clause("mcp-2025-11-25:basic.requests:id-not-null")
@pytest.mark.parametrize("method", ["ping", "tools/list"])
def test_a_request_whose_id_is_null_gets_no_result(peer: Peer, method: str) -> None:
    client = join(peer)
    assert refused(client.request(method, id=None))
    assert is_fine(client)


@clause(
    "mcp-2025-11-25:basic.notifications:no-response",
    "mcp-2025-11-25:transports.sending:accepted-202",
)
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("notifications/initialized", None),
        ("notifications/initialized", {}),
        ("notifications/initialized", {"_meta": {"com.example/a": 1}}),
        ("notifications/roots/list_changed", None),
        ("notifications/cancelled", {"requestId": 4711, "reason": "a test"}),
        ("notifications/progress", {"progressToken": "none of yours", "progress": 1}),
    ],
    ids=str,
)
def test_a_notification_is_accepted_and_gets_no_response(peer: Peer, method: str, params: Any) -> None:
    client = join(peer)
    answer = client.notify(method, params)
    assert (answer.status, answer.body, answer.messages) == (202, b"", []), answer
    assert is_fine(client)


@clause("mcp-2025-11-25:basic.notifications:no-response")
@pytest.mark.parametrize("method", ["notifications/no_such", "ping", "tools/list", "no/such/method"])
def test_a_notification_of_any_name_gets_no_response(peer: Peer, method: str) -> None:
    client = peer.legacy()
    client.initialize()
    message = client.message(method, {})
    del message["id"]
    answer = client.post(message)
    assert [each for each in answer.messages if "result" in each or each.get("id") is not None] == [], answer
    assert answer.body == b"" or answer.status >= 400, answer


@clause("mcp-2025-11-25:basic.notifications:no-id")
@pytest.mark.parametrize("tool", [PROGRESSING, LOGGING])
def test_notifications_of_the_server_have_no_id(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    client = join(peer)
    if peer.sessionful and peer.has("logging"):
        client.request("logging/setLevel", {"level": "debug"})
    answer = client.request("tools/call", params_of(tool, "a"))
    named = [each for each in answer.messages if str(each.get("method", "")).startswith("notifications/")]
    if not named:
        raise NotApplicable(f"{tool} notifies of nothing")
    assert all(is_notification(each) for each in named)


@clause("mcp-2025-11-25:basic.requests:server-id-type", "mcp-2025-11-25:basic.requests:server-id-fresh")
def test_requests_of_the_server_have_ids_that_are_never_used_twice_in_a_session(peer: Peer) -> None:
    peer.needs_tool(SAMPLING)
    peer.needs_tool(ELICITING)
    client = join(peer, EVERYTHING)
    questions = []
    for tool in (SAMPLING, ELICITING, SAMPLING, SAMPLING):
        if tool == ELICITING and peer.revision == "2025-03-26":
            continue
        with streaming(client, tool) as stream:
            said = exchange(
                client,
                stream,
                lambda asked: SAMPLED if asked["method"] == "sampling/createMessage" else accepted({"response": "x"}),
            )
        questions += [message for message in said if is_request(message)]
    assert len(questions) >= 3
    assert all(type(message["id"]) in (int, str) for message in questions)
    assert len({json.dumps(message["id"]) for message in questions}) == len(questions)


def all_keys(peer: Peer) -> set[str]:
    """Give the keys of all metadata that a tour of the server brings up."""
    client = join(peer)
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list", "ping"):
        client.request(method)
    for tool in ("test_simple_text", "test_embedded_resource", "test_error_handling", NO_TOOL):
        client.call(tool)
    return set(metadata_keys(peer.recorder.messages))


@clause("mcp-2025-11-25:basic.meta:prefix-labels", "mcp-2025-11-25:basic.meta:name")
def test_metadata_keys_are_well_formed(peer: Peer) -> None:
    for key in all_keys(peer):
        prefix, slash, name = key.rpartition("/")
        assert not slash or PREFIX.fullmatch(prefix), key
        assert NAME.fullmatch(name), key


@clause("mcp-2025-11-25:basic.meta:reverse-dns")
def test_prefixes_of_metadata_keys_are_host_names_backwards(peer: Peer) -> None:
    assert [key for key in all_keys(peer) if "/" in key and not TOP_LEVEL.match(key)] == []


@clause("mcp-2025-11-25:basic.meta:no-assumptions")
@pytest.mark.parametrize("value", [None, True, 0, "text", [], {}, {"progressToken": []}], ids=str)
def test_metadata_that_means_nothing_to_the_server_does_not_keep_it_from_serving(peer: Peer, value: Any) -> None:
    client = join(peer)
    meta = {unreserved("unheard-of"): value, "com.mcp.example/x": value, "dev.mcp/": value, "": value}
    assert client.request("ping", meta=meta).result == {}
    if peer.has("tools"):
        assert client.request("tools/list", meta=meta).result["tools"]


@clause("mcp-2025-11-25:transports:utf-8")
@pytest.mark.parametrize("text", ["é", "語", "🙂", "\u2028", "\x7f"], ids=ascii)
def test_answers_are_utf8_whatever_comes_back_in_them(peer: Peer, text: str) -> None:
    client = join(peer)
    message = client.message("ping", id=text)
    answer = client.post(json.dumps(message, ensure_ascii=False).encode())
    assert answer.response["id"] == text
    assert not answer.body.startswith(b"\xef\xbb\xbf")


@clause("mcp-2025-11-25:transports:utf-8")
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32"])
def test_bytes_that_are_no_utf8_are_not_read(peer: Peer, encoding: str) -> None:
    client = join(peer)
    message = client.message("ping", id="é")
    assert refused(client.post(json.dumps(message, ensure_ascii=False).encode(encoding)))
    assert is_fine(client)


@clause("mcp-2025-11-25:ping:answer")
def test_a_ping_is_answered_at_once_with_nothing(peer: Peer) -> None:
    client = join(peer)
    began = time.monotonic()
    for params in (None, {}, {"_meta": {"com.example/a": 1}}):
        assert client.request("ping", params).result == {}
    assert time.monotonic() - began < 3


@clause("mcp-2025-11-25:ping:not-excessive")
def test_an_idle_client_is_not_flooded_with_pings(peer: Peer) -> None:
    client = join(peer)
    with client.listen() as stream:
        pings = [message for message in heard(stream, 2.0) if message.get("method") == "ping"]
    assert len(pings) <= 2


@clause("mcp-2025-11-25:tasks.support:no-tasks-undeclared")
@pytest.mark.parametrize("tool", [SAMPLING, ELICITING])
def test_a_client_that_declared_no_tasks_is_asked_for_none(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    client = join(peer, EVERYTHING)
    with streaming(client, tool) as stream:
        said = exchange(
            client, stream, lambda asked: SAMPLED if tool == SAMPLING else accepted({"response": "x", "name": "x"})
        )
    questions = [message for message in said if is_request(message)]
    assert questions
    assert all("task" not in message.get("params", {}) for message in questions)
