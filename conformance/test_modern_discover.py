"""server/discover (2026-07-28)."""

from typing import Any

import pytest

from conformance.clauses import clause
from conformance.modern import META, TASKS, WITH_TASKS
from conformance.peer import Peer

METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "tools": {"tools/list": {}, "tools/call": {"name": "no_such_tool"}},
    "resources": {
        "resources/list": {},
        "resources/templates/list": {},
        "resources/read": {"uri": "test://no-such-resource"},
    },
    "prompts": {"prompts/list": {}, "prompts/get": {"name": "no_such_prompt"}},
    "completions": {"completion/complete": {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {}}},
}
TASK_METHODS = ("tasks/get", "tasks/update", "tasks/cancel")


@clause("mcp-2026-07-28:server/discover:capabilities", "mcp-2026-07-28:server/discover:instructions-text")
def test_discover_describes_the_server(peer: Peer) -> None:
    result = peer.modern().request("server/discover").result
    assert isinstance(result["capabilities"], dict)
    assert all(isinstance(value, dict) for value in result["capabilities"].values())
    assert isinstance(result.get("instructions", ""), str)


@clause("mcp-2026-07-28:server/discover:server-info")
def test_discover_names_the_server_in_its_metadata(peer: Peer) -> None:
    info = peer.modern().request("server/discover").result["_meta"][f"{META}serverInfo"]
    assert info["name"]
    assert info["version"]


@clause("mcp-2026-07-28:server/discover:capabilities-hold", "mcp-2026-07-28:server/discover:undeclared-unknown")
@pytest.mark.parametrize("capability", METHODS)
def test_methods_are_there_exactly_where_their_capability_is_declared(peer: Peer, capability: str) -> None:
    client = peer.modern()
    declared = capability in client.request("server/discover").result["capabilities"]
    for method, params in METHODS[capability].items():
        answer = client.request(method, params)
        if declared:
            assert answer.code != -32601, method
        else:
            assert (answer.status, answer.code) == (404, -32601), method


@clause("mcp-2026-07-28:server/discover:capabilities-hold", "mcp-2026-07-28:server/discover:undeclared-unknown")
def test_task_methods_are_there_exactly_where_the_extension_is_declared(peer: Peer) -> None:
    client = peer.modern(capabilities=WITH_TASKS)
    declared = TASKS in client.request("server/discover").result["capabilities"].get("extensions", {})
    for method in TASK_METHODS:
        answer = client.request(method, {"taskId": "x", "inputResponses": {}}, headers={"mcp-name": "x"})
        assert (answer.code == -32601) is not declared, method


@clause("mcp-2026-07-28:server/discover:capabilities-hold")
def test_a_capability_with_change_notifications_can_be_listened_to(peer: Peer) -> None:
    peer.needs("subscriptions")
    with peer.modern().open("subscriptions/listen", {"notifications": {}}) as stream:
        assert stream.status == 200


@clause("mcp-2026-07-28:server/discover:capabilities")
def test_discover_says_the_same_each_time_and_on_every_connection(peer: Peer) -> None:
    results = [peer.modern().request("server/discover").result for _ in range(3)]
    assert results[0] == results[1] == results[2]
