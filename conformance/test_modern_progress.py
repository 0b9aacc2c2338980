"""Progress (2026-07-28, basic/patterns/progress)."""

from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Answer
from conformance.modern import call_something, lists
from conformance.peer import Peer

TOOL = "test_tool_with_progress"


def called(peer: Peer, **meta: Any) -> Answer:
    """Call the tool that reports progress."""
    peer.needs_tool(TOOL)
    client = peer.modern()
    return client.request("tools/call", {"name": TOOL}, meta=client.meta() | meta)


def progress(answer: Answer) -> list[dict[str, Any]]:
    """The params of the progress notifications of an answer."""
    return [m["params"] for m in answer.messages if m.get("method") == "notifications/progress"]


@clause("mcp-2026-07-28:basic/progress:token-type", "mcp-2026-07-28:basic/progress:only-given-tokens")
@pytest.mark.parametrize("token", ["p", "", "0", 0, 1, -1, 2**53 - 1, "é語"], ids=repr)
def test_progress_names_the_token_of_the_request_with_its_type(peer: Peer, token: int | str) -> None:
    found = progress(called(peer, progressToken=token))
    assert len(found) == 3
    assert {(params["progressToken"], type(params["progressToken"])) for params in found} == {(token, type(token))}


@clause("mcp-2026-07-28:basic/progress:increases", "mcp-2026-07-28:basic/progress:numbers-may-be-fractions")
@clause("mcp-2026-07-28:basic/progress:message-readable")
def test_progress_rises(peer: Peer) -> None:
    found = progress(called(peer, progressToken="p"))
    values = [params["progress"] for params in found]
    assert values == sorted(set(values)), values
    assert all(isinstance(params.get("total", 0), int | float) for params in found)
    assert all(isinstance(params.get("message", ""), str) for params in found)


@clause("mcp-2026-07-28:basic/progress:none-without-token", "mcp-2026-07-28:basic/progress:may-be-omitted")
def test_without_a_token_there_is_no_progress(peer: Peer) -> None:
    answer = called(peer)
    assert progress(answer) == []
    assert "result" in answer.response


@clause("mcp-2026-07-28:basic/progress:stops-after-completion")
def test_no_progress_follows_the_response(peer: Peer) -> None:
    answer = called(peer, progressToken="p")
    assert "method" not in answer.messages[-1]
    assert all("method" in message for message in answer.messages[:-1])


@clause("mcp-2026-07-28:basic/progress:token-invalid-refused")
@pytest.mark.parametrize("token", [None, True, 1.5, [], {"a": 1}], ids=str)
def test_a_token_of_another_type_is_never_repeated(peer: Peer, token: object) -> None:
    answer = called(peer, progressToken=token)
    assert progress(answer) == []
    assert answer.code in {None, -32602}, answer


@clause("mcp-2026-07-28:basic/progress:may-be-omitted")
def test_a_token_does_no_harm_where_nothing_is_reported(peer: Peer) -> None:
    client = peer.modern()
    for method, _ in lists(peer).values():
        assert client.request(method, meta=client.meta(progressToken="p")).status == 200, method
    assert call_something(client, meta=client.meta(progressToken="p")).status == 200
