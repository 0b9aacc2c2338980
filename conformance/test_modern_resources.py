"""Resources (2026-07-28, server/resources)."""

import base64
import re
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest

from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.modern import connection, lists
from conformance.peer import Peer, listing

TEXT, BINARY, TEMPLATE = "test://static-text", "test://static-binary", "test://template/{id}/data"
# RFC 3986: a scheme, a colon, and only characters that an address may have.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")


def read(peer: Peer, uri: str) -> Any:
    """The contents of a resource."""
    return peer.modern().request("resources/read", {"uri": uri}).result["contents"]


@clause("mcp-2026-07-28:server/resources:capability-declared", "mcp-2026-07-28:server/resources:list-answered")
@clause("mcp-2026-07-28:server/resources:definition", "mcp-2026-07-28:server/resources:custom-schemes-rfc3986")
@clause("mcp-2026-07-28:server/resources:https-only-if-fetchable")
def test_resources_are_listed_by_address_and_name(peer: Peer) -> None:
    found = listing(peer.modern(), "resources/list", "resources")
    assert {TEXT, BINARY} <= {item["uri"] for item in found}
    for item in found:
        assert ADDRESS.fullmatch(item["uri"]), item
        assert not item["uri"].startswith(("http://", "https://")), "the fixtures can't be fetched from the web"
        assert item["name"], item


@clause("mcp-2026-07-28:server/resources:list-not-per-connection")
def test_the_list_of_resources_is_the_same_on_every_connection(peer: Peer) -> None:
    client = peer.modern()
    for method, member in lists(peer).values():
        first = client.request(method).result[member]
        with connection(client) as same:
            for _ in range(2):
                assert same.request(method).result[member] == first
                same.request("resources/read", {"uri": TEXT})


@clause("mcp-2026-07-28:server/resources:list-varies-by-authorization", "own:modern:lists-stay-in-tenant")
@clause("mcp-2026-07-28:server/resources:access-controlled")
def test_resources_of_one_tenant_are_hidden_from_another(peer: Peer) -> None:
    peer.needs_resource(TEXT)
    other = peer.modern(token=peer.site.token_of("carol"))
    answer = other.request("resources/list")
    if answer.code != -32601:
        assert TEXT not in {item["uri"] for item in answer.result["resources"]}
    refused = other.request("resources/read", {"uri": TEXT})
    assert refused.code in {-32601, -32602}, refused


@clause("mcp-2026-07-28:server/resources:text-content")
def test_text_is_read(peer: Peer) -> None:
    peer.needs_resource(TEXT)
    (content,) = read(peer, TEXT)
    assert content["uri"] == TEXT
    assert content["text"]
    assert "blob" not in content


@clause("mcp-2026-07-28:server/resources:binary-encoded")
def test_bytes_are_read_in_base64(peer: Peer) -> None:
    listed = peer.needs_resource(BINARY)
    (content,) = read(peer, BINARY)
    assert content["uri"] == BINARY
    assert base64.b64decode(content["blob"], validate=True).startswith(b"\x89PNG")
    assert content["mimeType"] == listed.get("mimeType", content["mimeType"])
    assert "text" not in content


@clause("mcp-2026-07-28:server/resources:templates-listed")
def test_templates_are_listed(peer: Peer) -> None:
    found = listing(peer.modern(), "resources/templates/list", "resourceTemplates")
    assert TEMPLATE in {item["uriTemplate"] for item in found}
    assert all(item["name"] for item in found)


@clause("mcp-2026-07-28:server/resources:template-read")
@pytest.mark.parametrize("id_", ["123", "a-b_c.d~e", "0"])
def test_an_address_of_a_template_is_read(peer: Peer, id_: str) -> None:
    uri = TEMPLATE.replace("{id}", id_)
    (content,) = read(peer, uri)
    assert content["uri"] == uri
    assert id_ in content["text"]


@clause("mcp-2026-07-28:server/resources:not-found-code", "mcp-2026-07-28:server/resources:not-empty-for-missing")
@clause("mcp-2026-07-28:server/resources:not-found-uri", "mcp-2026-07-28:basic/error-codes:no-resource-code-of-old")
@pytest.mark.parametrize(
    "uri",
    [
        "test://no-such-resource",
        "test://static-text/more",
        "test://static-tex",
        "test://template//data",
        "file:///etc/passwd",
    ],
)
def test_an_unknown_address_is_an_error_and_no_empty_list(peer: Peer, uri: str) -> None:
    answer = peer.modern().request("resources/read", {"uri": uri})
    assert (answer.status, answer.code) == (400, -32602), answer
    assert answer.error.get("data", {}).get("uri", uri) == uri


@clause("mcp-2026-07-28:server/resources:uris-validated")
@pytest.mark.parametrize(
    "params",
    [{}, {"uri": None}, {"uri": 5}, {"uri": []}, {"uri": ""}, {"uri": "no address"}, {"uri": "test://a b"}],
    ids=str,
)
def test_what_is_no_address_is_refused(peer: Peer, params: dict[str, object]) -> None:
    answer = peer.modern().request("resources/read", params)
    # Without an address there is no header for it either; which of the two is said first, no text tells.
    assert answer.status == 400, answer
    assert answer.code in {-32602, -32020}, answer


@clause("mcp-2026-07-28:server/resources:uris-validated")
@pytest.mark.parametrize("id_", ["../static-text", "..%2f..%2fstatic-text", "a/b", "%00", "a?b=c", "a#b", "{id}"])
def test_a_template_takes_one_segment_and_leads_nowhere_else(peer: Peer, id_: str) -> None:
    answer = peer.modern().request("resources/read", {"uri": TEMPLATE.replace("{id}", id_)})
    if "result" in answer.response:
        assert answer.result["contents"], answer
        assert "static text resource" not in str(answer.result["contents"]), answer
    else:
        assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/resources:template-read")
def test_an_escaped_value_is_one_value(peer: Peer) -> None:
    answer = peer.modern().request("resources/read", {"uri": TEMPLATE.replace("{id}", quote("ü x", safe=""))})
    assert answer.code in {None, -32602}, answer
    if answer.code is None:
        assert answer.result["contents"]


@clause("mcp-2026-07-28:server/resources:annotations-form")
def test_annotations_are_of_the_form(peer: Peer) -> None:
    items = [item for name in ("resources", "templates") for item in listing(peer.modern(), *lists(peer)[name])]
    found = [item["annotations"] for item in items if "annotations" in item]
    if not found:
        raise NotApplicable("no resource has annotations")
    for annotations in found:
        assert set(annotations.get("audience", [])) <= {"user", "assistant"}
        assert 0 <= annotations.get("priority", 0) <= 1
        if "lastModified" in annotations:
            datetime.fromisoformat(annotations["lastModified"])
