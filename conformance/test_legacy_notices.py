"""Logging, progress, cancellation and pages of the revisions up to 2025-11-25."""

import itertools
import json
import re
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Legacy, NotApplicable
from conformance.legacy import (
    ELICITING,
    LOGGING,
    PROGRESSING,
    SAMPLED,
    SAMPLING,
    Message,
    accepted,
    asked,
    heard,
    is_fine,
    is_response,
    join,
    pages,
    params_of,
    refused,
    streaming,
)
from conformance.peer import Peer

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
LISTS = {
    "tools": ("tools/list", "tools", "name"),
    "resources": ("resources/list", "resources", "uri"),
    "templates": ("resources/templates/list", "resourceTemplates", "uriTemplate"),
    "prompts": ("prompts/list", "prompts", "name"),
}
FEATURES = {"tools": "tools", "resources": "resources", "templates": "resources", "prompts": "prompts"}
# Paths of a file system, addresses in memory, and what a failing program prints.
INTERNALS = re.compile(r"Traceback|0x[0-9a-f]{6,}|site-packages|/(?:home|usr|etc|var|root|tmp|opt)/|\.py\b")
REMARK = "notifications/message"
PROGRESS = "notifications/progress"


def remarks(client: Legacy, level: str | None) -> list[Message]:
    """Set a level, call the tool that logs, and give the params of its log messages."""
    if level is not None:
        assert client.request("logging/setLevel", {"level": level}).result == {}
    with client.listen() as standalone:
        said = client.call(LOGGING).messages + heard(standalone, 0.2)
    return [message["params"] for message in said if message.get("method") == REMARK]


def all_remarks(peer: Peer) -> list[Message]:
    """Give what the tool that logs has to say when it may say anything."""
    peer.needs_tool(LOGGING)
    found = remarks(join(peer), "debug")
    assert found, "at the lowest level everything is sent"
    return found


@clause("mcp-2025-11-25:logging.capabilities:declared")
def test_a_server_that_logs_declares_it(peer: Peer) -> None:
    peer.needs_tool(LOGGING)
    client = join(peer)
    if not [message for message in client.call(LOGGING).messages if message.get("method") == REMARK]:
        raise NotApplicable("nothing is logged to a client that set no level")
    assert "logging" in client.initialized["capabilities"]


@clause("mcp-2025-11-25:logging.levels:minimum", "mcp-2025-11-25:basic.schema:logging")
@pytest.mark.parametrize("level", LEVELS)
def test_what_is_at_or_above_the_level_is_sent_and_nothing_else(peer: Peer, level: str) -> None:
    everything = [each["level"] for each in all_remarks(peer)]
    wanted = [each for each in everything if LEVELS.index(each) >= LEVELS.index(level)]
    assert [each["level"] for each in remarks(join(peer), level)] == wanted
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:logging.levels:minimum")
def test_a_level_counts_for_its_own_session_and_can_be_changed(peer: Peer) -> None:
    peer.needs_tool(LOGGING)
    quiet, open_ = join(peer), join(peer)
    assert remarks(quiet, "emergency") == []
    spoken = remarks(open_, "debug")
    assert spoken
    assert remarks(quiet, None) == []
    assert len(remarks(quiet, "debug")) == len(spoken)


@clause("mcp-2025-11-25:logging.errors:invalid-level")
@pytest.mark.parametrize("level", ["verbose", "INFO", "", 3, None, ["info"]], ids=repr)
def test_a_level_that_does_not_exist_is_answered_so(peer: Peer, level: Any) -> None:
    client = join(peer)
    assert client.request("logging/setLevel", {"level": level}).error["code"] == -32602
    assert is_fine(client)


@clause("mcp-2025-11-25:logging.implementation:context")
def test_log_messages_say_what_they_are_about(peer: Peer) -> None:
    assert all(each["data"] not in (None, "", {}, []) for each in all_remarks(peer))


@clause("mcp-2025-11-25:logging.implementation:logger-names")
def test_log_messages_from_one_place_have_one_logger_name(peer: Peer) -> None:
    first, second = all_remarks(peer), all_remarks(peer)
    assert [each.get("logger") for each in first] == [each.get("logger") for each in second]
    assert len({each.get("logger") for each in first}) == 1


@clause("mcp-2025-11-25:logging.security:credentials", "mcp-2025-11-25:logging.implementation:remove-sensitive")
def test_log_messages_hold_no_credentials(peer: Peer) -> None:
    text = json.dumps(all_remarks(peer))
    client = join(peer)
    secrets = [part for part in str(peer.token).split(".") if len(part) > 8]
    assert [secret for secret in [*secrets, str(client.session)] if secret in text] == []
    assert not re.search(r"(?i)bearer |password|secret|eyJ[A-Za-z0-9_-]{8}", text)


@clause("mcp-2025-11-25:logging.security:personal")
def test_log_messages_do_not_name_the_person(peer: Peer) -> None:
    if peer.site.server is None:
        raise NotApplicable("who the person is is not known")
    text = json.dumps([each["data"] for each in all_remarks(peer)])
    assert peer.site.server.user not in text
    assert not re.search(r"[\w.]+@[\w.]+\.\w+", text)


@clause("mcp-2025-11-25:logging.security:internals")
def test_log_messages_hold_no_internals(peer: Peer) -> None:
    assert not INTERNALS.search(json.dumps(all_remarks(peer)))


def progress_of(client: Legacy, token: Any) -> list[Message]:
    """Call the tool that makes progress, and give the params of its notifications."""
    answer = client.request("tools/call", params_of(PROGRESSING, token))
    assert answer.result
    return [message["params"] for message in answer.messages if message.get("method") == PROGRESS]


@clause("mcp-2025-11-25:progress:token-type", "mcp-2025-11-25:basic.schema:progress")
@pytest.mark.parametrize("token", [0, 1, -1, 2**53 - 1, "", "0", "a-token", "ü語"], ids=repr)
def test_progress_comes_with_the_token_as_it_was_sent(peer: Peer, token: Any) -> None:
    peer.needs_tool(PROGRESSING)
    said = progress_of(join(peer), token)
    if not said:
        raise NotApplicable("the server reports no progress here")
    assert [(each["progressToken"], type(each["progressToken"])) for each in said] == [(token, type(token))] * len(said)
    assert peer.recorder.violations == []


@clause("mcp-2025-11-25:progress:token-type")
@pytest.mark.parametrize("token", [True, None, 1.5, [], {}], ids=repr)
def test_what_is_no_token_brings_no_progress(peer: Peer, token: Any) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    params = {**params_of(PROGRESSING), "_meta": {"progressToken": token}}
    said = client.request("tools/call", params).messages
    assert [message for message in said if message.get("method") == PROGRESS] == []
    assert is_fine(client)


@clause("mcp-2025-11-25:progress:increases")
def test_progress_grows_with_each_notification(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    values = [each["progress"] for each in progress_of(join(peer), "a")]
    if not values:
        raise NotApplicable("the server reports no progress here")
    assert len(values) >= 2
    assert all(earlier < later for earlier, later in itertools.pairwise(values))


@clause("mcp-2025-11-25:progress:message")
def test_the_message_of_progress_is_text(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    messages = [each["message"] for each in progress_of(join(peer), "a") if "message" in each]
    if not messages:
        raise NotApplicable("progress has no messages here")
    assert all(re.search(r"\w", message) for message in messages)


@clause("mcp-2025-11-25:progress:known-token")
def test_without_a_token_there_is_no_progress(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    assert progress_of(client, None) == []
    progress_of(client, "an earlier one")
    assert progress_of(client, None) == []


@clause("mcp-2025-11-25:progress:stops", "mcp-2025-11-25:progress:in-progress")
def test_after_the_response_there_is_no_progress(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    with streaming(client, PROGRESSING, "a") as stream:
        said = list(stream.messages())
    assert is_response(said[-1])
    assert not any(is_response(message) for message in said[:-1])
    if peer.sessionful:
        with client.listen() as standalone:
            assert [each for each in heard(standalone) if each.get("method") == PROGRESS] == []


@clause("mcp-2025-11-25:cancellation:stop", "mcp-2025-11-25:cancellation:no-response")
@pytest.mark.parametrize("tool", [SAMPLING, ELICITING])
@pytest.mark.parametrize("request_id", ["the-call", 0])
def test_a_cancelled_call_goes_no_further_and_is_not_answered(peer: Peer, tool: str, request_id: Any) -> None:
    client, stream, asking = asked(peer, tool, id=request_id)
    with stream:
        answer = client.notify("notifications/cancelled", {"requestId": request_id, "reason": "a test"})
        assert (answer.status, answer.body) == (202, b"")
        client.respond(asking, SAMPLED if tool == SAMPLING else accepted({"response": "Ada", "name": "Ada"}))
        said = heard(stream, 1.0)
    assert [message for message in said if is_response(message)] == []
    assert is_fine(client)


@clause("mcp-2025-11-25:cancellation:own-requests")
def test_if_the_server_cancels_its_question_it_names_that_question(peer: Peer) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    with stream:
        client.notify("notifications/cancelled", {"requestId": "the-call"})
        said = heard(stream, 1.0)
    cancelled = [each for each in said if each.get("method") == "notifications/cancelled"]
    assert all(each["params"]["requestId"] == asking["id"] for each in cancelled)


@clause("mcp-2025-11-25:cancellation:race")
def test_a_cancellation_that_comes_late_does_no_harm(peer: Peer) -> None:
    client = join(peer)
    assert client.request("ping", id="done").result == {}
    for _ in range(2):
        assert client.notify("notifications/cancelled", {"requestId": "done"}).status == 202
    assert client.request("ping", id="next").result == {}


@clause("mcp-2025-11-25:cancellation:unknown")
@pytest.mark.parametrize("request_id", [4711, -1, "never sent", ""], ids=repr)
def test_a_cancellation_of_what_was_never_asked_is_ignored(peer: Peer, request_id: Any) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    with stream:
        answer = client.notify("notifications/cancelled", {"requestId": request_id})
        assert (answer.status, answer.body) == (202, b"")
        client.respond(asking, SAMPLED)
        assert [each["id"] for each in stream.messages() if is_response(each)] == ["the-call"]


@clause("mcp-2025-11-25:cancellation:unknown")
def test_a_cancellation_from_another_session_is_ignored(peer: Peer) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    with stream:
        join(peer).notify("notifications/cancelled", {"requestId": "the-call"})
        client.respond(asking, SAMPLED)
        assert [each["id"] for each in stream.messages() if is_response(each)] == ["the-call"]


@clause("mcp-2025-11-25:cancellation:malformed")
@pytest.mark.parametrize(
    "params",
    [None, {}, {"requestId": None}, {"requestId": ["the-call"]}, {"requestId": {"id": 1}}, {"reason": "none"}],
    ids=str,
)
def test_a_malformed_cancellation_is_ignored(peer: Peer, params: Any) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    with stream:
        assert client.notify("notifications/cancelled", params).status in (202, 400)
        client.respond(asking, SAMPLED)
        assert [each["id"] for each in stream.messages() if is_response(each)] == ["the-call"]


def listing_of(peer: Peer, name: str) -> tuple[Legacy, str, str, str]:
    """Give a client and what to list; not applicable where the server does not offer that."""
    peer.needs(FEATURES[name])
    return join(peer), *LISTS[name]


@clause("mcp-2025-11-25:pagination:stable")
@pytest.mark.parametrize("name", LISTS)
def test_pages_hold_every_entry_once_and_come_again_the_same(peer: Peer, name: str) -> None:
    client, method, member, key = listing_of(peer, name)
    first, second = pages(client, method), pages(client, method)
    assert [page[member] for page in first] == [page[member] for page in second]
    keys = [item[key] for page in first for item in page[member]]
    assert len(set(keys)) == len(keys)


@clause("mcp-2025-11-25:pagination:stable")
@pytest.mark.parametrize("name", LISTS)
def test_a_cursor_leads_to_the_same_page_each_time(peer: Peer, name: str) -> None:
    client, method, member, _ = listing_of(peer, name)
    cursors = [page["nextCursor"] for page in pages(client, method) if "nextCursor" in page]
    if not cursors:
        raise NotApplicable(f"{method} has one page")
    for cursor in cursors:
        again = [client.request(method, {"cursor": cursor}).result[member] for _ in range(2)]
        assert again[0] == again[1]


@clause("mcp-2025-11-25:pagination:invalid-cursor", "mcp-2025-11-25:pagination:graceful")
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("cursor", ["no cursor of ours", "", "-1", "999999", 7, ["a"]], ids=repr)
def test_a_cursor_that_the_server_did_not_give_is_refused_as_a_parameter(peer: Peer, name: str, cursor: Any) -> None:
    client, method, _, _ = listing_of(peer, name)
    answer = client.request(method, {"cursor": cursor})
    assert refused(answer), answer
    assert answer.error["code"] == -32602
    assert is_fine(client)
