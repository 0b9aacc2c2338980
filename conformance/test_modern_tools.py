"""Tools (2026-07-28, server/tools, and the use of JSON Schema)."""

import base64
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.modern import call_something, connection
from conformance.peer import Peer, listing

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
RICH = "json_schema_2020_12_tool"
INSIDES = re.compile(r"Traceback|File \"|\.py\b|line \d+|0x[0-9a-f]{6,}|/(?:home|usr|opt|tmp|var)/")


def tools(peer: Peer) -> list[dict[str, Any]]:
    """Every tool that the caller sees."""
    return listing(peer.modern(), "tools/list", "tools")


def decoded(text: str) -> bytes:
    """Decode strict base64."""
    return base64.b64decode(text, validate=True)


def references(schema: Any) -> list[str]:
    """Give every reference in a schema."""
    if isinstance(schema, list):
        return [each for item in schema for each in references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [each for value in schema.values() for each in references(value)]


@clause("mcp-2026-07-28:server/tools:capability-declared", "mcp-2026-07-28:server/tools:list-answered")
def test_a_server_with_tools_declares_and_lists_them(peer: Peer) -> None:
    client = peer.modern()
    assert "tools" in client.request("server/discover").result["capabilities"]
    assert client.request("tools/list").result["tools"]


@clause(
    "mcp-2026-07-28:server/tools:list-not-per-connection",
    "mcp-2026-07-28:server/tools:list-not-changed-by-requests",
    "mcp-2026-07-28:server/tools:order-deterministic",
)
def test_the_list_is_the_same_on_every_connection_and_after_other_requests(peer: Peer) -> None:
    client = peer.modern()
    first = client.request("tools/list").result["tools"]
    with connection(client) as same:
        for _ in range(3):
            assert same.request("tools/list").result["tools"] == first
            same.request("server/discover")
            same.request("tools/call", {"name": "no_such_tool"})
            same.request("no/such/method")
    assert client.request("tools/list").result["tools"] == first


@clause("mcp-2026-07-28:server/tools:list-varies-by-authorization", "own:modern:lists-stay-in-tenant")
@clause("mcp-2026-07-28:server/tools:access-controlled")
def test_what_another_tenant_has_is_neither_listed_nor_callable(peer: Peer) -> None:
    seen = {user: other_tools(peer, user) for user in ("bob", "carol")}
    assert "export_report" in seen["carol"]
    assert "export_report" not in seen["bob"]
    as_bob = peer.modern(token=peer.site.token_of("bob"))
    hidden, unknown = as_bob.call("export_report", {"reportId": "r1"}), as_bob.call("no_such_tool")
    assert (hidden.status, hidden.code) == (unknown.status, unknown.code) == (400, -32602)
    assert hidden.error["message"].replace("export_report", "no_such_tool") == unknown.error["message"]


def other_tools(peer: Peer, user: str) -> set[str]:
    """The names that another person sees."""
    client = peer.modern(token=peer.site.token_of(user))
    return {tool["name"] for tool in listing(client, "tools/list", "tools")}


@clause("mcp-2026-07-28:server/tools:input-schema-object", "mcp-2026-07-28:basic/json-schema:default-dialect")
@clause("mcp-2026-07-28:basic/json-schema:schemas-valid")
def test_published_schemas_are_valid_in_their_dialect(peer: Peer) -> None:
    for tool in tools(peer):
        assert tool["inputSchema"]["type"] == "object", tool["name"]
        for schema in (tool["inputSchema"], tool.get("outputSchema", {})):
            validator_for(schema, default=Draft202012Validator).check_schema(schema)
            assert not [each for each in references(schema) if "://" in each], f"{tool['name']} needs the network"


@clause("mcp-2026-07-28:server/tools:no-parameters-object")
def test_a_tool_without_parameters_takes_an_empty_object(peer: Peer) -> None:
    if not any(not tool["inputSchema"].get("properties") for tool in tools(peer)):
        raise NotApplicable("every tool has parameters")
    peer.needs_tool("test_simple_text")
    client = peer.modern()
    assert client.call("test_simple_text", {}).result.get("isError", False) is False
    assert client.request("tools/call", {"name": "test_simple_text"}).result.get("isError", False) is False


@clause(
    "mcp-2026-07-28:server/tools:name-length",
    "mcp-2026-07-28:server/tools:name-characters",
    "mcp-2026-07-28:server/tools:name-no-specials",
    "mcp-2026-07-28:server/tools:name-unique",
)
def test_names_are_of_the_form_and_unique(peer: Peer) -> None:
    names = [tool["name"] for tool in tools(peer)]
    assert len(names) == len(set(names))
    assert all(NAME.fullmatch(name) for name in names), names


@clause("mcp-2026-07-28:server/tools:name-case-sensitive")
def test_a_name_in_another_case_is_another_name(peer: Peer) -> None:
    client = peer.modern()
    for name in {tool["name"] for tool in tools(peer)}:
        for other in (name.upper(), name.capitalize()):
            if other != name:
                assert client.call(other).code == -32602, other


@clause("mcp-2026-07-28:server/tools:content-text")
def test_a_tool_gives_text(peer: Peer) -> None:
    content = call_something(peer.modern()).result["content"]
    assert content[0]["type"] == "text"
    assert isinstance(content[0]["text"], str)


@clause("mcp-2026-07-28:server/tools:content-image", "mcp-2026-07-28:server/tools:content-audio")
@pytest.mark.parametrize(
    ("tool", "kind", "mime", "magic"),
    [
        ("test_image_content", "image", "image/png", b"\x89PNG"),
        ("test_audio_content", "audio", "audio/wav", b"RIFF"),
    ],
)
def test_a_tool_gives_images_and_sound_in_base64(peer: Peer, tool: str, kind: str, mime: str, magic: bytes) -> None:
    peer.needs_tool(tool)
    (item,) = peer.modern().call(tool).result["content"]
    assert (item["type"], item["mimeType"]) == (kind, mime)
    assert decoded(item["data"]).startswith(magic)


@clause("mcp-2026-07-28:server/tools:content-embedded-resource")
@clause("mcp-2026-07-28:server/tools:embedding-implies-resources")
def test_a_tool_that_embeds_a_resource_belongs_to_a_server_with_resources(peer: Peer) -> None:
    peer.needs_tool("test_embedded_resource")
    client = peer.modern()
    (item,) = client.call("test_embedded_resource").result["content"]
    assert item["type"] == "resource"
    assert item["resource"]["uri"]
    assert ("text" in item["resource"]) != ("blob" in item["resource"])
    assert "resources" in client.request("server/discover").result["capabilities"]


@clause("mcp-2026-07-28:server/tools:content-mixed")
def test_a_tool_gives_several_kinds_of_content(peer: Peer) -> None:
    peer.needs_tool("test_multiple_content_types")
    content = peer.modern().call("test_multiple_content_types").result["content"]
    assert [item["type"] for item in content] == ["text", "image", "resource"]


@clause("mcp-2026-07-28:server/tools:structured-conforms")
def test_structured_results_conform_to_the_published_schema(peer: Peer) -> None:
    found = [tool for tool in tools(peer) if "outputSchema" in tool and not tool["inputSchema"].get("required")]
    if not found:
        raise NotApplicable("no tool that wants no arguments publishes an outputSchema")
    for tool in found:
        result = peer.modern().call(tool["name"]).response.get("result", {})
        if result.get("resultType") == "complete" and not result.get("isError"):
            Draft202012Validator(tool["outputSchema"]).validate(result["structuredContent"])


@clause("mcp-2026-07-28:server/tools:structured-also-as-text")
def test_a_structured_result_is_repeated_as_text(peer: Peer) -> None:
    client = peer.modern()
    names = {tool["name"] for tool in tools(peer)}
    if "search_documents" not in names and peer.site.server is not None:
        # The fixtures give text alone; the demo's own tool gives a list of objects.
        client = peer.modern(token=peer.site.token_of("alice"))
        names = {tool["name"] for tool in listing(client, "tools/list", "tools")}
    candidates: dict[str, dict[str, str]] = {name: {} for name in names}
    candidates |= {"search_documents": {"query": "a"}, "echo": {"message": "hi"}}
    structured = [
        result
        for name, arguments in candidates.items()
        if name in names and not name.startswith(("slow", "failing", "protocol", "confirm", "multi"))
        for result in [client.call(name, arguments).response.get("result", {})]
        if "structuredContent" in result
    ]
    if not structured:
        raise NotApplicable("no tool gives a structured result")
    for result in structured:
        texts = [item["text"] for item in result["content"] if item["type"] == "text"]
        assert result["structuredContent"] in [parsed(text) for text in texts], result


def parsed(text: str) -> Any:
    """Read JSON; None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


@clause("mcp-2026-07-28:server/tools:schema-keeps-keywords")
def test_a_schema_keeps_its_keywords(peer: Peer) -> None:
    schema = peer.needs_tool(RICH)["inputSchema"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["address"]["$anchor"] == "addressDef"
    assert schema["properties"]["address"] == {"$ref": "#/$defs/address"}
    assert schema["additionalProperties"] is False
    assert schema["allOf"][0]["anyOf"] == [{"required": ["phone"]}, {"required": ["email"]}]
    assert schema["if"]["properties"]["contactMethod"] == {"const": "phone"}
    assert schema["then"] == {"required": ["phone"]}
    assert schema["else"] == {"required": ["email"]}


@clause(
    "mcp-2026-07-28:basic/json-schema:dialect-2020-12-supported",
    "mcp-2026-07-28:basic/json-schema:validates-by-dialect",
)
@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ({"contactMethod": "phone", "phone": "1"}, True),
        ({"email": "a@b.example"}, True),
        ({"name": "n", "email": "e", "address": {"street": "s", "city": "c"}}, True),
        ({}, False),
        ({"contactMethod": "phone", "email": "e"}, False),
        ({"contactMethod": "email", "phone": "1"}, False),
        ({"email": "e", "address": {"street": 1}}, False),
        ({"email": "e", "address": "s"}, False),
        ({"email": "e", "more": 1}, False),
        ({"contactMethod": "post", "email": "e"}, False),
        ({"email": 5}, False),
    ],
    ids=str,
)
def test_arguments_are_checked_by_every_keyword_of_the_schema(
    peer: Peer, arguments: dict[str, Any], fits: bool
) -> None:
    schema = peer.needs_tool(RICH)["inputSchema"]
    assert Draft202012Validator(schema).is_valid(arguments) is fits
    assert peer.modern().call(RICH, arguments).result.get("isError", False) is not fits


@clause("mcp-2026-07-28:server/tools:unknown-tool-is-protocol-error")
@pytest.mark.parametrize("name", ["no_such_tool", "x" * 128, "a.b", "tools/list"])
def test_an_unknown_tool_is_a_protocol_error(peer: Peer, name: str) -> None:
    answer = peer.modern().call(name)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/tools:malformed-call-is-protocol-error")
@pytest.mark.parametrize(
    "params",
    [{}, {"name": None}, {"name": 5}, {"name": ["echo"]}, {"name": {}}, {"arguments": {"message": "hi"}}],
    ids=str,
)
def test_a_call_without_a_proper_name_is_a_protocol_error(peer: Peer, params: dict[str, Any]) -> None:
    answer = peer.modern().request("tools/call", params)
    # Without a name there is no header for it either; which of the two is said first, no text tells.
    assert answer.status == 400, answer
    assert answer.code in {-32602, -32020}, answer


@clause("mcp-2026-07-28:server/tools:malformed-call-is-protocol-error")
@pytest.mark.parametrize("arguments", [[], "text", 5, True, None], ids=str)
def test_arguments_that_are_no_object_are_a_protocol_error(peer: Peer, arguments: object) -> None:
    name = tools(peer)[0]["name"]
    answer = peer.modern().request("tools/call", {"name": name, "arguments": arguments})
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/tools:tool-failure-is-result", "mcp-2026-07-28:server/tools:crash-tells-nothing")
def test_a_failure_inside_a_tool_is_a_result_that_a_model_can_read(peer: Peer) -> None:
    peer.needs_tool("test_error_handling")
    result = peer.modern().call("test_error_handling").result
    assert result["isError"] is True
    assert result["content"][0]["text"]
    assert not INSIDES.search(str(result["content"]))


@clause(
    "mcp-2026-07-28:server/tools:bad-arguments-are-result",
    "mcp-2026-07-28:server/tools:inputs-validated",
    "mcp-2026-07-28:basic/json-schema:validates-by-dialect",
    "mcp-2026-07-28:server/tools:crash-tells-nothing",
)
@pytest.mark.parametrize("spoil", ["missing", "extra", "type"])
def test_arguments_that_break_the_schema_give_a_readable_failure(peer: Peer, spoil: str) -> None:
    tried = 0
    for tool in tools(peer):
        schema = tool["inputSchema"]
        arguments = spoilt(schema, spoil)
        if arguments is None or Draft202012Validator(schema).is_valid(arguments) or mirrors(schema):
            continue
        answer = peer.modern().call(tool["name"], arguments)
        if answer.code == -32021:
            continue  # what the client lacks is said before what is wrong with its arguments
        tried += 1
        result = answer.result
        assert result["isError"] is True, tool["name"]
        assert result["content"][0]["text"], tool["name"]
        assert not INSIDES.search(result["content"][0]["text"]), tool["name"]
    if not tried:
        raise NotApplicable(f"no tool's arguments can be spoilt: {spoil}")


def mirrors(schema: dict[str, Any]) -> bool:
    """Whether a parameter is repeated in a header, which is checked first."""
    return "x-mcp-header" in str(schema)


def spoilt(schema: dict[str, Any], how: str) -> dict[str, Any] | None:
    """Arguments that break a schema in one way; None where that can't be done."""
    properties = schema.get("properties", {})
    if how == "extra":
        return {"no_such_parameter": 1}
    if how == "missing":
        return {} if schema.get("required") else None
    texts = [name for name, inner in properties.items() if inner.get("type") == "string"]
    return {texts[0]: 5} if texts else None
