"""What a call says and asks while it runs: the same function, every era and mode."""

import json
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing
from pydantic import BaseModel

from tenantry import CallContext, ListRoots, Sample, ToolError, tool
from tenantry.jsonrpc import Response
from tenantry.mcp.revisions import LEGACY
from tenantry.server import request_stream
from tenantry.server.bus import Bus
from tenantry.server.changes import Changes
from tenantry.server.channels import LegacyChannel, Line
from tenantry.server.cut import Cut
from tenantry.server.inbox import Inbox
from tenantry.server.request_stream import RequestStream
from tests.server.in_process import InProcess, data_of, in_process, quiet, request, until
from tests.server.test_sessions import ALICE


class Colour(BaseModel):
    colour: str


@tool
async def paint(what: str, ctx: CallContext) -> str:
    """Ask for a colour and paint."""
    await ctx.progress(1, 3, "looking for a brush")
    answer = await ctx.elicit(f"Which colour for the {what}?", Colour)
    await ctx.progress(2, 3)
    ctx.log("warning", {"wet": True}, "painter")
    if not answer.accepted:
        return f"the {what} stays as it is"
    return f"the {what} is {answer.content['colour']}"


@tool
async def interview(ctx: CallContext) -> str:
    """Ask twice, and two things at once."""
    first = await ctx.elicit("Name?", {"type": "object", "properties": {"name": {"type": "string"}}})
    both = await ctx.ask(model=Sample(prompt="Say hi"), roots=ListRoots())
    return f"{first.content['name']} {both['model'].text} {both['roots'][0]['uri']}"


@tool
async def stubborn(ctx: CallContext) -> str:
    """Catch everything that can be caught."""
    try:
        await ctx.elicit("?", Colour)
    except Exception as error:  # noqa: BLE001  # this is what the test is about
        raise ToolError(f"caught {type(error).__name__}") from None
    return "asked"


OFFER = [paint, interview, stubborn]
CAPABLE: dict[str, Any] = {"elicitation": {}, "sampling": {}, "roots": {}}
RED = {"action": "accept", "content": {"colour": "red"}}


async def open_session(
    server: InProcess, token: str, revision: str = "2025-11-25", capabilities=None
) -> dict[str, str]:
    answer = await server.initialize(token, revision, CAPABLE if capabilities is None else capabilities)
    headers = {"mcp_session_id": answer.headers["mcp-session-id"], "mcp_protocol_version": revision}
    await server.post(request("notifications/initialized", None), token, **headers)
    return headers


async def converse(
    server: InProcess, token: str, headers: dict[str, str], message: dict[str, Any], answers: dict[str, object]
):
    """Call, and answer each request on the stream by its method; give all messages of the stream."""
    heard: list[dict[str, Any]] = []
    replies: list[object] = []

    async with trio.open_nursery() as nursery:

        async def reply(asked: dict[str, Any]) -> None:
            response = {"jsonrpc": "2.0", "id": asked["id"], "result": answers[asked["method"]]}
            replies.append((await server.post(response, token, **headers)).status)

        def hear(part: bytes) -> None:
            for data in data_of(part):
                heard.append(json.loads(data))
                if "method" in heard[-1] and "id" in heard[-1]:
                    nursery.start_soon(reply, heard[-1])

        with trio.fail_after(10):
            answer = await server.post(message, token, hear=hear, **headers)
    assert set(replies) <= {202}
    return answer, heard


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_legacy_client_is_asked_on_the_stream_of_its_call(tmp_path, revision):
    async with in_process(tmp_path, offer=OFFER) as server:
        token = server.token()
        headers = await open_session(server, token, revision)
        call = request("tools/call", 5, name="paint", arguments={"what": "door"}, _meta={"progressToken": 0})
        answer, heard = await converse(server, token, headers, call, {"elicitation/create": RED})

        assert answer.headers["content-type"] == "text/event-stream"
        assert [message.get("method", "response") for message in heard] == [
            "notifications/progress",
            "elicitation/create",
            "notifications/progress",
            "notifications/message",
            "response",
        ]
        assert heard[0]["params"] == {"progressToken": 0, "progress": 1, "total": 3, "message": "looking for a brush"}
        assert ("mode" in heard[1]["params"]) == (revision == "2025-11-25")
        assert heard[4]["id"] == 5
        assert heard[4]["result"]["content"][0]["text"] == "the door is red"
        assert len(server.records()) == 1


async def test_a_modern_client_is_asked_by_a_result_and_calls_again(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        token = server.token()
        first = await server.modern(
            "tools/call", token, 1, capabilities=CAPABLE, name="paint", arguments={"what": "door"}
        )
        asked = first.json["result"]
        ((key, question),) = asked["inputRequests"].items()
        second = await server.modern(
            "tools/call",
            token,
            2,
            capabilities=CAPABLE,
            meta={"progressToken": "p", "io.modelcontextprotocol/logLevel": "info"},
            name="paint",
            arguments={"what": "door"},
            inputResponses={key: RED},
            requestState=asked["requestState"],
        )

        assert asked["resultType"] == "input_required"
        assert question["method"] == "elicitation/create"
        assert question["params"]["mode"] == "form"
        assert second.events[-1]["result"]["content"][0]["text"] == "the door is red"
        assert second.events[-1]["result"]["resultType"] == "complete"
        assert [entry["outcome"] for entry in server.records()] == ["input_required", "succeeded"]


async def test_without_token_and_level_a_modern_client_hears_nothing_but_the_answer(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await server.modern(
            "tools/call",
            server.token(),
            capabilities=CAPABLE,
            name="paint",
            arguments={"what": "door"},
            inputResponses={"elicitation-1": RED},
        )

        assert answer.headers["content-type"] == "application/json"


async def rounds(server: InProcess, token: str, **changes):
    """Go through the interview, with something changed in the last round."""
    first = (await server.modern("tools/call", token, 1, capabilities=CAPABLE, name="interview")).json["result"]
    second = (
        await server.modern(
            "tools/call",
            token,
            2,
            capabilities=CAPABLE,
            name="interview",
            requestState=first["requestState"],
            inputResponses={"elicitation-1": {"action": "accept", "content": {"name": "Ada"}}},
        )
    ).json["result"]
    assert set(second["inputRequests"]) == {"model", "roots"}
    assert second["requestState"] != first["requestState"]
    answers = {
        "model": {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"},
        "roots": {"roots": [{"uri": "file:///a"}]},
    }
    last = {
        "bearer": token,
        "name": "interview",
        "requestState": second["requestState"],
        "inputResponses": answers,
    } | changes
    return await server.modern("tools/call", last.pop("bearer"), 3, capabilities=CAPABLE, **last)


async def test_answers_of_earlier_rounds_are_carried_by_the_state(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await rounds(server, server.token())

        assert answer.json["result"]["content"][0]["text"] == "Ada hi file:///a"


async def test_a_missing_answer_is_asked_for_again(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await rounds(server, server.token(), inputResponses={"nonsense": {}})

        assert set(answer.json["result"]["inputRequests"]) == {"model", "roots"}


@pytest.mark.parametrize("state", ["nonsense", "", 5, {}])
async def test_a_state_that_is_not_ours_is_refused(tmp_path, state):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await rounds(server, server.token(), requestState=state)

        assert (answer.status, answer.json["error"]["code"]) == (400, -32602)


async def test_a_state_is_good_for_its_principal_and_its_request_alone(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        thief = await rounds(server, server.token(), bearer=server.token("bob"))
        client = await rounds(server, server.token(), bearer=server.token(client="another"))
        other = await rounds(server, server.token(), arguments={"x": 1})

        assert {answer.json["error"]["code"] for answer in (thief, client, other)} == {-32602}


async def test_a_state_grows_old(tmp_path):
    times = [1_800_000_000.0]
    async with in_process(tmp_path, offer=OFFER, clock=lambda: times[0]) as server:
        token = server.token()
        first = (await server.modern("tools/call", token, 1, capabilities=CAPABLE, name="interview")).json["result"]
        times[0] += 601
        late = await server.modern(
            "tools/call",
            server.token(),
            2,
            capabilities=CAPABLE,
            name="interview",
            requestState=first["requestState"],
        )

        assert late.json["error"]["code"] == -32602


@pytest.mark.parametrize("answers", [None, 5, [], {"elicitation-1": 5}])
async def test_answers_that_are_no_answers_are_invalid(tmp_path, answers):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await server.modern(
            "tools/call", server.token(), capabilities=CAPABLE, name="interview", inputResponses=answers
        )

        assert answer.json["error"]["code"] == -32602


async def test_a_client_that_can_not_be_asked_is_told_what_it_lacks(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        modern = await server.modern("tools/call", server.token(), name="paint", arguments={"what": "x"})
        headers = await open_session(server, server.token(), capabilities={})
        legacy = await server.post(
            request("tools/call", name="paint", arguments={"what": "x"}), server.token(), **headers
        )

        assert (modern.status, modern.json["error"]["code"]) == (400, -32021)
        assert modern.json["error"]["data"] == {"requiredCapabilities": {"elicitation": {}}}
        assert legacy.json["result"]["isError"] is True


async def test_a_tool_that_catches_every_exception_still_asks(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await server.modern("tools/call", server.token(), capabilities=CAPABLE, name="stubborn")

        assert answer.json["result"]["resultType"] == "input_required"


async def test_stateless_a_legacy_client_can_not_be_asked(tmp_path):
    async with in_process(tmp_path, "stateless", offer=OFFER) as server:
        answer = await server.post(
            request("tools/call", name="paint", arguments={"what": "x"}),
            server.token(),
            mcp_protocol_version="2025-11-25",
        )

        assert answer.json["result"]["isError"] is True


async def test_a_response_from_another_session_is_no_answer(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        token = server.token()
        mine, theirs = [await open_session(server, token) for _ in range(2)]
        heard: list[dict[str, Any]] = []
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                call = request("tools/call", 1, name="paint", arguments={"what": "door"})

                def hear(part: bytes) -> None:
                    heard.extend(json.loads(data) for data in data_of(part))

                nursery.start_soon(lambda: server.post(call, token, hear=hear, **mine))
                await until(lambda: bool(heard))
                response = {"jsonrpc": "2.0", "id": heard[0]["id"], "result": RED}
                await server.post(response, token, **theirs)
                await server.post({**response, "id": "tenantry-999"}, token, **mine)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert len(heard) == 1
                await server.post(response, token, **mine)
                await until(lambda: len(heard) > 1)

        assert heard[-1]["result"]["content"][0]["text"] == "the door is red"


@pytest.mark.parametrize("content", [{}, {"colour": 5}, {"color": "red"}, None])
async def test_a_form_that_does_not_fit_its_schema_is_no_answer(tmp_path, content):
    bad = {"action": "accept", "content": content}
    async with in_process(tmp_path, offer=OFFER) as server:
        token = server.token()
        call = request("tools/call", 5, name="paint", arguments={"what": "door"})
        _, heard = await converse(server, token, await open_session(server, token), call, {"elicitation/create": bad})
        modern = await server.modern(
            "tools/call",
            token,
            capabilities=CAPABLE,
            name="paint",
            arguments={"what": "door"},
            inputResponses={"elicitation-1": bad},
        )

        assert heard[-1]["result"]["isError"] is True
        assert modern.json["error"]["code"] == -32602


async def test_a_client_with_urls_alone_is_sent_no_form(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        answer = await server.modern(
            "tools/call",
            server.token(),
            capabilities={"elicitation": {"url": {}}},
            name="paint",
            arguments={"what": "x"},
        )

        assert answer.json["error"]["data"] == {"requiredCapabilities": {"elicitation": {"form": {}}}}


async def test_nothing_is_asked_before_the_handshake_is_done(tmp_path):
    async with in_process(tmp_path, offer=OFFER) as server:
        token = server.token()
        session = (await server.initialize(token, capabilities=CAPABLE)).headers["mcp-session-id"]
        heard: list[dict[str, Any]] = []

        def hear(part: bytes) -> None:
            heard.extend(json.loads(data) for data in data_of(part))

        call = request("tools/call", 5, name="paint", arguments={"what": "door"}, _meta={"progressToken": 1})
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: server.post(call, token, hear=hear, mcp_session_id=session))
                await until(lambda: len(heard) == 1)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert len(heard) == 1
                await server.post(request("notifications/initialized", None), token, mcp_session_id=session)
                await until(lambda: len(heard) == 2)
                nursery.cancel_scope.cancel()

        assert heard[1]["method"] == "elicitation/create"


@pytest.mark.parametrize("id_", [0, "the-call"])
async def test_a_legacy_client_that_cancels_gets_no_answer_and_the_call_is_recorded_so(tmp_path, id_):
    async with in_process(tmp_path, offer=OFFER) as server:
        token = server.token()
        headers = await open_session(server, token)
        other = await open_session(server, token)
        heard: list[bytes] = []
        answers = []

        async def call() -> None:
            message = request("tools/call", id_, name="paint", arguments={"what": "door"})
            answers.append(await server.post(message, token, hear=heard.append, **headers))

        cancelled = request("notifications/cancelled", None, requestId=id_)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await until(lambda: bool(data_of(b"".join(heard))))
                await server.post(cancelled, token, **other)
                await server.post(request("notifications/cancelled", None, requestId="unknown"), token, **headers)
                assert answers == []
                await server.post(cancelled, token, **headers)

        assert not any("result" in message or "error" in message for message in answers[0].events)
        assert [entry["outcome"] for entry in server.records()] == ["cancelled"]


async def test_a_modern_client_that_leaves_ends_a_call_that_would_say_nothing(tmp_path):
    inside, left = trio.Event(), trio.Event()

    async with in_process(tmp_path, offer=[quiet(inside)]) as server, trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.modern, "tools/call", server.token(), left=left, name="quiet", arguments={}))
        with trio.fail_after(5):
            await inside.wait()
            left.set()
            await until(lambda: bool(server.records()))
    assert [entry["outcome"] for entry in server.records()] == ["cancelled"]


@tool
async def chat(ctx: CallContext) -> str:
    """Say something, wait for long, then ask."""
    await ctx.progress(1)
    ctx.log("error", "hello")
    await trio.sleep(0.05)
    return (await ctx.elicit("?", Colour)).action


async def test_in_a_batch_nothing_is_said_before_the_answers_and_nothing_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(request_stream, "KEEP_ALIVE_S", 0.001)
    async with in_process(tmp_path, offer=[chat]) as server:
        token = server.token()
        headers = await open_session(server, token, "2025-03-26")
        call = request("tools/call", 5, name="chat", arguments={}, _meta={"progressToken": 0})
        with trio.fail_after(10):
            answer = await server.post([call], token, **headers)

    assert answer.headers["content-type"] == "application/json"
    assert [(message["id"], message["result"]["isError"]) for message in answer.json] == [(5, True)]


async def test_while_a_person_is_asked_the_deadline_of_the_call_stands_still(autojump_clock):
    inbox, cut = Inbox(Bus("alone")), Cut()
    sent: list[dict[str, Any]] = []

    class Stream:
        async def send(self, message: dict[str, Any]) -> None:
            sent.append(message)

    async def reply() -> None:
        await trio.sleep(100)
        inbox.deliver(b"s", Response(id=sent[0]["id"], result={"roots": []}, error=None))

    line = Line(
        principal=ALICE,
        changes=cast(Changes, None),
        stream=cast(RequestStream, Stream()),
        capabilities={"roots": {}},
    )
    channel = LegacyChannel(line, inbox=inbox, session=b"s", revision=LEGACY["2025-11-25"], cut=cut)
    with cut.open(trio.current_time() + 5) as scope:
        await trio.sleep(2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reply)
            assert await channel.ask({"roots": ListRoots()}) == {"roots": []}
        assert scope.deadline - trio.current_time() == pytest.approx(3)
    assert not scope.cancelled_caught


@tool
async def pay(ctx: CallContext) -> str:
    """Send the person to a page, out of the client's sight."""
    answer = await ctx.elicit_url("Please pay", "https://pay.example/42")
    return f"{answer.action} {answer.content}"


async def test_a_person_is_sent_to_a_page_where_the_client_can_do_that_and_nowhere_else(tmp_path):
    able: dict[str, Any] = {"elicitation": {"url": {}}}
    accept = {"action": "accept"}
    async with in_process(tmp_path, offer=[pay]) as server:
        token = server.token()
        asked = (await server.modern("tools/call", token, capabilities=able, name="pay")).json["result"]
        ((key, question),) = asked["inputRequests"].items()
        again = await server.modern(
            "tools/call",
            token,
            capabilities=able,
            name="pay",
            inputResponses={key: accept},
            requestState=asked["requestState"],
        )
        forms_alone = await server.modern("tools/call", token, capabilities={"elicitation": {}}, name="pay")
        session = await open_session(server, token, capabilities=able)
        _, heard = await converse(
            server, token, session, request("tools/call", 1, name="pay"), {"elicitation/create": accept}
        )

    assert question["params"]["mode"] == heard[0]["params"]["mode"] == "url"
    assert question["params"]["url"] == heard[0]["params"]["url"] == "https://pay.example/42"
    assert heard[0]["params"]["elicitationId"]
    assert again.json["result"]["content"] == heard[-1]["result"]["content"] == [{"type": "text", "text": "accept {}"}]
    assert forms_alone.json["error"]["data"] == {"requiredCapabilities": {"elicitation": {"url": {}}}}
