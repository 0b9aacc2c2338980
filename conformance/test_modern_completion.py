"""Completion (2026-07-28, server/utilities/completion)."""

from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Answer
from conformance.peer import Peer

PROMPT = {"type": "ref/prompt", "name": "test_prompt_with_arguments"}
TEMPLATE = {"type": "ref/resource", "uri": "test://template/{id}/data"}


def complete(peer: Peer, ref: Any, argument: Any, **more: Any) -> Answer:
    """Ask for values."""
    return peer.modern().request("completion/complete", {"ref": ref, "argument": argument, **more})


@clause("mcp-2026-07-28:server/completion:capability-declared")
def test_a_server_with_completions_declares_and_answers_them(peer: Peer) -> None:
    assert "completions" in peer.modern().request("server/discover").result["capabilities"]
    assert complete(peer, PROMPT, {"name": "arg1", "value": ""}).status == 200


@clause("mcp-2026-07-28:server/completion:at-most-100", "mcp-2026-07-28:server/completion:values-are-texts")
@pytest.mark.parametrize("value", ["", "p", "par", "zzz", "é", "x" * 200])
def test_values_are_at_most_a_hundred_texts(peer: Peer, value: str) -> None:
    completion = complete(peer, PROMPT, {"name": "arg1", "value": value}).result["completion"]
    assert len(completion["values"]) <= 100
    assert all(isinstance(each, str) for each in completion["values"])
    assert type(completion.get("total", 0)) is int
    assert completion.get("total", 100) >= len(completion["values"]) or "total" not in completion
    assert isinstance(completion.get("hasMore", False), bool)


@clause("mcp-2026-07-28:server/completion:values-match-what-was-typed")
def test_what_was_typed_narrows_the_values(peer: Peer) -> None:
    everything = complete(peer, PROMPT, {"name": "arg1", "value": ""}).result["completion"]["values"]
    narrowed = complete(peer, PROMPT, {"name": "arg1", "value": "par"}).result["completion"]["values"]
    nothing = complete(peer, PROMPT, {"name": "arg1", "value": "no such value"}).result["completion"]["values"]
    assert len(narrowed) <= max(len(everything), 1)
    assert all("par" in value.lower() for value in narrowed)
    assert nothing == []


@clause("mcp-2026-07-28:server/completion:both-reference-types")
@pytest.mark.parametrize(
    ("ref", "name"), [(PROMPT, "arg1"), (PROMPT, "arg2"), (TEMPLATE, "id")], ids=["arg1", "arg2", "template"]
)
def test_prompts_and_templates_are_completed(peer: Peer, ref: dict[str, str], name: str) -> None:
    peer.needs("resources", "prompts")
    assert isinstance(complete(peer, ref, {"name": name, "value": "p"}).result["completion"]["values"], list)


@clause("mcp-2026-07-28:server/completion:context-accepted")
@pytest.mark.parametrize("context", [{}, {"arguments": {}}, {"arguments": {"arg1": "paris"}}], ids=str)
def test_arguments_that_are_known_may_come_along(peer: Peer, context: dict[str, object]) -> None:
    assert complete(peer, PROMPT, {"name": "arg2", "value": ""}, context=context).status == 200


@clause("mcp-2026-07-28:server/completion:unknown-prompt-code")
@pytest.mark.parametrize(
    "ref",
    [{"type": "ref/prompt", "name": "no_such_prompt"}, {"type": "ref/resource", "uri": "test://no/{such}/template"}],
    ids=str,
)
def test_an_unknown_reference_is_invalid_params(peer: Peer, ref: dict[str, str]) -> None:
    answer = complete(peer, ref, {"name": "arg1", "value": ""})
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/completion:missing-arguments-code")
@pytest.mark.parametrize(
    "params",
    [{}, {"ref": PROMPT}, {"argument": {"name": "arg1", "value": ""}}, {"ref": PROMPT, "argument": {}}],
    ids=str,
)
def test_a_request_without_its_parts_is_invalid_params(peer: Peer, params: dict[str, object]) -> None:
    answer = peer.modern().request("completion/complete", params)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/completion:inputs-validated")
@pytest.mark.parametrize(
    ("ref", "argument"),
    [
        ({"type": "ref/tool", "name": "echo"}, {"name": "arg1", "value": ""}),
        ({"type": "ref/prompt"}, {"name": "arg1", "value": ""}),
        ("test_prompt_with_arguments", {"name": "arg1", "value": ""}),
        (PROMPT, {"name": "arg1", "value": 5}),
        (PROMPT, {"name": 5, "value": ""}),
        (PROMPT, ["arg1", ""]),
    ],
    ids=str,
)
def test_references_and_values_of_another_form_are_invalid_params(peer: Peer, ref: object, argument: object) -> None:
    answer = complete(peer, ref, argument)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-2026-07-28:server/completion:inputs-validated")
def test_an_argument_that_does_not_exist_has_no_values(peer: Peer) -> None:
    answer = complete(peer, PROMPT, {"name": "no_such_argument", "value": ""})
    assert answer.code == -32602 or answer.result["completion"]["values"] == [], answer


@clause("mcp-2026-07-28:server/completion:undeclared-method-code")
def test_without_the_capability_the_method_is_unknown(peer: Peer) -> None:
    # This runs where the capability is declared, too: then a caller whose tenant has nothing to complete stands for it.
    declared = "completions" in (peer.capabilities or {})
    answer = complete(peer, PROMPT, {"name": "arg1", "value": ""})
    assert (answer.code == -32601) is not declared, answer
