"""Requests that need more from the client (2026-07-28, basic/patterns/mrtr; client/elicitation, sampling and roots)."""

import base64
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.clauses import clause
from conformance.client import Answer, Modern
from conformance.modern import connection
from conformance.peer import Peer

TOOL = "test_input_required_result_"
ELICITATION, SAMPLING, ROOTS = f"{TOOL}elicitation", f"{TOOL}sampling", f"{TOOL}list_roots"
STATE, TAMPERED, MULTIPLE, ROUNDS = (
    f"{TOOL}{name}" for name in ["request_state", "tampered_state", "multiple_inputs", "multi_round"]
)
BY_CAPABILITY, PROMPT = f"{TOOL}capabilities", f"{TOOL}prompt"
CAN_ALL: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}
PRIMITIVES = {"string", "number", "integer", "boolean"}
SECRETS = re.compile(r"password|passwd|secret|api.?key|token|credit.?card", re.IGNORECASE)


def asked(peer: Peer, tool: str, capabilities: dict[str, Any] | None = None) -> tuple[Modern, dict[str, Any]]:
    """Call a tool that needs input; give the client and the result that asks for it."""
    peer.needs_tool(tool)
    client = peer.modern(capabilities=CAN_ALL if capabilities is None else capabilities)
    result = client.call(tool).result
    assert result["resultType"] == "input_required", result
    return client, result


def accepted(**content: Any) -> dict[str, Any]:
    """The answer of a person who filled in a form."""
    return {"action": "accept", "content": content}


def response_to(request: dict[str, Any]) -> dict[str, Any]:
    """A proper answer to any input request."""
    if request["method"] == "roots/list":
        return {"roots": [{"uri": "file:///srv/here", "name": "here"}]}
    if request["method"] == "sampling/createMessage":
        text = {"type": "text", "text": "The capital of France is Paris."}
        return {"role": "assistant", "content": text, "model": "test-model", "stopReason": "endTurn"}
    properties = request["params"]["requestedSchema"]["properties"]
    fill = {"string": "Alice", "boolean": True, "integer": 7, "number": 7.5}
    return accepted(**{name: fill.get(inner.get("type"), ["a"]) for name, inner in properties.items()})


def retried(client: Modern, tool: str, result: dict[str, Any], responses: Any = ..., **more: Any) -> Answer:
    """Call again with the inputs and the state."""
    params = {"name": tool, "arguments": {}}
    given = {key: response_to(each) for key, each in result.get("inputRequests", {}).items()}
    params["inputResponses"] = given if responses is ... else responses
    if "requestState" in result:
        params["requestState"] = result["requestState"]
    return client.request("tools/call", params | more)


def is_refused(answer: Answer) -> bool:
    """Whether a retry was turned away in good order: an error, or the question once more."""
    if "error" in answer.response:
        return answer.status == 400 and answer.code in {-32600, -32602}
    return bool(answer.result["resultType"] == "input_required")


@clause(
    "mcp-2026-07-28:basic/mrtr:supported-methods",
    "mcp-2026-07-28:basic/mrtr:supported-tools-call",
    "mcp-2026-07-28:basic/mrtr:requests-of-three-kinds",
    "mcp-2026-07-28:basic/mrtr:keys-unique",
    "mcp-2026-07-28:basic/mrtr:one-of-two-present",
    "mcp-2026-07-28:client/roots:requested-in-result",
)
@pytest.mark.parametrize(
    ("tool", "method"),
    [(ELICITATION, "elicitation/create"), (SAMPLING, "sampling/createMessage"), (ROOTS, "roots/list")],
)
def test_a_tool_asks_and_is_answered_on_the_retry(peer: Peer, tool: str, method: str) -> None:
    client, result = asked(peer, tool)
    assert [each["method"] for each in result["inputRequests"].values()] == [method]
    final = retried(client, tool, result).result
    assert final["resultType"] == "complete"
    assert final["content"][0]["text"]
    assert not final.get("isError", False)


@clause("mcp-2026-07-28:basic/mrtr:retry-is-independent", "mcp-2026-07-28:basic/statelessness:state-by-identifier")
def test_a_retry_works_on_another_connection_under_another_id(peer: Peer) -> None:
    peer.needs_tool(STATE)
    client = peer.modern(capabilities=CAN_ALL)
    with connection(client) as one:
        first = one.request("tools/call", {"name": STATE, "arguments": {}}, id="one").result
    responses = {key: response_to(each) for key, each in first["inputRequests"].items()}
    params = {"name": STATE, "arguments": {}, "inputResponses": responses, "requestState": first["requestState"]}
    with connection(peer.modern(capabilities=CAN_ALL)) as other:
        assert other.request("tools/call", params, id=2).result["resultType"] == "complete"


@clause("mcp-2026-07-28:basic/mrtr:supported-prompts-get")
def test_a_prompt_asks_and_is_answered_on_the_retry(peer: Peer) -> None:
    peer.needs_prompt(PROMPT)
    client = peer.modern(capabilities=CAN_ALL)
    result = client.request("prompts/get", {"name": PROMPT}).result
    assert result["resultType"] == "input_required"
    assert "ttlMs" not in result
    more = {"inputResponses": {key: response_to(each) for key, each in result["inputRequests"].items()}}
    more |= {"requestState": result["requestState"]} if "requestState" in result else {}
    final = client.request("prompts/get", {"name": PROMPT, **more}).result
    assert final["resultType"] == "complete"
    assert final["messages"]


@clause("mcp-2026-07-28:basic/mrtr:no-other-methods")
def test_no_other_method_asks_for_input(peer: Peer) -> None:
    client = peer.modern(capabilities=CAN_ALL)
    for method in ("server/discover", "tools/list", "resources/list", "resources/templates/list", "prompts/list"):
        response = client.request(method, {"inputResponses": {}, "requestState": "x"}).response
        assert response.get("result", {}).get("resultType") != "input_required", method


@clause("mcp-2026-07-28:server/caching:none-on-input-required")
@pytest.mark.parametrize("tool", [ELICITATION, SAMPLING, ROOTS, STATE, MULTIPLE, ROUNDS])
def test_a_result_that_asks_may_not_be_kept(peer: Peer, tool: str) -> None:
    _, result = asked(peer, tool)
    assert not {"ttlMs", "cacheScope"} & set(result)


@clause("mcp-2026-07-28:basic/mrtr:requests-of-three-kinds", "mcp-2026-07-28:basic/mrtr:keys-unique")
def test_several_inputs_are_asked_for_at_once(peer: Peer) -> None:
    client, result = asked(peer, MULTIPLE)
    assert {each["method"] for each in result["inputRequests"].values()} == set(NEEDS)
    assert retried(client, MULTIPLE, result).result["resultType"] == "complete"


@clause(
    "mcp-2026-07-28:basic/mrtr:asked-repeatedly",
    "mcp-2026-07-28:basic/mrtr:state-opaque-text",
)
def test_a_tool_asks_in_several_rounds(peer: Peer) -> None:
    client, first = asked(peer, ROUNDS)
    second = retried(client, ROUNDS, first).result
    assert second["resultType"] == "input_required"
    assert isinstance(first["requestState"], str)
    assert isinstance(second["requestState"], str)
    assert first["requestState"] != second["requestState"]
    assert set(first["inputRequests"]) != set(second["inputRequests"])
    assert retried(client, ROUNDS, second).result["resultType"] == "complete"


@clause(
    "mcp-2026-07-28:basic/mrtr:state-protected",
    "mcp-2026-07-28:basic/mrtr:state-tampered-rejected",
)
@pytest.mark.parametrize("tool", [STATE, TAMPERED, ROUNDS, MULTIPLE])
def test_a_state_that_was_changed_is_rejected(peer: Peer, tool: str) -> None:
    client, result = asked(peer, tool)
    state = result["requestState"]
    middle = len(state) // 2
    flipped = "A" if state[middle] != "A" else "B"
    changed = [state + "-TAMPERED", state[:-1], state[1:], state[:middle] + flipped + state[middle + 1 :], state * 2]
    for each in changed:
        answer = retried(client, tool, result, requestState=each)
        assert answer.status == 400, each
        assert answer.code in {-32600, -32602}, each
    assert retried(client, tool, result).status == 200


@clause("mcp-2026-07-28:basic/mrtr:state-is-attacker-controlled")
@pytest.mark.parametrize(
    "state", ["", "x", "é语🙂", "A" * 5000, "..", '{"a":1}', "AAAA.BBBB.CCCC", "\x00"], ids=lambda s: s[:8]
)
def test_any_text_as_state_is_handled(peer: Peer, state: str) -> None:
    client, result = asked(peer, STATE)
    answer = retried(client, STATE, result, requestState=state)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause(
    "mcp-2026-07-28:basic/mrtr:state-is-attacker-controlled", "mcp-2026-07-28:basic/mrtr:malformed-is-jsonrpc-error"
)
@pytest.mark.parametrize("state", [5, [], {}, True], ids=str)
def test_a_state_that_is_no_text_is_invalid_params(peer: Peer, state: object) -> None:
    client, result = asked(peer, STATE)
    answer = retried(client, STATE, result, requestState=state)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:basic/mrtr:state-bound-to-principal", "mcp-2026-07-28:client/elicitation:bound-to-user")
def test_a_state_presented_by_another_principal_is_rejected(peer: Peer) -> None:
    _, result = asked(peer, STATE)
    if peer.site.server is None:
        peer.site.token_of("anybody")  # says why this does not apply
    assert peer.site.server is not None
    other = peer.modern(token=peer.site.server.sign_in().access_token, capabilities=CAN_ALL)
    answer = retried(other, STATE, result)
    assert is_refused(answer), "the same person by another client is another principal"


@clause("mcp-2026-07-28:basic/mrtr:state-bound-to-request")
def test_a_state_presented_with_another_request_is_rejected(peer: Peer) -> None:
    client, result = asked(peer, STATE)
    _, other = asked(peer, TAMPERED)
    assert is_refused(retried(client, TAMPERED, other, requestState=result["requestState"]))
    changed = retried(client, STATE, result, arguments={"extra": "argument"})
    assert changed.response.get("result", {}).get("isError") or is_refused(changed)


@clause("own:modern:request-state-opaque")
@pytest.mark.parametrize("tool", [STATE, TAMPERED, ROUNDS])
def test_a_state_tells_its_bearer_nothing(peer: Peer, tool: str) -> None:
    _, result = asked(peer, tool)
    state = result["requestState"]
    readings = [state.encode()]
    for part in re.split(r"[.:~]", state):
        padded = part + "=" * (-len(part) % 4)
        readings.append(base64.b64decode(padded, altchars=b"-_"))
    for reading in readings:
        for known in (tool, "tools/call", "conformance", "tester", "tenant", "expires", "step1"):
            assert known.encode() not in reading, known


@clause(
    "mcp-2026-07-28:basic/mrtr:declared-capabilities-only",
    "mcp-2026-07-28:basic/mrtr:undeclared-elicitation-not-asked",
    "mcp-2026-07-28:basic/mrtr:undeclared-sampling-not-asked",
    "mcp-2026-07-28:basic/mrtr:undeclared-roots-not-asked",
    "mcp-2026-07-28:basic/meta:capabilities-of-this-request",
    "mcp-2026-07-28:client/roots:capability-checked",
)
@pytest.mark.parametrize("tool", [ELICITATION, SAMPLING, ROOTS, MULTIPLE, BY_CAPABILITY])
@pytest.mark.parametrize("declared", [[], ["elicitation"], ["sampling"], ["roots"], ["sampling", "roots"]], ids=str)
def test_nothing_is_asked_that_the_client_did_not_declare(peer: Peer, tool: str, declared: list[str]) -> None:
    peer.needs_tool(tool)
    response = peer.modern(capabilities={name: {} for name in declared}).call(tool).response
    requests = response.get("result", {}).get("inputRequests", {})
    assert {NEEDS[each["method"]] for each in requests.values()} <= set(declared), response
    assert response.get("result", {}).get("resultType") != "input_required" or requests


@clause(
    "mcp-2026-07-28:basic/meta:missing-capability-code",
    "mcp-2026-07-28:basic/meta:missing-capability-named",
    "mcp-2026-07-28:basic/meta:missing-capability-status",
)
@pytest.mark.parametrize(
    ("tool", "capability"),
    [("test_missing_capability", "sampling"), (ELICITATION, "elicitation"), (SAMPLING, "sampling"), (ROOTS, "roots")],
)
def test_what_can_not_be_done_without_a_capability_names_it(peer: Peer, tool: str, capability: str) -> None:
    peer.needs_tool(tool)
    answer = peer.modern().call(tool)
    assert (answer.status, answer.code) == (400, -32021), answer
    assert isinstance(answer.error["data"]["requiredCapabilities"][capability], dict)


@clause("mcp-2026-07-28:basic/meta:capabilities-not-inferred")
def test_capabilities_of_an_earlier_request_do_not_count(peer: Peer) -> None:
    peer.needs_tool(ELICITATION)
    client = peer.modern(capabilities=CAN_ALL)
    with connection(client) as same:
        assert same.request("tools/call", {"name": ELICITATION}).result["resultType"] == "input_required"
        again = same.request("tools/call", {"name": ELICITATION}, meta=client.meta(clientCapabilities={}))
        assert again.code == -32021, again


@clause("mcp-2026-07-28:basic/mrtr:fulfilment-not-assumed")
def test_a_client_that_never_comes_back_harms_nobody(peer: Peer) -> None:
    for _ in range(20):
        client, _ = asked(peer, STATE)
    assert retried(client, STATE, asked(peer, STATE)[1]).result["resultType"] == "complete"


@clause(
    "mcp-2026-07-28:basic/mrtr:response-shape-validated",
    "mcp-2026-07-28:basic/mrtr:malformed-is-jsonrpc-error",
)
@pytest.mark.parametrize("responses", [[], "text", 5, True], ids=str)
def test_responses_that_are_no_object_are_invalid_params(peer: Peer, responses: object) -> None:
    client, result = asked(peer, ELICITATION)
    answer = retried(client, ELICITATION, result, responses)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:basic/mrtr:response-shape-validated")
@pytest.mark.parametrize("response", [None, 5, "Alice", [], {}, {"action": "nonsense"}, {"action": 5}], ids=str)
def test_a_response_that_is_none_is_refused_or_asked_for_again(peer: Peer, response: object) -> None:
    client, result = asked(peer, ELICITATION)
    (key,) = result["inputRequests"]
    answer = retried(client, ELICITATION, result, {key: response})
    assert is_refused(answer) or answer.result.get("isError"), answer


@clause("mcp-2026-07-28:basic/mrtr:unexpected-ignored")
def test_a_response_that_was_not_asked_for_is_ignored(peer: Peer) -> None:
    client, result = asked(peer, ELICITATION)
    given = {key: response_to(each) for key, each in result["inputRequests"].items()}
    more = given | {"nobody_asked": accepted(name="Mallory"), "nor_this": {"action": "cancel"}}
    final = retried(client, ELICITATION, result, more).result
    assert final["resultType"] == "complete"
    assert "Mallory" not in str(final["content"])


@clause("mcp-2026-07-28:basic/mrtr:missing-asked-again")
@pytest.mark.parametrize("responses", [{}, {"another_key": {"action": "accept", "content": {"name": "A"}}}], ids=str)
def test_what_is_missing_is_asked_for_again(peer: Peer, responses: dict[str, Any]) -> None:
    client, result = asked(peer, ELICITATION)
    again = retried(client, ELICITATION, result, responses).result
    assert again["resultType"] == "input_required"
    assert [each["method"] for each in again["inputRequests"].values()] == ["elicitation/create"]


# --- elicitation


def forms(peer: Peer) -> list[dict[str, Any]]:
    """The params of every form that the fixtures ask for."""
    tools = [ELICITATION, STATE, "test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums"]
    found = []
    for tool in tools:
        peer.needs_tool(tool)
        result = peer.modern(capabilities=CAN_ALL).call(tool).result
        found += [each["params"] for each in result.get("inputRequests", {}).values() if each["method"] in NEEDS]
    assert found
    return [params for params in found if "requestedSchema" in params or "url" in params]


@clause(
    "mcp-2026-07-28:client/elicitation:request-has-message",
    "mcp-2026-07-28:client/elicitation:form-mode-marked",
    "mcp-2026-07-28:client/elicitation:form-has-schema",
    "mcp-2026-07-28:client/elicitation:form-schema-flat",
    "mcp-2026-07-28:client/elicitation:no-secrets-by-form",
    "mcp-2026-07-28:client/elicitation:no-urls-in-forms",
    "mcp-2026-07-28:client/elicitation:not-for-own-authorization",
)
def test_forms_are_flat_and_ask_for_no_secrets(peer: Peer) -> None:
    for params in forms(peer):
        assert params["message"]
        assert params.get("mode", "form") == "form"
        schema = params["requestedSchema"]
        assert schema["type"] == "object"
        assert not SECRETS.search(json.dumps(params))
        assert "://" not in json.dumps({**params, "requestedSchema": {**schema, "$schema": ""}})
        for name, inner in schema["properties"].items():
            is_choice = inner.get("type") == "array" and {"enum", "anyOf"} & set(inner["items"])
            assert inner.get("type") in PRIMITIVES or is_choice, name
            assert not {"properties", "$ref", "allOf"} & set(inner), name


@clause("mcp-2026-07-28:client/elicitation:form-default-mode-only")
@pytest.mark.parametrize("modes", [{}, {"form": {}}], ids=str)
def test_a_client_without_modes_is_asked_by_form(peer: Peer, modes: dict[str, Any]) -> None:
    _, result = asked(peer, ELICITATION, {"elicitation": modes})
    assert {each["params"].get("mode", "form") for each in result["inputRequests"].values()} == {"form"}


@clause("mcp-2026-07-28:client/elicitation:mode-declared-only")
@pytest.mark.parametrize("modes", [{"form": {}}, {"url": {}}], ids=str)
def test_only_modes_that_were_declared_are_used(peer: Peer, modes: dict[str, Any]) -> None:
    peer.needs_tool(ELICITATION)
    response = peer.modern(capabilities={"elicitation": modes}).call(ELICITATION).response
    requests = response.get("result", {}).get("inputRequests", {})
    used = {each["params"].get("mode", "form") for each in requests.values()}
    assert used <= set(modes), response
    if modes == {"url": {}}:
        assert response["error"]["code"] == -32021, response


@clause("mcp-2026-07-28:client/elicitation:decline-handled", "mcp-2026-07-28:client/elicitation:cancel-handled")
@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("tool", [ELICITATION, STATE, ROUNDS])
def test_a_person_who_says_no_gets_an_orderly_end(peer: Peer, tool: str, action: str) -> None:
    client, result = asked(peer, tool)
    answer = retried(client, tool, result, {key: {"action": action} for key in result["inputRequests"]})
    assert answer.status == 200, answer
    assert answer.result["resultType"] in {"complete", "input_required"}
    assert client.request("tools/list").status == 200


@clause("mcp-2026-07-28:client/elicitation:answers-validated")
@pytest.mark.parametrize("content", [{"name": 5}, {}, {"name": None}, {"name": ["Alice"]}, None, "Alice"], ids=str)
def test_a_form_whose_values_break_its_schema_is_not_taken(peer: Peer, content: object) -> None:
    client, result = asked(peer, ELICITATION)
    (key,) = result["inputRequests"]
    answer = retried(client, ELICITATION, result, {key: {"action": "accept", "content": content}})
    assert is_refused(answer) or answer.result.get("isError"), answer


# --- sampling and roots


@clause(
    "mcp-2026-07-28:client/sampling:message-role-and-content",
    "mcp-2026-07-28:client/sampling:max-tokens",
    "mcp-2026-07-28:client/sampling:context-values-avoided",
    "mcp-2026-07-28:client/sampling:context-undeclared-avoided",
    "mcp-2026-07-28:client/sampling:tools-declared-only",
)
@pytest.mark.parametrize("tool", [SAMPLING, MULTIPLE])
def test_a_sampling_request_is_complete_and_modest(peer: Peer, tool: str) -> None:
    _, result = asked(peer, tool)
    found = [each["params"] for each in result["inputRequests"].values() if each["method"] == "sampling/createMessage"]
    assert found
    for params in found:
        assert all(m["role"] in {"user", "assistant"} and m["content"] for m in params["messages"])
        assert params["maxTokens"] > 0
        assert params.get("includeContext", "none") == "none"
        assert not {"tools", "toolChoice"} & set(params)


@clause("mcp-2026-07-28:client/sampling:content-validated")
@pytest.mark.parametrize("response", [{}, {"role": "assistant"}, {"role": 5, "content": "x"}, "text", None], ids=str)
def test_what_is_no_generated_message_is_not_taken(peer: Peer, response: object) -> None:
    client, result = asked(peer, SAMPLING)
    (key,) = result["inputRequests"]
    answer = retried(client, SAMPLING, result, {key: response})
    assert is_refused(answer) or answer.result.get("isError"), answer


@clause("mcp-2026-07-28:client/roots:unavailable-handled")
@pytest.mark.parametrize("roots", [[], [{"uri": "file:///gone"}]], ids=str)
def test_roots_that_are_none_or_gone_are_handled(peer: Peer, roots: list[dict[str, str]]) -> None:
    client, result = asked(peer, ROOTS)
    (key,) = result["inputRequests"]
    assert retried(client, ROOTS, result, {key: {"roots": roots}}).result["resultType"] == "complete"


@clause("mcp-2026-07-28:client/sampling:deprecated")
def test_sampling_is_left_out(peer: Peer) -> None:
    peer.needs_tool(SAMPLING)
    result = peer.modern(capabilities=CAN_ALL).call(SAMPLING).response.get("result", {})
    assert result.get("resultType") != "input_required"


@clause("mcp-2026-07-28:client/roots:deprecated")
def test_roots_are_left_out(peer: Peer) -> None:
    peer.needs_tool(ROOTS)
    result = peer.modern(capabilities=CAN_ALL).call(ROOTS).response.get("result", {})
    assert result.get("resultType") != "input_required"


@clause(
    "mcp-2026-07-28:client/elicitation:url-mode-complete",
    "mcp-2026-07-28:client/elicitation:url-valid",
    "mcp-2026-07-28:client/elicitation:url-https",
)
def test_an_elicitation_by_address_is_complete_and_its_address_is_one(peer: Peer) -> None:
    _, result = asked(peer, "test_elicitation_url", {"elicitation": {"url": {}}})
    (question,) = result["inputRequests"].values()
    assert question["params"]["mode"] == "url"
    assert question["params"]["message"]
    parts = urlsplit(question["params"]["url"])
    assert parts.scheme == "https"
    assert parts.hostname
    assert "@" not in parts.netloc
