"""Batches, which revision 2025-03-26 alone has over HTTP."""

from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import EVENTS, JSON, Answer
from conformance.legacy import NO_TOOL, Message, is_fine, is_response, join, refused
from conformance.peer import Peer

PING = {"jsonrpc": "2.0", "method": "ping"}
NOTE = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def said(answer: Answer) -> list[Message]:
    """Give every message of an answer, those in arrays too."""
    found: list[Message] = []
    for each in answer.messages:
        found += each if isinstance(each, list) else [each]
    return found


def responses(answer: Answer) -> list[Message]:
    """Give every response of an answer."""
    return [message for message in said(answer) if is_response(message)]


@clause("mcp-2025-03-26:basic.batching:receive", "mcp-2025-03-26:transports.sending:batch-responses")
@pytest.mark.parametrize("count", [1, 2, 20])
def test_each_request_of_a_batch_is_answered_once(peer: Peer, count: int) -> None:
    client = join(peer)
    ids: list[Any] = [number if number % 2 else f"call-{number}" for number in range(count)]
    answer = client.post([{**PING, "id": each} for each in ids])
    assert answer.status == 200, answer
    assert sorted(map(repr, (each["id"] for each in responses(answer)))) == sorted(map(repr, ids))
    assert all(each["result"] == {} for each in responses(answer))


@clause("mcp-2025-03-26:basic.batching:receive", "mcp-2025-03-26:transports.sending:batch-responses")
def test_a_batch_may_mix_requests_that_succeed_and_fail_with_notifications(peer: Peer) -> None:
    client = join(peer)
    call = {"name": NO_TOOL, "arguments": {}}
    batch = [
        {**PING, "id": "good"},
        NOTE,
        {"jsonrpc": "2.0", "id": "method", "method": "no/such/method"},
        {"jsonrpc": "2.0", "id": "tool", "method": "tools/call", "params": call},
    ]
    answered = {each["id"]: each for each in responses(client.post(batch))}
    assert answered.keys() == {"good", "method", "tool"}
    assert answered["good"]["result"] == {}
    assert answered["method"]["error"]["code"] == -32601
    assert "error" in answered["tool"]


@clause("mcp-2025-03-26:transports.sending:batch-answer")
def test_a_batch_with_requests_is_answered_as_json_or_as_a_stream(peer: Peer) -> None:
    answer = join(peer).post([{**PING, "id": 1}, {**PING, "id": 2}])
    assert answer.status == 200, answer
    assert answer.content_type in (JSON, EVENTS)


@clause("mcp-2025-03-26:transports.sending:batch-202", "mcp-2025-03-26:transports.sending:message-or-batch")
@pytest.mark.parametrize(
    "batch",
    [
        [NOTE],
        [NOTE, {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4711}}],
        [{"jsonrpc": "2.0", "id": "nothing was asked", "result": {}}],
        [
            {"jsonrpc": "2.0", "id": 1, "result": {}},
            {"jsonrpc": "2.0", "id": 2, "error": {"code": -1, "message": "no"}},
        ],
    ],
    ids=["note", "notes", "response", "responses"],
)
def test_a_batch_that_asks_for_nothing_is_accepted_without_a_body(peer: Peer, batch: Any) -> None:
    client = join(peer)
    answer = client.post(batch)
    if "method" in batch[0]:
        assert (answer.status, answer.body) == (202, b""), answer
    else:
        assert (answer.status, answer.body) == (202, b"") or answer.status >= 400, answer
    assert is_fine(client)


@clause("mcp-2025-03-26:transports.sending:message-or-batch")
@pytest.mark.parametrize("batch", [[], [1], ["ping"], [[]], [[{**PING, "id": 1}]], [None]], ids=str)
def test_an_array_that_holds_no_messages_is_refused(peer: Peer, batch: Any) -> None:
    client = join(peer)
    answer = client.post(batch)
    assert [each for each in said(answer) if "result" in each] == []
    assert answer.status >= 400 or all("error" in each for each in said(answer))
    assert is_fine(client)


@clause("mcp-2025-03-26:lifecycle.initialization:not-in-batch")
@pytest.mark.parametrize("more", [[], [{**PING, "id": 2}], [NOTE]], ids=["alone", "ping", "note"])
def test_a_handshake_in_a_batch_opens_no_session(peer: Peer, more: Any) -> None:
    client = peer.legacy()
    answer = client.post([client.message("initialize", client.handshake(), id=1), *more])
    assert answer.header("mcp-session-id") is None
    assert [each for each in responses(answer) if "result" in each and each["id"] == 1] == []
    assert refused(client.request("ping")) or not peer.sessionful
