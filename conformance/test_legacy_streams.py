"""Event streams of the revisions up to 2025-11-25: what goes on which, and how one is taken up again."""

import contextlib

import pytest

from conformance.clauses import clause
from conformance.client import Event, Legacy, NotApplicable, Stream
from conformance.legacy import (
    ELICITING,
    LOGGING,
    PROGRESSING,
    SAMPLED,
    SAMPLING,
    accepted,
    asked,
    final,
    heard,
    is_request,
    is_response,
    join,
    overheard,
    params_of,
    question,
    refused,
    streaming,
)
from conformance.peer import Peer

RECONNECTING = "test_reconnection"
CHANGING = "test_trigger_tool_change"


def resumed(client: Legacy, last_event_id: str) -> Stream:
    """Resume a stream; not applicable where the server resumes none."""
    answer = client.wire(
        "GET",
        usual={"accept": "text/event-stream", **client.session_headers()},
        headers={"last-event-id": last_event_id},
    )
    stream = Stream(answer, client)
    if stream.content_type != "text/event-stream":
        answer.close()
        raise NotApplicable(f"no stream is resumed: {stream.status}")
    return stream


def id_of(stream: Stream) -> str:
    """Give the identifier of the last event; not applicable where events have none."""
    if stream.last_id is None:
        raise NotApplicable("the events of this revision have no identifiers")
    return stream.last_id


def closed_early(client: Legacy) -> list[Event]:
    """Call the tool whose connection is closed in the middle, and give the events up to there."""
    with streaming(client, RECONNECTING) as stream:
        events = list(stream.events())
    if any(event.data and is_response(event.message) for event in events):
        raise NotApplicable("the connection stays open until the response")
    return events


@clause("mcp-2025-11-25:transports.sending:priming")
def test_a_request_stream_begins_with_an_id_and_no_data(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    with streaming(join(peer), PROGRESSING, "a") as stream:
        first = stream.next()
    assert first is not None
    assert first.id
    assert first.data == ""


@clause(
    "mcp-2025-11-25:transports.sending:eventually-response", "mcp-2025-11-25:transports.sending:ends-after-response"
)
@pytest.mark.parametrize("tool", [PROGRESSING, LOGGING])
def test_a_request_stream_carries_its_response_and_ends(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    client = join(peer)
    with streaming(client, tool, "a", id="the-call") as stream:
        assert final(stream, "the-call")
        assert [event for event in stream.events(2.0) if event.data] == []
        assert stream.wire.complete, "the stream must be ended properly"


@clause("mcp-2025-11-25:transports.sending:related")
def test_two_request_streams_at_once_carry_their_own_messages(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    with (
        streaming(client, PROGRESSING, "one", id="call-1") as first,
        streaming(client, PROGRESSING, "two", id="call-2") as second,
    ):
        said = {"one": list(first.messages()), "two": list(second.messages())}
    for token, messages in said.items():
        tokens = {
            each["params"]["progressToken"] for each in messages if each.get("method") == "notifications/progress"
        }
        assert tokens <= {token}
        assert [each["id"] for each in messages if is_response(each)] == ["call-1" if token == "one" else "call-2"]


@clause("mcp-2025-11-25:transports.listening:unrelated", "mcp-2025-11-25:transports.listening:no-response")
@pytest.mark.parametrize("tool", [PROGRESSING, LOGGING, "test_simple_text"])
def test_the_standalone_stream_carries_nothing_of_a_running_call(peer: Peer, tool: str) -> None:
    peer.needs_tool(tool)
    client = join(peer)
    with client.listen() as standalone:
        if peer.has("logging"):
            client.request("logging/setLevel", {"level": "debug"})
        assert client.request("tools/call", params_of(tool, "a")).result
        assert heard(standalone) == []


@clause("mcp-2025-11-25:transports.listening:no-response", "mcp-2025-11-25:transports.listening:unrelated")
def test_questions_of_a_call_go_out_on_its_own_stream(peer: Peer) -> None:
    peer.needs_tool(SAMPLING)
    client = join(peer, {"sampling": {}})
    with client.listen() as standalone, streaming(client, SAMPLING) as stream:
        asking = question(client, stream)
        client.respond(asking, SAMPLED)
        final(stream)
        assert heard(standalone) == []


@clause("mcp-2025-11-25:transports.multiple:one-stream")
def test_a_message_goes_out_on_one_of_several_streams(peer: Peer) -> None:
    peer.needs("subscriptions")
    peer.needs_tool(CHANGING)
    client = join(peer)
    with client.listen() as first:
        wire = client.wire("GET", usual={"accept": "text/event-stream", **client.session_headers()})
        second = Stream(wire, client)
        with second:
            triggered = client.call(CHANGING).messages
            said = [*triggered, *heard(first), *(heard(second) if second.status == 200 else [])]
    changes = [each for each in said if each.get("method") == "notifications/tools/list_changed"]
    if not changes:
        raise NotApplicable("nothing is announced")
    assert len(changes) == 1, "the same message went out on several streams"


@clause("mcp-2025-11-25:transports.sending:early-close", "mcp-2025-11-25:transports.sending:retry")
def test_before_a_connection_is_closed_in_the_middle_the_client_is_told_when_to_come_back(peer: Peer) -> None:
    peer.needs_tool(RECONNECTING)
    events = closed_early(join(peer))
    assert events[0].id, "without an id the client can not come back"
    delays = [event.retry for event in events if event.retry is not None]
    assert delays
    assert all(delay.isascii() and delay.isdigit() for delay in delays)


@clause("mcp-2025-06-18:transports.sending:no-early-close")
def test_the_connection_stays_open_until_the_response(peer: Peer) -> None:
    peer.needs_tool(RECONNECTING)
    client = join(peer)
    with streaming(client, RECONNECTING, id="the-call") as stream:
        assert "result" in final(stream, "the-call")


@clause("mcp-2025-11-25:transports.resuming:redelivery")
def test_a_stream_that_was_closed_in_the_middle_goes_on_by_get(peer: Peer) -> None:
    peer.needs_tool(RECONNECTING)
    client = join(peer)
    with streaming(client, RECONNECTING, id="the-call") as stream:
        if any(is_response(message) for message in stream.messages()):
            raise NotApplicable("the connection stays open until the response")
        last = id_of(stream)
    with resumed(client, last) as stream:
        assert "result" in final(stream, "the-call")


@clause("mcp-2025-11-25:transports.resuming:redelivery")
def test_what_came_after_the_event_is_delivered_again(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    with streaming(client, PROGRESSING, "a", id="the-call") as stream:
        events = list(stream.events())
    id_of(stream)
    seen = [event for event in events if event.id]
    for place, event in enumerate(seen):
        with resumed(client, str(event.id)) as stream:
            again = overheard(stream)
        wanted = [each.data for each in seen[place + 1 :] if each.data]
        assert [each.data for each in again if each.data] == wanted


@clause("mcp-2025-11-25:transports.sending:disconnect-no-cancel")
@pytest.mark.parametrize("tool", [SAMPLING, ELICITING])
def test_a_call_whose_client_went_away_goes_on_and_its_result_can_be_had(peer: Peer, tool: str) -> None:
    client, stream, asking = asked(peer, tool, id="the-call")
    stream.close()
    last = id_of(stream)
    answer = client.respond(asking, SAMPLED if tool == SAMPLING else accepted({"response": "Ada", "name": "Ada"}))
    assert answer.status == 202
    with resumed(client, last) as stream:
        assert "result" in final(stream, "the-call")


@clause("mcp-2025-11-25:transports.resuming:unique-ids")
def test_no_two_events_of_a_session_have_the_same_id(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    ids: list[str] = []
    with client.listen() as standalone:
        for number in range(3):
            with streaming(client, PROGRESSING, number) as stream:
                ids += [event.id for event in stream.events() if event.id]
        if peer.has("subscriptions"):
            client.call(CHANGING)
        ids += [event.id for event in overheard(standalone) if event.id]
    if not ids:
        raise NotApplicable("the events of this revision have no identifiers")
    assert len(set(ids)) == len(ids)


@clause("mcp-2025-11-25:transports.resuming:ids-name-stream", "mcp-2025-11-25:transports.resuming:own-stream-only")
def test_of_two_broken_streams_each_is_found_by_its_own_event_and_gets_its_own_messages(peer: Peer) -> None:
    peer.needs_tool(SAMPLING)
    client = join(peer, {"sampling": {}})
    calls = ("call-1", "call-2")
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(streaming(client, SAMPLING, id=call)) for call in calls]
        questions = [question(client, stream) for stream in streams]
    last = [id_of(stream) for stream in streams]
    for asking in reversed(questions):
        client.respond(asking, SAMPLED)
    for call, event in zip(calls, last, strict=True):
        with resumed(client, event) as stream:
            said = heard(stream)
        assert [message["id"] for message in said if is_response(message)] == [call]
        assert [message for message in said if is_request(message)] == []


@clause("mcp-2025-11-25:transports.resuming:own-stream-only")
def test_an_event_of_another_session_gives_nothing(peer: Peer) -> None:
    peer.needs_tool(PROGRESSING)
    owner, other = join(peer), join(peer)
    with streaming(owner, PROGRESSING, "a", id="the-call") as stream:
        first = next((event.id for event in stream.events() if event.id), None)
    if first is None:
        raise NotApplicable("the events of this revision have no identifiers")
    usual = {"accept": "text/event-stream", **other.session_headers(), "last-event-id": first}
    with Stream(other.wire("GET", usual=usual), other) as stream:
        assert stream.status != 200 or heard(stream) == []


@clause("mcp-2025-11-25:transports.resuming:own-stream-only")
@pytest.mark.parametrize("event", ["", "nonsense", "0", "-1", "é", "a" * 4096], ids=lambda text: text[:10])
def test_an_event_that_never_was_gives_nothing_of_others(peer: Peer, event: str) -> None:
    peer.needs_tool(PROGRESSING)
    client = join(peer)
    with streaming(client, PROGRESSING, "a", id="the-call") as stream:
        final(stream)
    usual = {"accept": "text/event-stream", **client.session_headers(), "last-event-id": event}
    with Stream(client.wire("GET", usual=usual), client) as stream:
        assert stream.status < 500
        assert stream.status != 200 or heard(stream) == []


@clause("mcp-2025-11-25:cancellation:stop")
def test_a_client_that_went_away_can_still_cancel(peer: Peer) -> None:
    client, stream, asking = asked(peer, SAMPLING, id="the-call")
    stream.close()
    last = id_of(stream)
    assert client.notify("notifications/cancelled", {"requestId": "the-call"}).status == 202
    client.respond(asking, SAMPLED)
    usual = {"accept": "text/event-stream", **client.session_headers(), "last-event-id": last}
    with Stream(client.wire("GET", usual=usual), client) as stream:
        said = heard(stream) if stream.status == 200 else []
    assert [message for message in said if is_response(message) and "result" in message] == []


@clause("mcp-2025-11-25:transports.listening:stream-or-405")
def test_a_get_that_takes_no_streams_is_refused(peer: Peer) -> None:
    client = join(peer)
    with client.wire("GET", usual={**client.session_headers(), "accept": "application/json"}) as wire:
        assert wire.status in (405, 406)
    assert not refused(client.request("ping"))
