"""Cancellation (2026-07-28, basic/patterns/cancellation and Streamable HTTP)."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Modern, NotApplicable
from conformance.modern import REVISION
from conformance.peer import Peer
from conformance.serving import until

LONG_S = 30
SLOW = ("slow_compute", {"seconds": LONG_S, "label": "cancelled"})


def start_slow(peer: Peer) -> tuple[Modern, Any]:
    """Begin a call that takes long, and give the connection that waits for it."""
    peer.needs_tool(SLOW[0])
    client = peer.modern()
    message = client.message("tools/call", {"name": SLOW[0], "arguments": SLOW[1]})
    body = json.dumps(message).encode()
    lines = {
        "host": client.url.split("/")[2],
        "authorization": f"Bearer {client.token}",
        **client.usual_headers(message),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    wire = client.raw(f"POST /mcp HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return client, wire


def outcomes(peer: Peer, tool: str) -> list[str]:
    """What the audit log says became of the calls of a tool."""
    if peer.site.server is None:
        raise NotApplicable("the test reads the audit log of a server of its own")
    command = [sys.executable, "-m", "tenantry", "audit", "list", "--json", "--tool", tool]
    done = subprocess.run([*command, "--data", str(peer.site.server.data)], capture_output=True, text=True, check=True)
    return [json.loads(line)["outcome"] for line in done.stdout.splitlines()]


@clause(
    "mcp-2026-07-28:basic/transports/http/cancellation:disconnect-cancels",
    "mcp-2026-07-28:basic/transports/http/cancellation:work-stops",
    "mcp-2026-07-28:basic/cancellation:disconnect-is-cancellation",
)
def test_a_client_that_leaves_has_cancelled_its_request(peer: Peer) -> None:
    before = outcomes(peer, SLOW[0]).count("cancelled")
    _, wire = start_slow(peer)
    time.sleep(0.3)  # the call must have begun; nothing on the wire tells when it has
    wire.close()
    left = time.monotonic()
    assert until(lambda: outcomes(peer, SLOW[0]).count("cancelled") == before + 1, seconds=8)
    assert time.monotonic() - left < LONG_S / 2


@clause("mcp-2026-07-28:basic/cancellation:other-requests-untouched")
def test_closing_one_stream_leaves_the_others_running(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_progress")
    client = peer.modern()
    params = {"name": "test_tool_with_progress"}
    # One id for both: what tells them apart is the stream and nothing else.
    one = client.open("tools/call", params, id=1, meta=client.meta(progressToken="same"))
    with client.open("tools/call", params, id=1, meta=client.meta(progressToken="same")) as other:
        one.message()
        one.close()
        assert "result" in list(other.messages())[-1]


@clause("mcp-2026-07-28:basic/cancellation:not-sent-otherwise")
def test_the_server_cancels_nothing_of_ours(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_progress")
    client = peer.modern()
    for meta in (client.meta(progressToken="p"), client.meta(logLevel="debug"), client.meta()):
        answer = client.request("tools/call", {"name": "test_tool_with_progress"}, meta=meta)
        assert "notifications/cancelled" not in {message.get("method") for message in answer.messages}


@clause(
    "mcp-2026-07-28:basic/cancellation:unknown-request-ignored",
    "mcp-2026-07-28:basic/cancellation:completed-ignored",
)
@pytest.mark.parametrize("id_", [404, "404", 1, "", 0])
def test_a_cancellation_of_what_is_not_open_changes_nothing(peer: Peer, id_: int | str) -> None:
    client = peer.modern()
    assert client.request("tools/list", id=id_).status == 200
    answer = client.notify("notifications/cancelled", {"requestId": id_, "reason": "too late"})
    assert (answer.status, answer.messages) == (202, []), answer
    assert client.request("tools/list", id=id_).status == 200


@clause("mcp-2026-07-28:basic/cancellation:malformed-ignored")
@pytest.mark.parametrize(
    "params", [{}, {"requestId": None}, {"requestId": {}}, {"requestId": [1]}, {"reason": 5}], ids=str
)
def test_a_malformed_cancellation_harms_nothing(peer: Peer, params: dict[str, object]) -> None:
    client = peer.modern()
    answer = client.notify("notifications/cancelled", params)
    assert answer.status < 500, answer
    assert not any("result" in message or "id" in message for message in answer.messages)
    assert client.request("tools/list").status == 200


@clause("mcp-2026-07-28:basic/cancellation:unknown-request-ignored")
def test_one_client_can_not_cancel_the_request_of_another(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_progress")
    client = peer.modern()
    with client.open(
        "tools/call", {"name": "test_tool_with_progress"}, id=77, meta=client.meta(progressToken="p")
    ) as stream:
        peer.modern().notify("notifications/cancelled", {"requestId": 77})
        assert "result" in list(stream.messages())[-1]


@clause("mcp-2026-07-28:basic/cancellation:races-handled")
@pytest.mark.parametrize("delay_ms", [0, 1, 3, 10, 60])
def test_a_client_may_leave_at_any_moment(peer: Peer, delay_ms: int) -> None:
    client = peer.modern()
    message = client.message("tools/list")
    body = json.dumps(message).encode()
    lines = {
        "host": client.url.split("/")[2],
        "authorization": f"Bearer {client.token}",
        **client.usual_headers(message),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    for length in (None, len(body) // 2):
        sent = body if length is None else body[:length]
        wire = client.raw(f"POST /mcp HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + sent)
        time.sleep(delay_ms / 1000)
        wire.close()
    assert client.request("tools/list").status == 200
    assert client.revision == REVISION
