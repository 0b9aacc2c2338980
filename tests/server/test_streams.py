"""Streams of legacy sessions: priming, resumption, never across streams or sessions, over a restart too."""

import json

import pytest
import trio

from tenantry import CallContext, tool
from tenantry.mcp.resources import resource
from tests.server.in_process import InProcess, data_of, in_process, request, until


class Gate:
    """A tool that tells when it is inside and goes on when it may."""

    def __init__(self) -> None:
        self.inside = trio.Event()
        self.go = trio.Event()

    def tool(self, *, release: bool = False):
        @tool(name="slow")
        async def slow(ctx: CallContext) -> str:
            await ctx.progress(1)
            ctx.log("error", "begun")
            if release:
                await ctx.release()
            self.inside.set()
            await self.go.wait()
            await ctx.progress(2)
            return "done at last"

        return slow


@resource("test://watched", name="watched")
def watched() -> str:
    """Something to watch."""
    return "x"


@tool
async def touch(ctx: CallContext) -> str:
    """Change things."""
    ctx.updated("test://watched")
    ctx.changed("prompts")
    return "touched"


CALL = request("tools/call", 7, name="slow", _meta={"progressToken": "t"})


async def session(server: InProcess, token: str, revision: str = "2025-11-25") -> dict[str, str]:
    answer = await server.initialize(token, revision)
    return {"mcp_session_id": answer.headers["mcp-session-id"], "mcp_protocol_version": revision}


async def resume(server: InProcess, token: str, headers: dict[str, str], last: str | None, **how):
    fields = {
        "authorization": f"Bearer {token}",
        "accept": "text/event-stream",
        **({} if last is None else {"last-event-id": last}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return await server.ask("GET", "/mcp", headers=fields, **how)


@pytest.mark.parametrize(("revision", "primed"), [("2025-11-25", True), ("2025-06-18", False), ("2025-03-26", False)])
async def test_a_stream_begins_with_an_id_alone_where_the_revision_says_so(tmp_path, revision, primed):
    gate = Gate()
    gate.go.set()
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token = server.token()
        answer = await server.post(CALL, token, **await session(server, token, revision))

        assert answer.body.split(b"\n")[1].startswith(b"data: {") is not primed
        assert len(set(answer.ids)) == len(answer.ids) == 4 + primed


async def test_a_client_that_was_cut_off_gets_the_rest_once_and_nothing_twice(tmp_path):
    gate, left = Gate(), trio.Event()
    heard: list[bytes] = []
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token = server.token()
        headers = await session(server, token)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: server.post(CALL, token, left=left, hear=heard.append, **headers))
                await gate.inside.wait()
                await until(lambda: len(data_of(b"".join(heard))) == 2)
                left.set()
                last = [line for line in b"".join(heard).split(b"\n") if line.startswith(b"id: ")][-1]
                resumed = []

                async def come_back() -> None:
                    resumed.append(await resume(server, token, headers, last.removeprefix(b"id: ").decode()))

                nursery.start_soon(come_back)
                gate.go.set()

        messages = resumed[0].events
        assert [message.get("method", "response") for message in messages] == ["notifications/progress", "response"]
        assert messages[1] == {
            "jsonrpc": "2.0",
            "id": 7,
            "result": {"content": [{"type": "text", "text": "done at last"}], "isError": False},
        }
        again = await resume(server, token, headers, resumed[0].ids[-1])
        assert again.events == []
        assert [entry["outcome"] for entry in server.records()] == ["succeeded"]


async def test_a_released_client_comes_back_for_the_result(tmp_path):
    gate = Gate()
    async with in_process(tmp_path, offer=[gate.tool(release=True)]) as server:
        token = server.token()
        headers = await session(server, token)
        released, resumed = [], []
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def call() -> None:
                    released.append(await server.post(CALL, token, **headers))

                nursery.start_soon(call)
                await gate.inside.wait()

                async def come_back() -> None:
                    resumed.append(await resume(server, token, headers, await first_id(server, headers)))

                nursery.start_soon(come_back)
                gate.go.set()

        assert b"retry: " in released[0].body
        assert released[0].body.startswith(b"id: ")
        assert not any("result" in message for message in released[0].events)
        assert resumed[0].events[-1]["result"]["content"][0]["text"] == "done at last"


async def first_id(server: InProcess, headers: dict[str, str]) -> str:
    """The priming id of the session's only request stream, out of the store."""
    row = server.store_row("SELECT name FROM mcp_stream WHERE name <> 'standalone'")
    return f"{row[0]}.0"


async def test_a_result_is_delivered_after_a_restart_of_the_server(tmp_path):
    gate = Gate()
    gate.go.set()
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token = server.token()
        headers = await session(server, token)
        whole = await server.post(CALL, token, **headers)
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        resumed = await resume(server, token, headers, whole.ids[2])

        assert resumed.events == whole.events[2:]
        assert resumed.events[-1]["id"] == 7


async def test_a_call_that_died_with_its_server_ends_with_an_error_and_not_with_silence(tmp_path):
    gate, left = Gate(), trio.Event()
    heard: list[bytes] = []
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token = server.token()
        headers = await session(server, token)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: server.post(CALL, token, left=left, hear=heard.append, **headers))
            await gate.inside.wait()
            await until(lambda: len(data_of(b"".join(heard))) == 2)
            nursery.cancel_scope.cancel()
    first = b"".join(heard).split(b"\n")[0].removeprefix(b"id: ").decode()
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        with trio.fail_after(5):
            resumed = await resume(server, token, headers, first)

        assert resumed.events[-1]["error"]["code"] == -32603
        assert resumed.events[-1]["id"] == 7


async def test_nobody_resumes_the_stream_of_another_session(tmp_path):
    gate = Gate()
    gate.go.set()
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token, bob = server.token(), server.token("bob")
        mine, other, bobs = await session(server, token), await session(server, token), await session(server, bob)
        whole = await server.post(CALL, token, **mine)
        tries = [
            await resume(server, token, other, whole.ids[0]),
            await resume(server, bob, bobs, whole.ids[0]),
        ]
        stolen = await resume(server, bob, mine, whole.ids[0])

        assert [(answer.status, answer.events) for answer in tries] == [(400, []), (400, [])]
        assert stolen.status == 404


@pytest.mark.parametrize("last", ["x", "", "a.b", "standalone", "a.-1", "a.99999999999999", "é" * 9, "x" * 5000])
async def test_an_id_that_is_not_ours_is_refused(tmp_path, last):
    async with in_process(tmp_path) as server:
        token = server.token()
        answer = await resume(server, token, await session(server, token), last)

        assert answer.status == 400


async def test_what_happens_while_the_standalone_stream_is_down_is_delivered_on_resumption(tmp_path):
    async with in_process(tmp_path, offer=[watched, touch]) as server:
        token = server.token()
        headers = await session(server, token)
        fields = {
            "authorization": f"Bearer {token}",
            "accept": "text/event-stream",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        heard: list[bytes] = []
        left = trio.Event()
        await server.post(request("resources/subscribe", uri="test://watched"), token, **headers)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: server.ask("GET", "/mcp", headers=fields, left=left, hear=heard.append))
                await until(lambda: bool(heard))
                await server.post(request("tools/call", 1, name="touch"), token, **headers)
                await until(lambda: len(data_of(b"".join(heard))) == 2)
                left.set()
            await server.post(request("tools/call", 2, name="touch"), token, **headers)
            last = [line for line in b"".join(heard).split(b"\n") if line.startswith(b"id: ")][-1]
            again: list[bytes] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    lambda: resume(server, token, headers, last.removeprefix(b"id: ").decode(), hear=again.append)
                )
                await until(lambda: len(data_of(b"".join(again))) == 2)
                nursery.cancel_scope.cancel()

        for messages in (heard, again):
            methods = [json.loads(data)["method"] for data in data_of(b"".join(messages))]
            assert methods == ["notifications/resources/updated", "notifications/prompts/list_changed"]


async def test_a_batch_is_answered_as_a_batch_in_its_one_revision(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token()
        batch = [
            request("ping", 1),
            request("notifications/cancelled", None, requestId=9),
            request("tools/call", "two", name="echo", arguments={"message": "hi"}),
            request("initialize", 3),
            {"jsonrpc": "1.0"},
        ]
        old = await server.post(batch, token, **await session(server, token, "2025-03-26"))
        new = await server.post(batch, token, **await session(server, token, "2025-06-18"))
        empty = await server.post([], token, **await session(server, token, "2025-03-26"))
        huge = await server.post([request("ping", 1)] * 51, token, **await session(server, token, "2025-03-26"))
        notes = await server.post(
            [request("notifications/cancelled", None)], token, **await session(server, token, "2025-03-26")
        )

        assert [answer.get("id") for answer in old.json] == [1, "two", 3, None]
        assert [answer["error"]["code"] for answer in old.json[2:]] == [-32600, -32600]
        assert [answer.status for answer in (new, empty, huge)] == [400, 400, 400]
        assert (notes.status, notes.body) == (202, b"")
        assert len(server.records()) == 1
