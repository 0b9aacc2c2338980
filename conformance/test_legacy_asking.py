"""What a server of the revisions up to 2025-11-25 asks its client: elicitation, sampling, roots."""

import contextlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.clauses import clause
from conformance.client import Legacy, NotApplicable, Silence
from conformance.legacy import (
    ARGUMENTS,
    ELICITING,
    EVERYTHING,
    SAMPLED,
    SAMPLING,
    Message,
    accepted,
    asked,
    exchange,
    filled,
    final,
    heard,
    is_fine,
    is_request,
    is_response,
    join,
    listed_all,
    question,
    simple_results,
    streaming,
    text_of,
)
from conformance.peer import Peer

FORMS = (ELICITING, "test_elicitation_sep1034_defaults", "test_elicitation_sep1330_enums")
FORM_ONLY: tuple[Message, ...] = ({"elicitation": {}}, {"elicitation": {"form": {}}})
URL_ONLY: Message = {"elicitation": {"url": {}}}
BOTH: Message = {"elicitation": {"form": {}, "url": {}}}
URL_REQUIRED = -32042
PRIMITIVES = {"string", "number", "integer", "boolean"}
SECRETS = re.compile(r"(?i)password|passwort|secret|api.?key|access.?token|credential|credit.?card|\bcvv\b|\bpin\b")
LINK = re.compile(r"(?i)\b(?:https?|ftp|javascript|data|file):|\bwww\.")
UNFIT_FORMS: tuple[Any, ...] = ([], "text", {}, {"wrong": "4711"}, {"wrong": {"nested": 4711}})


def tool_named(peer: Peer, *words: str) -> str:
    """Find a tool whose name holds all the words; not applicable where there is none."""
    peer.needs("tools")
    for tool in listed_all(join(peer), "tools/list", "tools"):
        if all(word in tool["name"] for word in words):
            return str(tool["name"])
    raise NotApplicable(f"no fixture has {' and '.join(words)} in its name")


def form_of(peer: Peer, tool: str) -> Message:
    """Give the params with which a tool asks by form."""
    _, stream, asking = asked(peer, tool)
    stream.close()
    assert asking["method"] == "elicitation/create"
    params: Message = asking["params"]
    return params


def ended(peer: Peer, tool: str, reply: Any) -> Message:
    """Answer what a tool asks with `reply`, and give the response to the call."""
    client, stream, asking = asked(peer, tool, id="the-call")
    with stream:
        assert client.respond(asking, reply).status == 202
        return final(stream, "the-call")


def failed(response: Message) -> bool:
    """Whether the response to a call says that it failed."""
    return "error" in response or response["result"].get("isError") is True


def taken(peer: Peer, tool: str, response: Message) -> bool:
    """Whether a tool took what it was told for an answer: it then says what it says of a good one."""
    client, stream, asking = asked(peer, tool, id="a-good-one")
    good = SAMPLED if tool == SAMPLING else accepted(filled(asking["params"]["requestedSchema"], "A sampled word"))
    with stream:
        client.respond(asking, good)
        said = text_of(final(stream, "a-good-one")["result"])
    if failed(response):
        return False
    # Beyond the words that it has for every outcome begin those that it has for a good one.
    declined = None if tool == SAMPLING else ended(peer, tool, {"action": "decline"})
    other = "" if declined is None or failed(declined) else text_of(declined["result"])
    return shared(said, text_of(response["result"])) > shared(said, other)


def shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next(
        (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


def questions_of(client: Legacy, tool: str, seconds: float = 2.0) -> list[Message]:
    """Call a tool whose questions nobody answers, and give the questions."""
    before = len(client.recorder.messages)
    with contextlib.suppress(Silence):
        client.call(tool, ARGUMENTS.get(tool, {}), timeout=seconds)
    return [message for message in client.recorder.messages[before:] if is_request(message)]


# Elicitation


@clause("mcp-2025-11-25:basic.schema:elicitation")
@pytest.mark.parametrize("tool", FORMS)
def test_an_elicitation_fits_the_schema_of_its_revision(peer: Peer, tool: str) -> None:
    assert form_of(peer, tool)["requestedSchema"]["properties"]
    assert peer.recorder.violations == []


@clause(
    "mcp-2025-11-25:elicitation.requests:message",
    "mcp-2025-11-25:elicitation.requests:mode",
    "mcp-2025-11-25:elicitation.form:mode",
    "mcp-2025-11-25:elicitation.form:requested-schema",
)
@pytest.mark.parametrize("tool", FORMS)
def test_a_form_has_a_message_a_schema_and_its_mode_or_none(peer: Peer, tool: str) -> None:
    params = form_of(peer, tool)
    assert re.search(r"\w", params["message"])
    assert params.get("mode", "form") == "form"
    assert isinstance(params["requestedSchema"], dict)


@clause("mcp-2025-11-25:elicitation.form:flat")
@pytest.mark.parametrize("tool", FORMS)
def test_a_form_is_one_flat_object(peer: Peer, tool: str) -> None:
    schema = form_of(peer, tool)["requestedSchema"]
    assert schema["type"] == "object"
    for part in schema["properties"].values():
        if part["type"] == "array":
            assert peer.revision >= "2025-11-25", "choices of several came with 2025-11-25"
            assert {"enum", "anyOf"} & part["items"].keys()
        else:
            assert part["type"] in PRIMITIVES
        assert "properties" not in part


@clause(
    "mcp-2025-11-25:elicitation:no-sensitive-form",
    "mcp-2025-11-25:elicitation.form-security:no-secrets",
)
@pytest.mark.parametrize("tool", FORMS)
def test_a_form_asks_for_no_secrets(peer: Peer, tool: str) -> None:
    assert not SECRETS.search(json.dumps(form_of(peer, tool)["requestedSchema"]))


@clause("mcp-2025-11-25:elicitation.urls:none-in-forms")
@pytest.mark.parametrize("tool", FORMS)
def test_a_form_holds_no_links(peer: Peer, tool: str) -> None:
    params = form_of(peer, tool)
    shown = {name: part for name, part in params["requestedSchema"].items() if name != "$schema"}
    assert not LINK.search(params["message"])
    assert not LINK.search(json.dumps(shown))


@clause("mcp-2025-11-25:elicitation:declared-modes")
@pytest.mark.parametrize("tool", FORMS)
def test_a_client_that_only_opens_urls_is_sent_no_forms(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    assert questions_of(join(peer, URL_ONLY), tool) == []


@clause("mcp-2025-11-25:elicitation:declared-modes")
@pytest.mark.parametrize("capabilities", FORM_ONLY, ids=str)
def test_a_client_that_declares_forms_in_either_way_is_sent_them(peer: Peer, capabilities: Any) -> None:
    peer.needs_tool(ELICITING)
    client = join(peer, capabilities)
    with streaming(client, ELICITING) as stream:
        assert question(client, stream)["params"].get("mode", "form") == "form"


@clause("mcp-2025-11-25:elicitation:declared-modes")
@pytest.mark.parametrize("capabilities", FORM_ONLY, ids=str)
def test_a_client_that_only_has_forms_is_sent_no_urls(peer: Peer, capabilities: Any) -> None:
    tool = tool_named(peer, "elicit", "url")
    asking = questions_of(join(peer, capabilities), tool)
    assert [each for each in asking if each["params"].get("mode") == "url"] == []


@clause("mcp-2025-11-25:elicitation.actions:accept")
def test_what_was_filled_in_reaches_the_tool(peer: Peer) -> None:
    client, stream, asking = asked(peer, ELICITING, id="the-call")
    with stream:
        client.respond(asking, accepted(filled(asking["params"]["requestedSchema"], "Ada-4711")))
        response = final(stream, "the-call")
    assert not failed(response)
    assert "Ada-4711" in text_of(response["result"])


@clause("mcp-2025-11-25:elicitation.actions:decline", "mcp-2025-11-25:elicitation.actions:cancel")
def test_declined_cancelled_and_accepted_are_told_apart(peer: Peer) -> None:
    schema = form_of(peer, ELICITING)["requestedSchema"]
    ends = [
        ended(peer, ELICITING, reply)
        for reply in (accepted(filled(schema, "Ada")), {"action": "decline"}, {"action": "cancel"})
    ]
    texts = [text_of(each["result"]) if "result" in each else str(each["error"]) for each in ends]
    assert len(set(texts)) == 3


@clause(
    "mcp-2025-11-25:elicitation.form-security:server-validates",
    "mcp-2025-06-18:elicitation.security:both-validate",
)
@pytest.mark.parametrize("content", UNFIT_FORMS, ids=str)
def test_what_does_not_fit_the_form_is_not_taken_for_an_answer(peer: Peer, content: Any) -> None:
    assert not taken(peer, ELICITING, ended(peer, ELICITING, accepted(content)))


@clause(
    "mcp-2025-11-25:elicitation.form-security:server-validates",
    "mcp-2025-06-18:elicitation.security:both-validate",
)
@pytest.mark.parametrize("value", [4711, None, ["4711"], {"n": 4711}], ids=str)
def test_a_value_of_the_wrong_type_is_not_taken_for_an_answer(peer: Peer, value: Any) -> None:
    client, stream, asking = asked(peer, ELICITING, id="the-call")
    names = asking["params"]["requestedSchema"]["properties"]
    with stream:
        client.respond(asking, accepted(dict.fromkeys(names, value)))
        response = final(stream, "the-call")
    assert not taken(peer, ELICITING, response)
    assert is_fine(client)


@clause("mcp-2025-11-25:elicitation.security:bound", "mcp-2025-11-25:elicitation.state:not-session-only")
@pytest.mark.parametrize("user", [None, "alice"])
def test_nobody_else_can_answer_an_elicitation(peer: Peer, user: str | None) -> None:
    client, stream, asking = asked(peer, ELICITING, id="the-call")
    other = join(peer, EVERYTHING, **({} if user is None else {"token": peer.site.token_of(user)}))
    schema = asking["params"]["requestedSchema"]
    with stream:
        other.respond(asking, accepted(filled(schema, "Mallory")))
        if user is not None:
            stolen = other.message("ping")
            assert other.post(stolen, {"mcp-session-id": client.session}).status == 404
            reply = {"jsonrpc": "2.0", "id": asking["id"], "result": accepted(filled(schema, "Mallory"))}
            assert other.post(reply, {"mcp-session-id": client.session}).status == 404
        assert [each for each in heard(stream) if is_response(each)] == []
        client.respond(asking, accepted(filled(schema, "Ada")))
        text = text_of(final(stream, "the-call")["result"])
    assert "Ada" in text
    assert "Mallory" not in text


@clause("mcp-2025-11-25:elicitation.state:identity", "mcp-2025-11-25:elicitation.state:protected")
def test_the_session_alone_does_not_let_anybody_answer(peer: Peer) -> None:
    if peer.token is None:
        raise NotApplicable("the server is open")
    client, stream, asking = asked(peer, ELICITING, id="the-call")
    reply = {"jsonrpc": "2.0", "id": asking["id"], "result": accepted({"response": "Mallory"})}
    with stream:
        assert client.post(reply, {"authorization": None}).status == 401
        assert client.post(reply, {"authorization": "Bearer nonsense"}).status == 401
        client.respond(asking, {"action": "decline"})
        assert "Mallory" not in str(final(stream, "the-call"))


def url_params(peer: Peer) -> Message:
    """Give the params with which a tool sends the person to a URL."""
    tool = tool_named(peer, "elicit", "url")
    client = join(peer, BOTH)
    with streaming(client, tool) as stream:
        params: Message = question(client, stream)["params"]
    return params


@clause(
    "mcp-2025-11-25:elicitation.url:members",
    "mcp-2025-11-25:elicitation.url:valid",
    "mcp-2025-11-25:elicitation.urls:https",
)
def test_a_url_elicitation_has_its_mode_a_message_an_id_and_a_valid_url(peer: Peer) -> None:
    params = url_params(peer)
    assert params["mode"] == "url"
    assert re.search(r"\w", params["message"])
    assert isinstance(params["elicitationId"], str)
    assert params["elicitationId"]
    parts = urlsplit(params["url"])
    assert parts.hostname
    assert parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1"))


@clause("mcp-2025-11-25:elicitation.urls:no-personal")
def test_the_url_of_an_elicitation_names_nobody_and_holds_no_credentials(peer: Peer) -> None:
    url = url_params(peer)["url"]
    known = [part for part in str(peer.token).split(".") if len(part) > 8]
    known += [] if peer.site.server is None else [peer.site.server.user]
    assert [each for each in known if each in url] == []
    assert not urlsplit(url).username
    assert not SECRETS.search(url)


@clause("mcp-2025-11-25:elicitation.url:complete-same-client", "mcp-2025-11-25:elicitation.url:complete-id")
def test_that_a_url_elicitation_is_complete_is_told_to_its_own_client(peer: Peer) -> None:
    tool = tool_named(peer, "elicit", "url")
    client, other = join(peer, BOTH), join(peer, BOTH)
    with other.listen() as elsewhere, client.listen() as standalone, streaming(client, tool) as stream:
        asking = question(client, stream)
        client.respond(asking, {"action": "accept"})
        said = [*heard(stream, 1.0), *heard(standalone)]
        complete = [each for each in said if each.get("method") == "notifications/elicitation/complete"]
        if not complete:
            raise NotApplicable("no completion is told")
        assert all(each["params"]["elicitationId"] == asking["params"]["elicitationId"] for each in complete)
        assert heard(elsewhere) == []


@clause(
    "mcp-2025-11-25:elicitation.required:list",
    "mcp-2025-11-25:elicitation.required:url-mode",
    "mcp-2025-11-25:elicitation.required:code",
)
def test_a_call_that_needs_a_url_first_lists_the_url_elicitations(peer: Peer) -> None:
    tool = tool_named(peer, "url", "required")
    error = join(peer, BOTH).call(tool).error
    assert error["code"] == URL_REQUIRED
    assert error["data"]["elicitations"]
    for each in error["data"]["elicitations"]:
        assert each["mode"] == "url"
        assert each["elicitationId"]
        assert urlsplit(each["url"]).hostname


@clause(
    "mcp-2025-11-25:elicitation.required:only-then",
    "mcp-2025-11-25:elicitation.oauth:not-own-authorization",
)
def test_calls_that_need_no_url_are_never_answered_so(peer: Peer) -> None:
    client = join(peer, BOTH)
    answers = [client.call(name) for name in ("test_simple_text", "test_error_handling", "no_such_tool")]
    answers += [client.request("no/such/method"), client.request("tools/call", {"name": 7})]
    stranger = join(peer, BOTH).request("ping", headers={"authorization": None})
    assert [answer for answer in answers if answer.messages and answer.code == URL_REQUIRED] == []
    assert stranger.status in (200, 401), "whoever has no token is sent to the authorization server"


# Sampling


@clause("mcp-2025-11-25:basic.schema:sampling")
def test_a_sampling_request_fits_the_schema_and_its_answer_reaches_the_tool(peer: Peer) -> None:
    peer.needs_tool(SAMPLING)
    client = join(peer, {"sampling": {}})
    with streaming(client, SAMPLING) as stream:
        said = exchange(client, stream, lambda _: SAMPLED)
    questions = [message for message in said if is_request(message)]
    assert [each["method"] for each in questions] == ["sampling/createMessage"]
    assert SAMPLED["content"]["text"] in text_of(said[-1]["result"])
    assert peer.recorder.violations == []


def sampling_of(peer: Peer, capabilities: Message) -> Message:
    """Give the params with which a client of some capabilities is asked to sample."""
    peer.needs_tool(SAMPLING)
    client = join(peer, capabilities)
    with streaming(client, SAMPLING) as stream:
        params: Message = question(client, stream)["params"]
    return params


@clause("mcp-2025-11-25:sampling.tools:only-declared")
@pytest.mark.parametrize("sampling", [{}, {"context": {}}], ids=str)
def test_a_client_that_has_no_tools_is_not_sent_any(peer: Peer, sampling: Any) -> None:
    assert not {"tools", "toolChoice"} & sampling_of(peer, {"sampling": sampling}).keys()


@clause("mcp-2025-11-25:sampling.context:avoided", "mcp-2025-11-25:sampling.context:only-declared")
@pytest.mark.parametrize("sampling", [{}, {"tools": {}}, {"context": {}}], ids=str)
def test_no_context_of_other_servers_is_asked_for(peer: Peer, sampling: Any) -> None:
    assert sampling_of(peer, {"sampling": sampling}).get("includeContext", "none") == "none"


@clause("mcp-2025-11-25:sampling.security:validates")
@pytest.mark.parametrize(
    "reply",
    [
        {"note": "4711"},
        {"role": "assistant", "model": "4711"},
        {"role": "assistant", "content": "4711", "model": "a-model"},
        {"role": "robot", "content": {"type": "text", "text": "4711"}, "model": "a-model"},
        {"role": "assistant", "content": {"type": "text", "text": 4711}, "model": "a-model"},
        {"role": "assistant", "content": {"type": "unheard-of", "text": "4711"}, "model": "a-model"},
    ],
    ids=str,
)
def test_what_is_no_sampling_result_is_not_taken_for_one(peer: Peer, reply: Any) -> None:
    assert not taken(peer, SAMPLING, ended(peer, SAMPLING, reply))
    assert is_fine(join(peer))


@clause("mcp-2025-11-25:sampling.security:validates")
def test_a_refusal_to_sample_ends_the_call_and_does_no_harm(peer: Peer) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    error = {"code": -1, "message": "User rejected sampling request"}
    with stream:
        assert client.post({"jsonrpc": "2.0", "id": asking["id"], "error": error}).status == 202
        response = final(stream, "the-call")
    assert failed(response) or text_of(response["result"])
    assert is_fine(client)


@clause("mcp-2025-11-25:transports.sending:response-202", revisions=["2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_answer_to_a_question_is_accepted_without_a_body(peer: Peer) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    with stream:
        answer = client.respond(asking, SAMPLED)
        assert (answer.status, answer.body) == (202, b"")
        assert not failed(final(stream, "the-call"))


# Roots


@clause("mcp-2025-11-25:roots.implementation:checks-capability")
def test_a_client_that_declared_no_roots_is_not_asked_for_any(peer: Peer) -> None:
    client = join(peer, {"sampling": {}, "elicitation": {}})
    with client.listen() as standalone:
        if peer.has("tools"):
            simple_results(client)
        with contextlib.suppress(NotApplicable):
            tool = tool_named(peer, "roots")
            assert client.call(tool, timeout=3.0).response
        heard(standalone)
    assert [each for each in client.recorder.messages if each.get("method") == "roots/list"] == []


@clause("mcp-2025-11-25:roots.implementation:changes")
def test_that_roots_changed_is_accepted(peer: Peer) -> None:
    client = join(peer, {"roots": {"listChanged": True}})
    for _ in range(3):
        answer = client.notify("notifications/roots/list_changed")
        assert (answer.status, answer.body) == (202, b"")
    assert is_fine(client)


@clause("mcp-2025-11-25:basic.schema:roots")
def test_a_request_for_roots_fits_the_schema_and_its_answer_reaches_the_tool(peer: Peer) -> None:
    tool = tool_named(peer, "roots")
    client = join(peer, {"roots": {}})
    with streaming(client, tool) as stream:
        said = exchange(client, stream, lambda _: {"roots": [{"uri": "file:///srv/ada-4711", "name": "A root"}]})
    assert [message["method"] for message in said if is_request(message)] == ["roots/list"]
    assert "ada-4711" in text_of(said[-1]["result"])
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:roots.security:unavailable")
@pytest.mark.parametrize(
    "reply",
    [{"error": {"code": -32601, "message": "Roots not supported"}}, {"result": {}}, {"result": {"roots": "none"}}],
    ids=str,
)
def test_a_client_that_does_not_list_its_roots_does_no_harm(peer: Peer, reply: Any) -> None:
    tool = tool_named(peer, "roots")
    client = join(peer, {"roots": {}})
    with streaming(client, tool, id="the-call") as stream:
        asking = question(client, stream)
        assert client.post({"jsonrpc": "2.0", "id": asking["id"], **reply}).status == 202
        assert final(stream, "the-call")
    assert is_fine(client)
