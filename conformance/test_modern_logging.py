"""Log messages (2026-07-28, server/utilities/logging)."""

import pytest

from conformance.clauses import clause
from conformance.modern import LOG_LEVEL, call_something
from conformance.peer import Peer

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
TOOLS = ("test_tool_with_logging", "test_logging_tool")


def logged(peer: Peer, tool: str, level: str | None) -> tuple[list[dict[str, object]], list[str]]:
    """Call a tool that logs; give the params of its messages, and the kinds of all that came, in order."""
    peer.needs_tool(tool)
    client = peer.modern()
    meta = client.meta() | ({} if level is None else {LOG_LEVEL: level})
    answer = client.request("tools/call", {"name": tool}, meta=meta)
    assert "result" in answer.response, answer
    kinds = [message.get("method", "response") for message in answer.messages]
    return [m["params"] for m in answer.messages if m.get("method") == "notifications/message"], kinds


@clause("mcp-2026-07-28:server/logging:capability-declared", "mcp-2026-07-28:server/logging:before-the-response")
@clause("mcp-2026-07-28:server/logging:levels", "mcp-2026-07-28:server/logging:context-in-data")
@clause("mcp-2026-07-28:server/logging:logger-consistent")
def test_a_request_with_a_level_gets_messages_before_its_response(peer: Peer) -> None:
    messages, kinds = logged(peer, TOOLS[0], "debug")
    assert len(messages) == 3
    assert kinds == ["notifications/message"] * 3 + ["response"]
    for message in messages:
        assert message["level"] in LEVELS
        assert "data" in message
        assert isinstance(message.get("logger", ""), str)
    assert len({message.get("logger") for message in messages}) == 1


@clause("mcp-2026-07-28:server/logging:none-without-level")
@pytest.mark.parametrize("tool", TOOLS)
def test_a_request_without_a_level_gets_no_message(peer: Peer, tool: str) -> None:
    assert logged(peer, tool, None)[0] == []


@clause("mcp-2026-07-28:server/logging:at-or-above-level")
@pytest.mark.parametrize("level", LEVELS)
def test_no_message_is_below_the_level(peer: Peer, level: str) -> None:
    messages, _ = logged(peer, TOOLS[0], level)
    assert all(LEVELS.index(str(message["level"])) >= LEVELS.index(level) for message in messages)
    assert bool(messages) is (LEVELS.index(level) <= LEVELS.index("info"))


@clause("mcp-2026-07-28:server/logging:none-without-level")
def test_a_level_counts_for_its_own_request_alone(peer: Peer) -> None:
    assert logged(peer, TOOLS[0], "debug")[0]
    assert logged(peer, TOOLS[0], None)[0] == []


@clause("mcp-2026-07-28:server/logging:only-on-own-stream")
def test_messages_appear_on_the_stream_of_their_request_alone(peer: Peer) -> None:
    peer.needs_tool(TOOLS[0])
    client = peer.modern()
    meta = client.meta(logLevel="debug")
    with (
        client.open("tools/call", {"name": TOOLS[0]}, meta=meta) as loud,
        client.open("tools/call", {"name": "test_tool_with_progress"}, meta=client.meta(progressToken=1)) as other,
    ):
        kinds = [{message.get("method") for message in stream.messages()} for stream in (loud, other)]
    assert "notifications/message" in kinds[0]
    assert "notifications/message" not in kinds[1]


@clause("mcp-2026-07-28:server/logging:unknown-level-code")
@pytest.mark.parametrize("level", ["loud", "INFO", "", 5, ["info"]], ids=str)
def test_an_unknown_level_is_invalid_params(peer: Peer, level: object) -> None:
    client = peer.modern()
    answer = call_something(client, meta=client.meta() | {LOG_LEVEL: level})
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/logging:no-secrets")
def test_no_message_holds_the_access_token(peer: Peer) -> None:
    messages, _ = logged(peer, TOOLS[0], "debug")
    assert messages
    assert (peer.token or "Bearer") not in str(messages)
    assert "Bearer" not in str(messages)


@clause("mcp-2026-07-28:server/logging:deprecated")
def test_the_feature_is_left_out(peer: Peer) -> None:
    assert "logging" not in peer.modern().request("server/discover").result["capabilities"]
