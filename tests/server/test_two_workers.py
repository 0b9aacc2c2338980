"""What one worker began is known to the other: sessions, questions, cancellations, streams, changes, tasks."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tenantry import CallContext, tool
from tenantry.mcp.resources import resource
from tenantry.server.bus import Bus
from tests.server.in_process import InProcess, data_of, in_process, request, until
from tests.server.two_workers import two_workers

ELICITS: dict[str, Any] = {"elicitation": {}}
TASKS: dict[str, Any] = {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}


class Tools:
    """Tools that tell when they are inside, and go on when they may."""

    def __init__(self) -> None:
        self.inside = trio.Event()
        self.go = trio.Event()

    def offer(self) -> list[Any]:
        @tool(name="slow", task="optional")
        async def slow(ctx: CallContext) -> str:
            await ctx.progress(1)
            self.inside.set()
            await self.go.wait()
            return "done at last"

        @tool(name="ask", task="optional")
        async def ask(ctx: CallContext) -> str:
            answer = await ctx.elicit("Name?", {"type": "object", "properties": {"name": {"type": "string"}}})
            return f"hello {answer.content['name']}"

        return [slow, ask, watched, touch]


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


@asynccontextmanager
async def both(data: Path, tools: Tools) -> AsyncIterator[tuple[InProcess, InProcess]]:
    async with (
        two_workers() as (first, second),
        in_process(data, offer=tools.offer(), bus=first, number=0) as one,
        in_process(data, offer=tools.offer(), bus=second, number=1) as two,
    ):
        for bus, other in ((first, second), (second, first)):
            bus._alive = frozenset({bus.own, other.own})
        yield one, two


async def open_session(server: InProcess, token: str) -> dict[str, str]:
    answer = await server.initialize(token, "2025-11-25", ELICITS)
    return {"mcp_session_id": answer.headers["mcp-session-id"], "mcp_protocol_version": "2025-11-25"}


async def get(server: InProcess, token: str, headers: dict[str, str], **how: Any):
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
    if "last" in how:
        fields["last-event-id"] = how.pop("last")
    answer = await server.ask("GET", "/mcp", headers=fields, **how)
    assert answer.status == 200, answer.body
    return answer


def methods(parts: list[bytes]) -> list[str]:
    return [json.loads(data).get("method", "response") for data in data_of(b"".join(parts))]


async def test_a_question_is_answered_through_the_other_worker(tmp_path):
    async with both(tmp_path, Tools()) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        heard: list[bytes] = []
        call = request("tools/call", 5, name="ask", arguments={})
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: one.post(call, token, hear=heard.append, **headers))
                # The call waits for the end of the handshake, which comes to the other worker too.
                await two.post(request("notifications/initialized", None), token, **headers)
                await until(lambda: "elicitation/create" in methods(heard))
                question = json.loads(data_of(b"".join(heard))[0])
                answer = {"action": "accept", "content": {"name": "you"}}
                await two.post({"jsonrpc": "2.0", "id": question["id"], "result": answer}, token, **headers)
        assert json.loads(data_of(b"".join(heard))[-1])["result"]["content"][0]["text"] == "hello you"


async def test_a_call_is_cancelled_through_the_other_worker(tmp_path):
    tools = Tools()
    async with both(tmp_path, tools) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: one.post(request("tools/call", 5, name="slow"), token, **headers))
                await tools.inside.wait()
                await two.post(request("notifications/cancelled", None, requestId=5), token, **headers)
        assert [entry["outcome"] for entry in one.records()] == ["cancelled"]


async def test_what_is_set_in_a_session_counts_at_both(tmp_path):
    async with both(tmp_path, Tools()) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        heard: list[bytes] = []
        left = trio.Event()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: get(one, token, headers, hear=heard.append, left=left))
                await until(lambda: b"id: " in b"".join(heard))
                await two.post(request("resources/subscribe", 2, uri="test://watched"), token, **headers)
                await trio.testing.wait_all_tasks_blocked()
                await two.post(request("tools/call", 3, name="touch"), token, **headers)
                await until(lambda: len(methods(heard)) == 2)
                left.set()
        assert sorted(methods(heard)) == ["notifications/prompts/list_changed", "notifications/resources/updated"]


async def test_a_session_that_was_ended_at_one_is_unknown_to_the_other(tmp_path):
    async with both(tmp_path, Tools()) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        assert (await two.post(request("ping", 1), token, **headers)).status == 200
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        ended = await one.ask("DELETE", "/mcp", headers={"authorization": f"Bearer {token}", **fields})
        assert ended.status == 204
        await trio.testing.wait_all_tasks_blocked()
        assert (await two.post(request("ping", 1), token, **headers)).status == 404


async def test_the_standalone_stream_moves_with_its_client_and_takes_along_what_waited(tmp_path):
    async with both(tmp_path, Tools()) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        first: list[bytes] = []
        second: list[bytes] = []
        left, gone = trio.Event(), trio.Event()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: get(one, token, headers, hear=first.append, left=left))
                await until(lambda: b"id: " in b"".join(first))
                left.set()
                await trio.testing.wait_all_tasks_blocked()
                await one.post(request("tools/call", 3, name="touch"), token, **headers)  # nobody is listening
                nursery.start_soon(lambda: get(two, token, headers, hear=second.append, left=gone))
                await until(lambda: methods(second) == ["notifications/prompts/list_changed"])
                await one.post(request("tools/call", 4, name="touch"), token, **headers)
                await until(lambda: len(methods(second)) == 2)
                gone.set()
        assert methods(first) == []


async def test_an_open_standalone_stream_ends_when_its_client_comes_to_the_other_worker(tmp_path):
    async with both(tmp_path, Tools()) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        first: list[bytes] = []
        second: list[bytes] = []
        left = trio.Event()
        ended = trio.Event()

        async def listen() -> None:
            await get(one, token, headers, hear=first.append)
            ended.set()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await until(lambda: b"id: " in b"".join(first))
                nursery.start_soon(lambda: get(two, token, headers, hear=second.append, left=left))
                await ended.wait()
                left.set()


async def test_a_cut_call_is_resumed_at_the_other_worker_while_it_runs(tmp_path):
    tools, left = Tools(), trio.Event()
    heard: list[bytes] = []
    resumed: list[bytes] = []
    async with both(tmp_path, tools) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        call = request("tools/call", 7, name="slow", _meta={"progressToken": "t"})
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: one.post(call, token, left=left, hear=heard.append, **headers))
                await until(lambda: methods(heard) == ["notifications/progress"])
                left.set()
                place = [line for line in b"".join(heard).split(b"\n") if line.startswith(b"id: ")][-1]
                last = place.removeprefix(b"id: ").decode()
                nursery.start_soon(lambda: get(two, token, headers, last=last, hear=resumed.append))
                await trio.testing.wait_all_tasks_blocked()
                assert methods(resumed) == []
                tools.go.set()
        assert methods(resumed) == ["response"]


async def test_a_call_whose_worker_died_ends_with_an_error_for_who_waits_at_the_other(tmp_path):
    tools, left = Tools(), trio.Event()
    heard: list[bytes] = []
    resumed: list[bytes] = []
    async with both(tmp_path, tools) as (one, two):
        token = one.token()
        headers = await open_session(one, token)
        call = request("tools/call", 7, name="slow", _meta={"progressToken": "t"})
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery, trio.open_nursery() as dying:
                dying.start_soon(lambda: one.post(call, token, left=left, hear=heard.append, **headers))
                await until(lambda: methods(heard) == ["notifications/progress"])
                place = [line for line in b"".join(heard).split(b"\n") if line.startswith(b"id: ")][-1]
                last = place.removeprefix(b"id: ").decode()
                nursery.start_soon(lambda: get(two, token, headers, last=last, hear=resumed.append))
                await trio.testing.wait_all_tasks_blocked()
                only(two)
                await until(lambda: methods(resumed) == ["response"])
                dying.cancel_scope.cancel()
        assert json.loads(data_of(b"".join(resumed))[-1])["error"]["code"] == -32603


def only(server: InProcess) -> None:
    """Tell a worker that it is the only one left."""
    bus: Bus = server.bus
    bus._deliver("workers", {"alive": [bus.own]})


@pytest.mark.parametrize("how", ["answered", "cancelled", "abandoned"])
async def test_a_task_is_seen_answered_and_ended_through_the_other_worker(tmp_path, how):
    async with both(tmp_path, Tools()) as (one, two):
        token = one.token()
        created = await one.modern("tools/call", token, 1, capabilities=TASKS, name="ask", arguments={})
        task_id = created.json["result"]["taskId"]

        async def task(server: InProcess, method: str = "tasks/get", **more: object) -> dict[str, Any]:
            answer = await server.modern(method, token, 2, capabilities=TASKS, taskId=task_id, **more)
            result: dict[str, Any] = answer.json["result"]
            return result

        async def settled(is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            with trio.fail_after(10):
                while True:
                    shown = await task(two)
                    if is_so(shown):
                        return shown
                    await trio.lowlevel.checkpoint()

        (key,) = (await settled(lambda shown: "inputRequests" in shown))["inputRequests"]
        if how == "answered":
            answer = {"action": "accept", "content": {"name": "you"}}
            await task(two, "tasks/update", inputResponses={key: answer})
            shown = await settled(lambda shown: shown["status"] == "completed")
            assert shown["result"]["content"][0]["text"] == "hello you"
        elif how == "cancelled":
            await task(two, "tasks/cancel")
            await settled(lambda shown: shown["status"] == "cancelled")
        else:
            only(two)
            await settled(lambda shown: shown["status"] == "failed")
