"""The handshake of the revisions up to 2025-11-25, and what was agreed in it."""

import contextlib
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import CLIENT_INFO, Silence
from conformance.legacy import (
    ARGUMENTS,
    ELICITING,
    EVERYTHING,
    SAMPLING,
    blocks_of,
    is_fine,
    is_request,
    join,
    later_members,
    listed_all,
    refused,
    simple_results,
)
from conformance.peer import Peer
from conformance.schemas import LEGACY, MODERN

UNKNOWN = ("1999-01-01", "2099-12-31", "latest", "", *MODERN)
LISTS = {
    "tools": ("tools/list", "tools", "Tool"),
    "resources": ("resources/list", "resources", "Resource"),
    "prompts": ("prompts/list", "prompts", "Prompt"),
}


@clause("mcp-2025-11-25:basic:base-and-lifecycle")
def test_after_a_handshake_ordinary_requests_are_served(peer: Peer) -> None:
    client = peer.legacy()
    assert client.initialize().status == 200
    for _ in range(3):
        assert is_fine(client)


@clause("mcp-2025-11-25:lifecycle.initialization:answer", "mcp-2025-11-25:basic.schema:initialize")
def test_the_handshake_names_revision_capabilities_and_implementation(peer: Peer) -> None:
    client = peer.legacy(capabilities=EVERYTHING)
    answer = client.initialize(confirm=False)
    assert answer.status == 200, answer
    assert isinstance(answer.result["protocolVersion"], str)
    assert isinstance(answer.result["capabilities"], dict)
    assert all(isinstance(answer.result["serverInfo"][name], str) for name in ("name", "version"))
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:lifecycle.version:same")
def test_a_revision_that_is_spoken_is_agreed_to_whatever_others_agreed_to(peer: Peer) -> None:
    others = [peer.legacy(revision=revision) for revision in LEGACY]
    for other in others:
        other.initialize()
    client = peer.legacy()
    assert client.initialize().result["protocolVersion"] == peer.revision
    assert client.initialize(confirm=False).result["protocolVersion"] == peer.revision


@clause("mcp-2025-11-25:lifecycle.version:other")
@pytest.mark.parametrize("wanted", UNKNOWN)
def test_for_a_revision_that_no_handshake_leads_to_another_is_offered_and_served(peer: Peer, wanted: str) -> None:
    client = peer.legacy()
    offered = client.initialize(wanted).result["protocolVersion"]
    assert offered != wanted
    assert is_fine(client)
    again = peer.legacy()
    assert again.initialize(offered).result["protocolVersion"] == offered


@clause("mcp-2025-11-25:lifecycle.version:newest")
def test_the_revision_that_is_offered_is_the_newest_that_is_agreed_to(peer: Peer) -> None:
    def answer(wanted: str) -> Any:
        return peer.legacy().initialize(wanted, confirm=False).result["protocolVersion"]

    agreed = [revision for revision in LEGACY if answer(revision) == revision]
    assert answer(UNKNOWN[0]) == max(agreed)
    assert answer(UNKNOWN[1]) == max(agreed)


@clause("mcp-2025-11-25:lifecycle.initialization:first")
@pytest.mark.parametrize("method", ["tools/list", "tools/call", "resources/list", "prompts/list", "logging/setLevel"])
def test_without_a_handshake_nothing_is_served(peer: Peer, method: str) -> None:
    stranger = peer.legacy()
    answer = stranger.request(method, {"name": "test_simple_text", "level": "debug"})
    assert refused(answer), answer
    assert answer.status >= 400, answer


@clause("mcp-2025-11-25:lifecycle.initialization:server-waits")
@pytest.mark.parametrize("tool", [SAMPLING, ELICITING])
def test_before_the_client_says_that_it_is_ready_the_server_asks_nothing_but_pings(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    client = peer.legacy(capabilities=EVERYTHING)
    client.initialize(confirm=False)
    with contextlib.suppress(Silence):
        client.call(tool, ARGUMENTS[tool], timeout=1.0)
    assert [each for each in peer.recorder.messages if is_request(each) and each["method"] != "ping"] == []


@clause("mcp-2025-11-25:lifecycle.errors:prepared")
@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"capabilities": {}, "clientInfo": CLIENT_INFO},
        {"protocolVersion": "2025-11-25", "clientInfo": CLIENT_INFO},
        {"protocolVersion": 20251125, "capabilities": {}, "clientInfo": CLIENT_INFO},
        {"protocolVersion": None, "capabilities": {}, "clientInfo": CLIENT_INFO},
        {"protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": CLIENT_INFO},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": "conformance"},
    ],
    ids=str,
)
def test_a_handshake_that_can_not_be_understood_is_answered_with_an_error(peer: Peer, params: Any) -> None:
    client = peer.legacy()
    answer = client.request("initialize", params)
    assert refused(answer), answer
    assert answer.header("mcp-session-id") is None, "a handshake that failed opens no session"
    assert client.initialize().status == 200


@clause("mcp-2025-11-25:lifecycle.operation:agreed-version", "mcp-2025-03-26:lifecycle.operation:should-agreed-version")
def test_the_handshake_holds_nothing_of_later_revisions(peer: Peer) -> None:
    result = join(peer).initialized
    later = later_members(peer.revision, "InitializeResult", result)
    later += later_members(peer.revision, "Implementation", result["serverInfo"])
    later += later_members(peer.revision, "ServerCapabilities", result["capabilities"])
    assert later == []


@clause("mcp-2025-11-25:lifecycle.operation:agreed-version", "mcp-2025-03-26:lifecycle.operation:should-agreed-version")
@pytest.mark.parametrize("feature", LISTS)
def test_lists_hold_nothing_of_later_revisions(peer: Peer, feature: str) -> None:
    peer.needs(feature)
    method, member, part = LISTS[feature]
    items = listed_all(join(peer), method, member)
    assert items
    assert [later for item in items for later in later_members(peer.revision, part, item)] == []


@clause("mcp-2025-11-25:lifecycle.operation:agreed-version", "mcp-2025-03-26:lifecycle.operation:should-agreed-version")
def test_results_of_calls_hold_nothing_of_later_revisions(peer: Peer) -> None:
    peer.needs_tool("test_simple_text")
    results = simple_results(join(peer))
    later = [name for result in results.values() for name in later_members(peer.revision, "CallToolResult", result)]
    later += [name for part, block in blocks_of(results) for name in later_members(peer.revision, part, block)]
    assert later == []


@clause(
    "mcp-2025-11-25:lifecycle.operation:agreed-capabilities",
    "mcp-2025-03-26:lifecycle.operation:should-agreed-capabilities",
)
@pytest.mark.parametrize(
    ("tool", "declared"),
    [
        (SAMPLING, {}),
        (SAMPLING, {"elicitation": {}, "roots": {}}),
        (ELICITING, {}),
        (ELICITING, {"sampling": {}, "roots": {}}),
    ],
    ids=str,
)
def test_a_client_is_asked_for_nothing_that_it_did_not_declare(peer: Peer, tool: str, declared: Any) -> None:
    peer.needs_tool(tool)
    client = join(peer, declared)
    answer = client.call(tool, ARGUMENTS[tool], timeout=3.0)
    assert [each for each in answer.messages if is_request(each)] == []
    assert answer.response, "the call must end all the same"
