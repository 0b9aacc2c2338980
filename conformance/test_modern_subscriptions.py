"""Change notifications on a listen stream (2026-07-28, basic/patterns/subscriptions)."""

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Modern, NotApplicable, Silence, Stream
from conformance.modern import SUBSCRIPTION
from conformance.peer import Peer, listing
from conformance.serving import demo

CHANGED = {"tools": "notifications/tools/list_changed", "prompts": "notifications/prompts/list_changed"}
TRIGGER = {"tools": "test_trigger_tool_change", "prompts": "test_trigger_prompt_change"}
WATCHED = "test://watched-resource"
ALL = {
    "toolsListChanged": True,
    "promptsListChanged": True,
    "resourcesListChanged": True,
    "resourceSubscriptions": [WATCHED],
}
IDS = (0, 1, -5, "1", "", "listen-é")


def listen(peer: Peer, notifications: dict[str, Any], id_: int | str = 1) -> Stream:
    """Open a listen stream."""
    peer.needs("subscriptions")
    return peer.modern().open("subscriptions/listen", {"notifications": notifications}, id=id_)


def tag(message: dict[str, Any]) -> tuple[Any, type]:
    """The subscription that a notification names, with its type."""
    value = message["params"]["_meta"][SUBSCRIPTION]
    return value, type(value)


def supported(peer: Peer, kind: str) -> None:
    """Make the test not applicable where the server does not announce changes of a kind, or can't be made to change."""
    if not (peer.capabilities or {}).get(kind, {}).get("listChanged"):
        raise NotApplicable(f"the server does not announce changes of {kind}")
    peer.needs_tool(TRIGGER[kind])


def arrived(stream: Stream, seconds: float = 1.0) -> list[dict[str, Any]]:
    """Everything that comes until it is quiet."""
    found: list[dict[str, Any]] = []
    with suppress(Silence):
        found.extend(stream.messages(seconds))
    return found


@clause(
    "mcp-2026-07-28:basic/subscriptions:acknowledged-first",
    "mcp-2026-07-28:basic/subscriptions:acknowledgement-has-id",
    "mcp-2026-07-28:basic/subscriptions:id-keeps-type",
    "mcp-2026-07-28:basic/meta:subscription-id",
    "mcp-2026-07-28:basic/subscriptions:no-buffering",
)
@pytest.mark.parametrize("id_", IDS, ids=repr)
def test_the_first_message_acknowledges_and_names_the_request(peer: Peer, id_: int | str) -> None:
    with listen(peer, ALL, id_) as stream:
        assert (stream.header("x-accel-buffering") or "").lower() == "no"
        first = stream.message()
    assert first["method"] == "notifications/subscriptions/acknowledged"
    assert tag(first) == (id_, type(id_))


@clause(
    "mcp-2026-07-28:basic/subscriptions:acknowledged-subset",
    "mcp-2026-07-28:basic/subscriptions:unsupported-omitted",
)
@pytest.mark.parametrize("asked", [{}, {"toolsListChanged": True}, {"resourceSubscriptions": [WATCHED]}, ALL], ids=str)
def test_the_acknowledgement_lists_what_was_agreed_to(peer: Peer, asked: dict[str, Any]) -> None:
    capabilities = peer.modern().request("server/discover").result["capabilities"]
    with listen(peer, asked) as stream:
        agreed = stream.message()["params"]["notifications"]
    assert set(agreed) <= set(asked)
    for kind in ("tools", "prompts", "resources"):
        announces = capabilities.get(kind, {}).get("listChanged", False)
        field = f"{kind}ListChanged"
        assert agreed.get(field, False) is (announces and asked.get(field, False)), field
    assert set(agreed.get("resourceSubscriptions", [])) <= set(asked.get("resourceSubscriptions", []))
    if not capabilities.get("resources", {}).get("subscribe"):
        assert not agreed.get("resourceSubscriptions")


@clause("mcp-2026-07-28:basic/subscriptions:unsupported-omitted")
def test_kinds_that_the_server_does_not_know_are_left_out(peer: Peer) -> None:
    with listen(peer, {"noSuchThingChanged": True, "toolsListChanged": False}) as stream:
        assert stream.message()["params"]["notifications"].keys() <= {"toolsListChanged"}


@clause("mcp-2026-07-28:server/tools:list-changed-announced", "mcp-2026-07-28:basic/subscriptions:notifications-tagged")
@clause("mcp-2026-07-28:basic/transports/http/receiving:notifications-relate-to-request")
def test_a_change_of_the_tools_is_announced(peer: Peer) -> None:
    supported(peer, "tools")
    announced(peer, "tools")


@clause("mcp-2026-07-28:server/prompts:list-changed-announced")
@clause("mcp-2026-07-28:basic/subscriptions:notifications-tagged")
def test_a_change_of_the_prompts_is_announced(peer: Peer) -> None:
    supported(peer, "prompts")
    announced(peer, "prompts")


def announced(peer: Peer, kind: str) -> None:
    """Change a list and look for its notification."""
    with listen(peer, {f"{kind}ListChanged": True}, "mine") as stream:
        stream.message()
        assert peer.modern().call(TRIGGER[kind]).status == 200
        message = stream.message()
    assert message["method"] == CHANGED[kind]
    assert tag(message) == ("mine", str)


@clause(
    "mcp-2026-07-28:basic/subscriptions:only-requested-types",
    "mcp-2026-07-28:basic/subscriptions:absent-is-not-subscribed",
)
@pytest.mark.parametrize("asked", [{}, {"toolsListChanged": False}, {"promptsListChanged": True}], ids=str)
def test_what_was_not_asked_for_does_not_come(peer: Peer, asked: dict[str, Any]) -> None:
    supported(peer, "tools")
    with listen(peer, asked) as stream:
        stream.message()
        assert peer.modern().call(TRIGGER["tools"]).status == 200
        assert CHANGED["tools"] not in {message.get("method") for message in arrived(stream, 0.5)}


@clause("mcp-2026-07-28:basic/subscriptions:several-at-once")
def test_several_streams_are_tagged_each_with_its_own_id(peer: Peer) -> None:
    supported(peer, "tools")
    with listen(peer, {"toolsListChanged": True}, 1) as one, listen(peer, {"toolsListChanged": True}, "1") as other:
        one.message()
        other.message()
        peer.modern().call(TRIGGER["tools"])
        assert tag(one.message()) == (1, int)
        assert tag(other.message()) == ("1", str)


@clause("mcp-2026-07-28:basic/subscriptions:client-close-ends")
def test_a_client_that_closes_its_stream_leaves_the_server_well(peer: Peer) -> None:
    for _ in range(5):
        with listen(peer, ALL) as stream:
            stream.message()
    client = peer.modern()
    if TRIGGER["tools"] in {tool["name"] for tool in listing(client, "tools/list", "tools")}:
        assert client.call(TRIGGER["tools"]).status == 200
    with listen(peer, ALL) as stream:
        assert stream.message()["method"] == "notifications/subscriptions/acknowledged"


@clause(
    "mcp-2026-07-28:basic/subscriptions:no-request-notifications",
    "mcp-2026-07-28:server/logging:only-on-own-stream",
)
def test_progress_and_logs_of_requests_stay_off_the_listen_stream(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_logging")
    with listen(peer, ALL) as stream:
        stream.message()
        client = peer.modern()
        client.request("tools/call", {"name": "test_tool_with_logging"}, meta=client.meta(logLevel="debug"))
        client.request("tools/call", {"name": "test_tool_with_progress"}, meta=client.meta(progressToken=1))
        kinds = {message.get("method") for message in arrived(stream, 0.5)}
    assert not kinds & {"notifications/progress", "notifications/message"}


@clause("mcp-2026-07-28:basic/subscriptions:malformed-filter-refused")
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": None},
        {"notifications": []},
        {"notifications": "all"},
        {"notifications": {"toolsListChanged": "yes"}},
        {"notifications": {"resourceSubscriptions": WATCHED}},
        {"notifications": {"resourceSubscriptions": [5]}},
    ],
    ids=str,
)
def test_a_filter_of_another_form_is_invalid_params(peer: Peer, params: dict[str, object]) -> None:
    peer.needs("subscriptions")
    answer = peer.modern().request("subscriptions/listen", params)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/resources:updated-delivered")
def test_a_change_of_a_watched_resource_is_announced(peer: Peer) -> None:
    if not (peer.capabilities or {}).get("resources", {}).get("subscribe"):
        raise NotApplicable("the server does not announce changes of resources")
    tools = {tool["name"] for tool in listing(peer.modern(), "tools/list", "tools")}
    triggers = sorted(name for name in tools if name.startswith("test_trigger_resource"))
    with listen(peer, {"resourceSubscriptions": [WATCHED]}, 3) as stream:
        assert stream.message()["params"]["notifications"]["resourceSubscriptions"] == [WATCHED]
        for name in triggers:
            peer.modern().call(name)
        try:
            message = stream.message(8)
        except Silence:
            if triggers:
                raise
            raise NotApplicable(f"nothing makes {WATCHED} change") from None
    assert message["method"] == "notifications/resources/updated"
    assert message["params"]["uri"] == WATCHED
    assert tag(message) == (3, int)


@clause(
    "mcp-2026-07-28:basic/subscriptions:graceful-end",
    "mcp-2026-07-28:basic/subscriptions:graceful-end-has-id",
)
def test_a_server_that_stops_answers_the_listen_request(peer: Peer, tmp_path: Path) -> None:
    peer.needs("subscriptions")
    if peer.site.server is None:
        raise NotApplicable("the test stops a server of its own")
    with demo(tmp_path / "data", peer.site.mode) as server:
        client = Modern(server.url, server.sign_in().access_token, peer.revision, recorder=peer.recorder)
        with client.open("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="last") as stream:
            stream.message()
            server.process.send_signal(signal.SIGTERM)
            last = list(stream.messages())[-1]
    assert last["id"] == "last"
    assert last["result"]["resultType"] == "complete"
    assert last["result"]["_meta"][SUBSCRIPTION] == "last"


@clause("mcp-2026-07-28:basic/transports/http/receiving:keep-alive-comments")
def test_a_quiet_stream_is_kept_open_by_comments(peer: Peer) -> None:
    with listen(peer, {}) as stream:
        stream.message()
        event = stream.next(40)
    assert event is not None
    assert event.data is None
    assert event.comments
