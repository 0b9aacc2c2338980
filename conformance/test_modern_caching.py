"""Caching hints and pages (2026-07-28, server/utilities/caching and pagination)."""

from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Modern, NotApplicable
from conformance.modern import LISTS, lists
from conformance.peer import Peer


def has_hints(result: dict[str, Any]) -> bool:
    """Whether a result says how long and for whom it may be kept."""
    return (
        type(result.get("ttlMs")) is int and result["ttlMs"] >= 0 and result.get("cacheScope") in {"public", "private"}
    )


def pages(client: Modern, method: str) -> list[dict[str, Any]]:
    """Every page of a list."""
    found = [client.request(method).result]
    while "nextCursor" in found[-1]:
        found.append(client.request(method, {"cursor": found[-1]["nextCursor"]}).result)
    return found


@clause("mcp-2026-07-28:server/caching:hints-on-discover")
@clause("mcp-2026-07-28:server/caching:ttl-not-negative", "mcp-2026-07-28:server/caching:scope-of-two")
def test_discover_has_hints(peer: Peer) -> None:
    assert has_hints(peer.modern().request("server/discover").result)


@clause("mcp-2026-07-28:server/caching:hints-on-tools-list")
def test_the_list_of_tools_has_hints(peer: Peer) -> None:
    peer.needs("tools")
    assert all(has_hints(page) for page in pages(peer.modern(), "tools/list"))


@clause("mcp-2026-07-28:server/caching:hints-on-prompts-list")
def test_the_list_of_prompts_has_hints(peer: Peer) -> None:
    peer.needs("prompts")
    assert all(has_hints(page) for page in pages(peer.modern(), "prompts/list"))


@clause("mcp-2026-07-28:server/caching:hints-on-resources-list")
def test_the_list_of_resources_has_hints(peer: Peer) -> None:
    peer.needs("resources")
    assert all(has_hints(page) for page in pages(peer.modern(), "resources/list"))


@clause("mcp-2026-07-28:server/caching:hints-on-templates-list")
def test_the_list_of_templates_has_hints(peer: Peer) -> None:
    peer.needs("resources")
    assert all(has_hints(page) for page in pages(peer.modern(), "resources/templates/list"))


@clause("mcp-2026-07-28:server/caching:hints-on-resources-read")
@pytest.mark.parametrize("uri", ["test://static-text", "test://static-binary", "test://template/123/data"])
def test_a_resource_has_hints(peer: Peer, uri: str) -> None:
    peer.needs_resource("test://static-text")
    assert has_hints(peer.modern().request("resources/read", {"uri": uri}).result)


@clause("mcp-2026-07-28:server/caching:personal-is-private")
def test_a_list_that_differs_by_caller_is_private(peer: Peer) -> None:
    mine, other = peer.modern(), peer.modern(token=peer.site.token_of("carol"))
    differing = 0
    for method, member in lists(peer).values():
        one, two = mine.request(method), other.request(method)
        if two.code is None and one.result[member] == two.result[member]:
            continue
        differing += 1
        assert one.result["cacheScope"] == "private", method
        assert two.code is not None or two.result["cacheScope"] == "private", method
    assert differing, "carol is of another tenant, so at least the tools must differ"


@clause("mcp-2026-07-28:server/caching:scope-same-on-all-pages")
def test_all_pages_have_one_scope(peer: Peer) -> None:
    for method, _ in lists(peer).values():
        assert len({page["cacheScope"] for page in pages(peer.modern(), method)}) == 1, method


@clause("mcp-2026-07-28:server/pagination:whole-list-once")
def test_the_pages_together_hold_each_entry_once(peer: Peer) -> None:
    keys = {"tools": "name", "prompts": "name", "resources": "uri", "templates": "uriTemplate"}
    for name, (method, member) in lists(peer).items():
        found = [item[keys[name]] for page in pages(peer.modern(), method) for item in page[member]]
        assert len(found) == len(set(found)), method


@clause("mcp-2026-07-28:server/pagination:cursor-opaque-text", "mcp-2026-07-28:server/pagination:cursors-stable")
def test_a_cursor_gives_the_same_page_each_time(peer: Peer) -> None:
    client = peer.modern()
    found = [(method, page["nextCursor"]) for method, _ in lists(peer).values() for page in pages(client, method)[:-1]]
    if not found:
        raise NotApplicable("every list fits on one page")
    for method, cursor in found:
        assert isinstance(cursor, str), method
        once, again = (client.request(method, {"cursor": cursor}).result for _ in range(2))
        assert once == again, method


@clause("mcp-2026-07-28:server/pagination:invalid-cursor-code")
@pytest.mark.parametrize("cursor", ["nonsense", "", "é", "AAAA", "x" * 2000, 5, [], {"a": 1}], ids=lambda c: str(c)[:8])
@pytest.mark.parametrize("name", LISTS)
def test_a_cursor_that_the_server_did_not_make_is_invalid_params(peer: Peer, name: str, cursor: object) -> None:
    if name not in lists(peer):
        raise NotApplicable(f"the server has no {name}")
    answer = peer.modern().request(LISTS[name][0], {"cursor": cursor})
    assert (answer.status, answer.code) == (400, -32602), answer
