"""Prompts (2026-07-28, server/prompts)."""

import base64
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.modern import connection
from conformance.peer import Peer, listing

SIMPLE, WITH_ARGUMENTS = "test_simple_prompt", "test_prompt_with_arguments"
EMBEDDED, IMAGE = "test_prompt_with_embedded_resource", "test_prompt_with_image"


def got(peer: Peer, name: str, **arguments: str) -> list[dict[str, Any]]:
    """The messages of a prompt."""
    peer.needs_prompt(name)
    result = peer.modern().request("prompts/get", {"name": name, "arguments": arguments}).result
    messages: list[dict[str, Any]] = result["messages"]
    return messages


@clause("mcp-2026-07-28:server/prompts:capability-declared", "mcp-2026-07-28:server/prompts:list-answered")
def test_a_server_with_prompts_declares_and_lists_them(peer: Peer) -> None:
    client = peer.modern()
    assert "prompts" in client.request("server/discover").result["capabilities"]
    names = [prompt["name"] for prompt in listing(client, "prompts/list", "prompts")]
    assert names
    assert len(names) == len(set(names))


@clause("mcp-2026-07-28:server/prompts:list-not-per-connection")
def test_the_list_of_prompts_is_the_same_on_every_connection(peer: Peer) -> None:
    client = peer.modern()
    first = client.request("prompts/list").result["prompts"]
    with connection(client) as same:
        for _ in range(2):
            assert same.request("prompts/list").result["prompts"] == first
            same.request("prompts/get", {"name": SIMPLE})


@clause("mcp-2026-07-28:server/prompts:list-varies-by-authorization", "own:modern:lists-stay-in-tenant")
def test_prompts_of_one_tenant_are_hidden_from_another(peer: Peer) -> None:
    peer.needs_prompt(SIMPLE)
    other = peer.modern(token=peer.site.token_of("carol"))
    answer = other.request("prompts/list")
    if answer.code != -32601:
        assert SIMPLE not in {prompt["name"] for prompt in answer.result["prompts"]}
    refused = other.request("prompts/get", {"name": SIMPLE})
    assert refused.code in {-32601, -32602}, refused


@clause("mcp-2026-07-28:server/prompts:messages-roles")
def test_a_prompt_gives_messages_with_roles(peer: Peer) -> None:
    messages = got(peer, SIMPLE)
    assert messages
    assert all(message["role"] in {"user", "assistant"} for message in messages)
    assert messages[0]["content"]["type"] == "text"
    assert messages[0]["content"]["text"]


@clause("mcp-2026-07-28:server/prompts:arguments-substituted")
@pytest.mark.parametrize(("one", "two"), [("hello", "world"), ("", "x"), ("{arg2}", "%s"), ("é語🙂", "a'b\"c")])
def test_arguments_end_up_in_the_messages(peer: Peer, one: str, two: str) -> None:
    text = got(peer, WITH_ARGUMENTS, arg1=one, arg2=two)[0]["content"]["text"]
    assert one in text
    assert two in text
    if one == "{arg2}":
        assert text.count("%s") == 1, "one argument was put into another"


@clause("mcp-2026-07-28:server/prompts:image-base64")
def test_an_image_is_base64_with_its_type(peer: Peer) -> None:
    (image,) = [m["content"] for m in got(peer, IMAGE) if m["content"]["type"] == "image"]
    assert image["mimeType"].startswith("image/")
    assert base64.b64decode(image["data"], validate=True)


@clause("mcp-2026-07-28:server/prompts:embedded-resource-complete")
@pytest.mark.parametrize("uri", ["test://static-text", "test://example-resource"])
def test_an_embedded_resource_is_complete(peer: Peer, uri: str) -> None:
    found = [
        m["content"]["resource"] for m in got(peer, EMBEDDED, resourceUri=uri) if m["content"]["type"] == "resource"
    ]
    assert len(found) == 1
    assert found[0]["uri"] == uri
    assert found[0]["mimeType"]
    assert ("text" in found[0]) != ("blob" in found[0])


@clause("mcp-2026-07-28:server/prompts:unknown-name-code")
@pytest.mark.parametrize("name", ["no_such_prompt", SIMPLE.upper(), "", SIMPLE + " "])
def test_an_unknown_prompt_is_invalid_params(peer: Peer, name: str) -> None:
    answer = peer.modern().request("prompts/get", {"name": name})
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/prompts:arguments-validated")
@pytest.mark.parametrize("params", [{}, {"name": 5}, {"name": None}, {"arguments": {}}], ids=str)
def test_a_request_without_a_proper_name_is_refused(peer: Peer, params: dict[str, object]) -> None:
    answer = peer.modern().request("prompts/get", params)
    # Without a name there is no header for it either; which of the two is said first, no text tells.
    assert answer.status == 400, answer
    assert answer.code in {-32602, -32020}, answer


@clause("mcp-2026-07-28:server/prompts:missing-argument-code")
@pytest.mark.parametrize("arguments", [None, {}, {"arg1": "x"}, {"arg2": "x"}], ids=str)
def test_a_missing_argument_is_invalid_params(peer: Peer, arguments: dict[str, str] | None) -> None:
    peer.needs_prompt(WITH_ARGUMENTS)
    params = {"name": WITH_ARGUMENTS} | ({} if arguments is None else {"arguments": arguments})
    answer = peer.modern().request("prompts/get", params)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/prompts:arguments-validated")
@pytest.mark.parametrize("arguments", [[], "text", {"arg1": 1, "arg2": "x"}, {"arg1": None, "arg2": "x"}], ids=str)
def test_arguments_that_are_no_texts_are_invalid_params(peer: Peer, arguments: object) -> None:
    peer.needs_prompt(WITH_ARGUMENTS)
    answer = peer.modern().request("prompts/get", {"name": WITH_ARGUMENTS, "arguments": arguments})
    assert (answer.status, answer.code) == (400, -32602), answer
