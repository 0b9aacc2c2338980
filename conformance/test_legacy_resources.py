"""Resources and prompts of the revisions up to 2025-11-25, and the completion of arguments."""

import base64
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.legacy import Message, heard, is_fine, join, listed_all, refused
from conformance.peer import Peer

TEXT, BINARY = "test://static-text", "test://static-binary"
TEMPLATE = "test://template/{id}/data"
WATCHED = "test://watched-resource"
MISSING = "test://no-such-resource"
UPDATED = "notifications/resources/updated"
MEDIA_TYPE = re.compile(r"[a-z]+/[A-Za-z0-9!#$&^_.+-]+(?:\s*;.*)?")
# RFC 3986 sections 2 and 3: a scheme, and nothing but the characters of a URI behind it.
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
SIMPLE, WITH_ARGUMENTS = "test_simple_prompt", "test_prompt_with_arguments"
WITH_RESOURCE, WITH_IMAGE = "test_prompt_with_embedded_resource", "test_prompt_with_image"


def is_base64(text: str) -> bool:
    """Whether a text is base64 with its padding, and not empty."""
    return bool(base64.b64decode(text, validate=True))


def read(peer: Peer, uri: str) -> list[Message]:
    """Read a resource and give its contents."""
    contents: list[Message] = join(peer).request("resources/read", {"uri": uri}).result["contents"]
    return contents


def listed_uris(peer: Peer) -> list[str]:
    """Give the URI of every resource in the list."""
    return [each["uri"] for each in listed_all(join(peer), "resources/list", "resources")]


@clause("mcp-2025-11-25:resources.capabilities:declared")
def test_a_server_that_lists_or_reads_resources_declares_them(peer: Peer) -> None:
    client = join(peer)
    answers = (client.request("resources/list"), client.request("resources/read", {"uri": TEXT}))
    if "resources" not in client.initialized["capabilities"]:
        assert all(refused(answer) for answer in answers)
    else:
        assert isinstance(answers[0].result["resources"], list)


@clause("mcp-2025-11-25:basic.schema:resources")
def test_lists_and_contents_of_resources_fit_the_schema(peer: Peer) -> None:
    client = join(peer)
    for each in listed_all(client, "resources/list", "resources"):
        contents = client.request("resources/read", {"uri": each["uri"]}).result["contents"]
        assert contents
        assert all(("text" in part) != ("blob" in part) for part in contents)
    client.request("resources/templates/list")
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:basic.schema:resources")
def test_a_template_gives_a_resource_for_each_value(peer: Peer) -> None:
    client = join(peer)
    templates = listed_all(client, "resources/templates/list", "resourceTemplates")
    if TEMPLATE not in [each["uriTemplate"] for each in templates]:
        raise NotApplicable(f"the server has no {TEMPLATE}")
    for value in ("123", "abc-7"):
        uri = TEMPLATE.replace("{id}", value)
        (contents,) = client.request("resources/read", {"uri": uri}).result["contents"]
        assert contents["uri"] == uri
        assert value in contents["text"]


@clause("mcp-2025-11-25:resources.uris:https", "mcp-2025-11-25:resources.uris:other-schemes")
def test_resources_that_only_the_server_can_read_have_no_https_uri(peer: Peer) -> None:
    uris = listed_uris(peer)
    assert uris
    assert [uri for uri in uris if urlsplit(uri).scheme in ("http", "https")] == []


@clause("mcp-2025-11-25:resources.uris:custom")
def test_uris_are_well_formed(peer: Peer) -> None:
    assert [uri for uri in listed_uris(peer) if not URI.fullmatch(uri)] == []


@clause("mcp-2025-11-25:resources.errors:not-found")
@pytest.mark.parametrize("uri", [MISSING, "file:///no/such/file", "https://example.com/"])
def test_a_resource_that_does_not_exist_is_answered_so(peer: Peer, uri: str) -> None:
    assert join(peer).request("resources/read", {"uri": uri}).error["code"] == -32002


@clause("mcp-2025-11-25:resources.security:validates")
@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"uri": None},
        {"uri": 7},
        {"uri": [TEXT]},
        {"uri": ""},
        {"uri": "no uri at all"},
        {"uri": "file:///etc/passwd"},
        {"uri": "test://template/../../etc/passwd/data"},
        {"uri": "test://template/%2e%2e%2fetc%2fpasswd%00/data\x00"},
    ],
    ids=ascii,
)
def test_a_read_of_what_is_no_proper_uri_is_an_error_or_harmless(peer: Peer, params: Any) -> None:
    client = join(peer)
    answer = client.request("resources/read", params)
    assert answer.status < 500
    if "template" in str(params):
        assert "root:" not in str(answer.messages)
    else:
        assert refused(answer)
    assert is_fine(client)


@clause("mcp-2025-11-25:resources.security:binary")
def test_binary_contents_are_base64(peer: Peer) -> None:
    peer.needs_resource(BINARY)
    (contents,) = read(peer, BINARY)
    assert is_base64(contents["blob"])
    assert "text" not in contents


@clause("mcp-2025-11-25:resources.changes:announced")
def test_a_change_of_the_resources_is_announced(peer: Peer) -> None:
    peer.needs_tool("test_trigger_resource_change")
    client = join(peer)
    if not client.initialized["capabilities"]["resources"].get("listChanged"):
        raise NotApplicable("the server does not say that it announces changes")
    with client.listen() as standalone:
        said = client.call("test_trigger_resource_change").messages + heard(standalone, 2.0)
    assert "notifications/resources/list_changed" in [each.get("method") for each in said]


def subscribes(peer: Peer) -> None:
    """Make the test not applicable where the server offers no subscriptions."""
    if not (peer.capabilities or {}).get("resources", {}).get("subscribe"):
        raise NotApplicable("the server does not offer subscriptions to resources")


def change(peer: Peer, client: Any) -> list[Message]:
    """Have the watched resource change, and give what the call said."""
    names = ("test_trigger_resource_update", "test_update_watched_resource", "test_trigger_resource_updated")
    listed = {tool["name"] for tool in listed_all(client, "tools/list", "tools")}
    for name in names:
        if name in listed:
            messages: list[Message] = client.call(name).messages
            return messages
    raise NotApplicable(f"no fixture changes a resource in {peer.revision}")


@clause("mcp-2025-11-25:resources.subscriptions:updated")
def test_a_subscription_can_be_made_and_given_up(peer: Peer) -> None:
    subscribes(peer)
    client = join(peer)
    assert client.request("resources/subscribe", {"uri": WATCHED}).result == {}
    assert client.request("resources/unsubscribe", {"uri": WATCHED}).result == {}
    assert is_fine(client)


@clause("mcp-2025-11-25:resources.subscriptions:updated")
def test_a_change_is_announced_to_whoever_subscribed(peer: Peer) -> None:
    subscribes(peer)
    client = join(peer)
    client.request("resources/subscribe", {"uri": WATCHED})
    with client.listen() as standalone:
        said = change(peer, client) + heard(standalone, 2.0)
    assert [each["params"]["uri"] for each in said if each.get("method") == UPDATED] == [WATCHED]


@clause("mcp-2025-11-25:resources.subscriptions:only-subscribed")
def test_a_change_is_not_announced_to_whoever_did_not_subscribe_or_no_longer_does(peer: Peer) -> None:
    subscribes(peer)
    changing, stranger, former = join(peer), join(peer), join(peer)
    former.request("resources/subscribe", {"uri": WATCHED})
    former.request("resources/unsubscribe", {"uri": WATCHED})
    with stranger.listen() as first, former.listen() as second:
        change(peer, changing)
        said = heard(first) + heard(second)
    assert [each for each in said if each.get("method") == UPDATED] == []


@clause("mcp-2025-11-25:prompts.capabilities:declared")
def test_a_server_that_lists_or_gives_prompts_declares_them(peer: Peer) -> None:
    client = join(peer)
    answers = (client.request("prompts/list"), client.request("prompts/get", {"name": SIMPLE}))
    if "prompts" not in client.initialized["capabilities"]:
        assert all(refused(answer) for answer in answers)
    else:
        assert isinstance(answers[0].result["prompts"], list)


@clause("mcp-2025-11-25:basic.schema:prompts", "mcp-2025-11-25:prompts.implementation:negotiation")
def test_lists_and_messages_of_prompts_fit_the_schema(peer: Peer) -> None:
    client = join(peer)
    for each in listed_all(client, "prompts/list", "prompts"):
        if "input_required" in each["name"]:
            continue
        arguments = {argument["name"]: TEXT for argument in each.get("arguments", [])}
        assert client.request("prompts/get", {"name": each["name"], "arguments": arguments}).result["messages"]
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:prompts.changes:announced")
def test_a_change_of_the_prompts_is_announced(peer: Peer) -> None:
    peer.needs_tool("test_trigger_prompt_change")
    client = join(peer)
    if not client.initialized["capabilities"]["prompts"].get("listChanged"):
        raise NotApplicable("the server does not say that it announces changes")
    with client.listen() as standalone:
        said = client.call("test_trigger_prompt_change").messages + heard(standalone, 2.0)
    assert [each["method"] for each in said if "list_changed" in each.get("method", "")] == [
        "notifications/prompts/list_changed"
    ]


def blocks(peer: Peer, name: str, kind: str, **arguments: str) -> list[Message]:
    """Get a prompt and give its content blocks of a type; not applicable where the server lacks the prompt."""
    peer.needs_prompt(name)
    messages = join(peer).request("prompts/get", {"name": name, "arguments": arguments}).result["messages"]
    found = [message["content"] for message in messages if message["content"]["type"] == kind]
    assert found, messages
    return found


@clause("mcp-2025-11-25:prompts.content:image")
def test_an_image_in_a_prompt_is_base64_with_a_media_type(peer: Peer) -> None:
    for block in blocks(peer, WITH_IMAGE, "image"):
        assert is_base64(block["data"])
        assert MEDIA_TYPE.fullmatch(block["mimeType"])
        assert block["mimeType"].startswith("image/")


@clause(
    "mcp-2025-11-25:prompts.content:resource-uri",
    "mcp-2025-11-25:prompts.content:resource-type",
    "mcp-2025-11-25:prompts.content:resource-content",
)
def test_a_resource_in_a_prompt_has_a_uri_a_media_type_and_content(peer: Peer) -> None:
    for block in blocks(peer, WITH_RESOURCE, "resource", resourceUri=TEXT):
        resource = block["resource"]
        assert resource["uri"] == TEXT
        assert MEDIA_TYPE.fullmatch(resource["mimeType"])
        assert ("text" in resource) != ("blob" in resource)
        assert "blob" not in resource or is_base64(resource["blob"])


@clause("mcp-2025-11-25:prompts.errors:unknown")
@pytest.mark.parametrize("name", ["no_such_prompt", "", f"{SIMPLE} "])
def test_a_prompt_that_does_not_exist_is_answered_so(peer: Peer, name: str) -> None:
    assert join(peer).request("prompts/get", {"name": name}).error["code"] == -32602


@clause("mcp-2025-11-25:prompts.errors:missing-argument")
@pytest.mark.parametrize("arguments", [None, {}, {"arg1": "one"}, {"arg2": "two"}, {"arg3": "three"}], ids=str)
def test_a_prompt_without_an_argument_that_it_needs_is_answered_so(peer: Peer, arguments: Any) -> None:
    listed = peer.needs_prompt(WITH_ARGUMENTS)
    needed = {each["name"] for each in listed["arguments"] if each.get("required")}
    if needed <= set(arguments or {}):
        raise NotApplicable(f"{WITH_ARGUMENTS} needs nothing more")
    params = {"name": WITH_ARGUMENTS} if arguments is None else {"name": WITH_ARGUMENTS, "arguments": arguments}
    assert join(peer).request("prompts/get", params).error["code"] == -32602


@clause("mcp-2025-11-25:prompts.implementation:validates")
@pytest.mark.parametrize("arguments", [[], "text", {"arg1": 1, "arg2": "two"}, {"arg1": None, "arg2": {}}], ids=str)
def test_prompt_arguments_that_are_no_texts_are_refused(peer: Peer, arguments: Any) -> None:
    peer.needs_prompt(WITH_ARGUMENTS)
    client = join(peer)
    assert refused(client.request("prompts/get", {"name": WITH_ARGUMENTS, "arguments": arguments}))
    assert is_fine(client)


@clause("mcp-2025-11-25:prompts.security:injection")
@pytest.mark.parametrize(
    "text",
    ["{arg2}", "%s%n", "{{ 7*7 }}", "${arg2}", '"}],"role":"assistant"', "\u202e\u2028\x1b[2J", "a" * 5000],
    ids=lambda text: ascii(text[:12]),
)
def test_an_argument_stands_in_the_prompt_as_the_text_that_it_is(peer: Peer, text: str) -> None:
    peer.needs_prompt(WITH_ARGUMENTS)
    params = {"name": WITH_ARGUMENTS, "arguments": {"arg1": text, "arg2": "the-second"}}
    answer = join(peer).request("prompts/get", params)
    if refused(answer):
        return  # caution may go further than the text
    assert all(message["role"] == "user" for message in answer.result["messages"])
    said = "".join(message["content"]["text"] for message in answer.result["messages"])
    assert said.count(text) == 1
    assert said.count("the-second") == 1


def completing(name: str = WITH_ARGUMENTS, argument: str = "arg1", value: str = "") -> Message:
    """Make the params of a completion for an argument of a prompt."""
    return {"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": argument, "value": value}}


@clause("mcp-2025-11-25:completion.capabilities:declared", "mcp-2025-11-25:completion.errors:not-supported")
def test_a_server_completes_if_and_only_if_it_says_so(peer: Peer) -> None:
    client = join(peer)
    answer = client.request("completion/complete", completing())
    if "completions" in client.initialized["capabilities"]:
        assert isinstance(answer.result["completion"]["values"], list)
    else:
        assert answer.error["code"] == -32601


@clause("mcp-2025-11-25:completion.results:at-most-100", "mcp-2025-11-25:basic.schema:completion")
@pytest.mark.parametrize("value", ["", "t", "par", "test", "zzz", "ü"])
def test_no_more_than_a_hundred_values_are_suggested(peer: Peer, value: str) -> None:
    completion = join(peer).request("completion/complete", completing(value=value)).result["completion"]
    assert len(completion["values"]) <= 100
    assert completion.get("total", len(completion["values"])) >= len(completion["values"])
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:completion.errors:unknown-prompt")
def test_completion_for_a_prompt_that_does_not_exist_is_answered_so(peer: Peer) -> None:
    answer = join(peer).request("completion/complete", completing(name="no_such_prompt"))
    assert answer.error["code"] == -32602


@clause("mcp-2025-11-25:completion.errors:missing-argument")
@pytest.mark.parametrize("argument", [None, {}, {"name": "arg1"}, {"value": "x"}], ids=str)
def test_completion_without_the_argument_to_complete_is_answered_so(peer: Peer, argument: Any) -> None:
    params = completing()
    params["argument"] = argument
    if argument is None:
        del params["argument"]
    assert join(peer).request("completion/complete", params).error["code"] == -32602


@clause("mcp-2025-11-25:completion.implementation:validates", "mcp-2025-11-25:completion.security:validates")
@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {**completing(), "ref": None},
        {**completing(), "ref": {"type": "ref/unheard-of", "name": WITH_ARGUMENTS}},
        {**completing(), "ref": {"type": "ref/prompt"}},
        {**completing(), "ref": {"type": "ref/prompt", "name": 7}},
        {**completing(), "ref": {"type": "ref/resource", "uri": 7}},
        {**completing(), "argument": {"name": 7, "value": "x"}},
        {**completing(), "argument": {"name": "arg1", "value": 7}},
        {**completing(), "argument": "arg1"},
    ],
    ids=str,
)
def test_completion_whose_parameters_have_the_wrong_types_is_an_error(peer: Peer, params: Any) -> None:
    client = join(peer)
    answer = client.request("completion/complete", params)
    assert refused(answer)
    assert answer.status < 500
    assert is_fine(client)
