"""Tools of the revisions up to 2025-11-25: how they are listed, called, refused and how they fail."""

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.legacy import (
    ARGUMENTS,
    ELICITING,
    EVERYTHING,
    NO_TOOL,
    SAMPLED,
    SAMPLING,
    Message,
    filled,
    heard,
    is_fine,
    is_request,
    join,
    listed_all,
    params_of,
    refused,
    simple_results,
    streaming,
    text_of,
    unfit,
)
from conformance.peer import Peer

DIALECTS = "json_schema_2020_12_tool"
NO_ARGUMENTS: tuple[tuple[str, Any], ...] = (
    (SAMPLING, {}),
    (SAMPLING, {"prompt": 5}),
    (SAMPLING, {"prompt": None}),
    (ELICITING, {}),
    (ELICITING, {"message": ["Who are you?"]}),
)
# Tools that ask the client, change something or go on later.
BUSY = ("elicitation", "sampling", "input_required", "capability", "trigger", "reconnection", "roots", "task")
CANDIDATES: tuple[Message, ...] = (
    {},
    {"name": "Ada"},
    {"name": 7},
    {"name": "Ada", "address": {"street": "Main Street 1", "city": "London"}},
    {"name": "Ada", "address": {"street": 1, "city": "London"}},
    {"name": "Ada", "address": "London"},
    {"name": "Ada", "contactMethod": "phone"},
    {"name": "Ada", "contactMethod": "phone", "phone": "+44 1"},
    {"name": "Ada", "contactMethod": "email"},
    {"name": "Ada", "contactMethod": "email", "email": "ada@example.com"},
    {"name": "Ada", "contactMethod": "pigeon"},
    {"name": "Ada", "unheard": 1},
)


def tools_of(peer: Peer) -> list[Message]:
    """Give the whole list of tools."""
    return listed_all(join(peer), "tools/list", "tools")


def schemas_of(peer: Peer) -> list[Any]:
    """Give every schema in the list of tools."""
    return [tool[name] for tool in tools_of(peer) for name in ("inputSchema", "outputSchema") if name in tool]


@clause("mcp-2025-11-25:tools.capabilities:declared")
def test_a_server_that_lists_or_calls_tools_declares_them(peer: Peer) -> None:
    client = join(peer)
    answers = (client.request("tools/list"), client.call("test_simple_text"))
    if "tools" not in client.initialized["capabilities"]:
        assert all(refused(answer) for answer in answers)
    else:
        assert isinstance(answers[0].result["tools"], list)


@clause("mcp-2025-11-25:basic.schema:tools")
def test_lists_and_results_of_tools_fit_the_schema(peer: Peer) -> None:
    client = join(peer)
    assert client.request("tools/list").result["tools"]
    if not simple_results(client):
        raise NotApplicable("the server has none of the fixtures")
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:tools.changes:announced")
def test_a_change_of_the_tools_is_announced_once(peer: Peer) -> None:
    peer.needs_tool("test_trigger_tool_change")
    client = join(peer)
    if not client.initialized["capabilities"]["tools"].get("listChanged"):
        raise NotApplicable("the server does not say that it announces changes")
    with client.listen() as standalone:
        said = client.call("test_trigger_tool_change").messages + heard(standalone, 2.0)
    assert [each["method"] for each in said if "list_changed" in each.get("method", "")] == [
        "notifications/tools/list_changed"
    ]


@clause("mcp-2025-11-25:tools.tool:input-schema", "mcp-2025-11-25:basic.json-schema:valid")
def test_every_schema_is_an_object_and_valid_in_its_dialect(peer: Peer) -> None:
    for schema in schemas_of(peer):
        assert isinstance(schema, dict)
        assert schema["type"] == "object"
        validator_for(schema, default=Draft202012Validator).check_schema(schema)


@clause("mcp-2025-11-25:basic.json-schema:supports-2020-12")
def test_arguments_are_judged_as_json_schema_2020_12_judges_them(peer: Peer) -> None:
    schema = peer.needs_tool(DIALECTS)["inputSchema"]
    client = join(peer)
    verdicts = {}
    for arguments in CANDIDATES:
        fits = Draft202012Validator(schema).is_valid(arguments)
        verdicts[str(arguments)] = fits
        assert unfit(client.call(DIALECTS, arguments)) is not fits, arguments
    assert len(set(verdicts.values())) == 2, "the candidates must show both verdicts"


@clause("mcp-2025-11-25:tools.names:length", "mcp-2025-11-25:tools.names:characters")
def test_names_are_of_the_allowed_length_and_characters(peer: Peer) -> None:
    names = [tool["name"] for tool in tools_of(peer)]
    assert names
    assert [name for name in names if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name)] == []


@clause("mcp-2025-11-25:tools.names:no-specials")
def test_names_have_no_spaces_or_commas(peer: Peer) -> None:
    assert [tool["name"] for tool in tools_of(peer) if re.search(r"[\s,;:/\\?*\"'<>|]", tool["name"])] == []


@clause("mcp-2025-11-25:tools.names:unique")
def test_no_name_is_listed_twice(peer: Peer) -> None:
    names = [tool["name"] for tool in tools_of(peer)]
    assert len(set(names)) == len(names)


@clause("mcp-2025-11-25:tools.names:case")
def test_a_name_in_other_letters_is_another_tool(peer: Peer) -> None:
    peer.needs_tool("test_simple_text")
    client = join(peer)
    assert not unfit(client.call("test_simple_text"))
    for name in ("TEST_SIMPLE_TEXT", "Test_Simple_Text"):
        assert unfit(client.call(name))


@clause("mcp-2025-11-25:tools.errors:unknown-tool")
@pytest.mark.parametrize("name", [NO_TOOL, "", "test_simple_text ", "ü"])
def test_a_tool_that_does_not_exist_is_a_protocol_error(peer: Peer, name: str) -> None:
    assert join(peer).call(name).error["code"] == -32602


@clause("mcp-2025-11-25:tools.errors:malformed-call")
@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"arguments": {}},
        {"name": None},
        {"name": 5, "arguments": {}},
        {"name": "test_simple_text", "arguments": "text"},
        {"name": "test_simple_text", "arguments": []},
    ],
    ids=str,
)
def test_a_malformed_call_is_a_protocol_error(peer: Peer, params: Any) -> None:
    assert join(peer).request("tools/call", params).error["code"] == -32602


@clause("mcp-2025-06-18:tools.errors:invalid-arguments")
@pytest.mark.parametrize(("tool", "arguments"), NO_ARGUMENTS, ids=str)
def test_arguments_that_do_not_fit_are_a_protocol_error(peer: Peer, tool: str, arguments: Any) -> None:
    peer.needs_tool(tool)
    assert join(peer, EVERYTHING).call(tool, arguments).error["code"] == -32602


@clause("mcp-2025-11-25:tools.errors:input-validation")
@pytest.mark.parametrize(("tool", "arguments"), NO_ARGUMENTS, ids=str)
def test_arguments_that_do_not_fit_are_a_result_that_names_the_fault(peer: Peer, tool: str, arguments: Any) -> None:
    peer.needs_tool(tool)
    result = join(peer, EVERYTHING).call(tool, arguments).result
    assert result["isError"] is True
    assert next(iter(ARGUMENTS[tool])) in text_of(result), "the text must help to put it right"


@clause("mcp-2025-11-25:tools.security:validates")
@pytest.mark.parametrize(("tool", "arguments"), NO_ARGUMENTS, ids=str)
def test_a_tool_does_not_run_on_arguments_that_do_not_fit(peer: Peer, tool: str, arguments: Any) -> None:
    peer.needs_tool(tool)
    answer = join(peer, EVERYTHING).call(tool, arguments)
    assert unfit(answer)
    assert [message for message in answer.messages if is_request(message)] == []


@clause("mcp-2025-11-25:tools.errors:in-result")
def test_a_tool_that_fails_says_so_in_its_result(peer: Peer) -> None:
    peer.needs_tool("test_error_handling")
    client = join(peer)
    result = client.call("test_error_handling").result
    assert result["isError"] is True
    assert text_of(result)
    assert is_fine(client)


@clause("mcp-2025-11-25:tools.security:access-control")
def test_a_tool_of_others_is_not_listed_and_is_answered_as_one_that_does_not_exist(peer: Peer) -> None:
    mine = {tool["name"] for tool in tools_of(peer)}
    others: set[str] = set()
    for user in ("alice", "carol"):
        client = join(peer, token=peer.site.token_of(user))
        others |= {tool["name"] for tool in listed_all(client, "tools/list", "tools")}
    hidden = sorted(others - mine)
    assert hidden, "the users must differ in their tools"
    client = join(peer)
    missing = client.call(NO_TOOL)
    for name in hidden:
        answer = client.call(name)
        assert (answer.status, answer.code) == (missing.status, missing.code)
        assert answer.error["message"].replace(name, "") == missing.error["message"].replace(NO_TOOL, "")


@clause("mcp-2025-11-25:tools.results:embedding-declares")
def test_a_server_that_embeds_resources_declares_them(peer: Peer) -> None:
    client = join(peer)
    results = simple_results(client).values()
    if not any(block["type"] == "resource" for result in results for block in result["content"]):
        raise NotApplicable("no result embeds a resource")
    assert "resources" in client.initialized["capabilities"]


def structured(peer: Peer) -> list[tuple[Message, Message]]:
    """Call every tool that has an output schema, and give listing and result of each that came to a result."""
    clients = [join(peer)]
    if peer.site.server is not None:
        clients.append(join(peer, token=peer.site.token_of("alice")))
    found = []
    for client in clients:
        for tool in listed_all(client, "tools/list", "tools"):
            if "outputSchema" in tool and not any(word in tool["name"] for word in BUSY):
                result = client.call(tool["name"], filled(tool["inputSchema"], "text")).result
                found += [] if result.get("isError") else [(tool, result)]
    if not found:
        raise NotApplicable("no tool with an output schema can be called")
    return found


@clause("mcp-2025-11-25:tools.results:output-schema", "mcp-2025-11-25:tools.results:structured-object")
def test_structured_content_is_an_object_that_fits_the_output_schema(peer: Peer) -> None:
    for tool, result in structured(peer):
        assert isinstance(result["structuredContent"], dict)
        schema = tool["outputSchema"]
        validator_for(schema, default=Draft202012Validator)(schema).validate(result["structuredContent"])


@clause("mcp-2025-11-25:tools.results:structured-as-text")
def test_structured_content_also_comes_as_text(peer: Peer) -> None:
    for _, result in structured(peer):
        texts = [block["text"] for block in result["content"] if block["type"] == "text"]
        assert any(_parsed(text) == result["structuredContent"] for text in texts)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


@clause("mcp-2025-11-25:tasks.support:ignored-when-undeclared")
def test_a_call_that_asks_for_a_task_is_an_ordinary_call_where_there_are_no_tasks(peer: Peer) -> None:
    peer.needs_tool("test_simple_text")
    client = join(peer)
    if "tasks" in client.initialized["capabilities"]:
        raise NotApplicable("the server has tasks")
    result = client.request("tools/call", {**params_of("test_simple_text"), "task": {"ttl": 60000}}).result
    assert "task" not in result
    assert text_of(result)


@clause("mcp-2025-11-25:tools.security:validates")
def test_what_a_tool_was_given_is_what_it_asks_with(peer: Peer) -> None:
    peer.needs_tool(SAMPLING)
    client = join(peer, EVERYTHING)
    if not peer.sessionful:
        raise NotApplicable("without a session nothing can be asked")
    with streaming(client, SAMPLING) as stream:
        for message in stream.messages():
            if is_request(message):
                assert ARGUMENTS[SAMPLING]["prompt"] in str(message["params"]["messages"])
                client.respond(message, SAMPLED)
