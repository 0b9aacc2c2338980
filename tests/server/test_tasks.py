"""The tasks extension: durable before the handle is given, bound to its principal, audited."""

from collections.abc import Collection
from typing import Any

import pytest
import trio
import trio.testing
from pydantic import BaseModel

from tenantry import CallContext, Elicit, ToolError, tool
from tenantry.jsonrpc import Code, RemoteProtocolError
from tenantry.server import tasks
from tenantry.server.audit_writer import AuditUnavailable, AuditWriter, Ticket
from tenantry.server.bus import Bus
from tenantry.server.store.database import StoreUnavailable
from tenantry.server.store.tasks import Tasks as StoredTasks
from tests.server.in_process import Answered, InProcess, in_process, until

TASKS: dict[str, Any] = {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}


class Sure(BaseModel):
    sure: bool


class Gates:
    """A tool that goes on when it may."""

    def __init__(self) -> None:
        self.inside = trio.Event()
        self.go = trio.Event()

    def slow(self):
        @tool(name="slow", task="optional")
        async def slow() -> str:
            self.inside.set()
            await self.go.wait()
            return "slowly done"

        return slow


@tool(task="required")
async def failing(how: str) -> str:
    """Fail in some way."""
    if how == "tool":
        raise ToolError("no luck")
    if how == "protocol":
        raise RemoteProtocolError(Code.INTERNAL_ERROR, "deep trouble")
    if how == "no JSON":
        raise RemoteProtocolError(Code.INTERNAL_ERROR, "deep trouble", data={1, 2})
    return "fine"


@tool(task="optional")
async def ask_twice(ctx: CallContext) -> str:
    """Ask for two things at once, then for one."""
    both = await ctx.ask(a=Elicit(message="a?", schema=Sure), b=Elicit(message="b?", schema=Sure))
    last = await ctx.elicit("sure?", Sure)
    return f"{both['a'].content} {both['b'].content} {last.content}"


@tool(task="after_asking")
async def ask_then_work(ctx: CallContext) -> str:
    """Ask while the client waits, work as a task, ask once more."""
    first = await ctx.elicit("sure?", Sure)
    await ctx.background()
    second = await ctx.elicit("really?", Sure)
    return f"{first.content} {second.content}"


async def start(server: InProcess, token: str, name: str, **arguments: object):
    answer = await server.modern("tools/call", token, 1, capabilities=TASKS, name=name, arguments=arguments)
    return answer.json["result"]


async def ask(server: InProcess, token: str, method: str, task_id: str, **more: object):
    return (await server.modern(method, token, 2, capabilities=TASKS, taskId=task_id, **more)).json


async def settled(server: InProcess, token: str, task_id: str, *statuses: str):
    wanted = statuses or ("completed", "failed", "cancelled")
    with trio.fail_after(10):
        while True:
            shown = (await ask(server, token, "tasks/get", task_id))["result"]
            if shown["status"] in wanted:
                return shown
            await trio.lowlevel.checkpoint()


async def asked_next(server: InProcess, token: str, task_id: str, *, instead_of: Collection[str]) -> list[str]:
    """The keys of what a task asks once it asks something else."""
    with trio.fail_after(5):
        while True:
            keys = (await settled(server, token, task_id, "input_required"))["inputRequests"]
            if set(keys).isdisjoint(instead_of):
                return list(keys)


async def test_a_task_is_found_at_once_and_ends_with_what_the_call_gave(tmp_path):
    gates = Gates()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        created = await start(server, token, "slow")
        shown = (await ask(server, token, "tasks/get", created["taskId"]))["result"]
        gates.go.set()
        ended = await settled(server, token, created["taskId"])

        assert (created["resultType"], created["status"]) == ("task", "working")
        assert isinstance(created["ttlMs"], int)
        assert isinstance(created["pollIntervalMs"], int)
        assert (shown["resultType"], shown["status"]) == ("complete", "working")
        assert ended["result"] == {"content": [{"type": "text", "text": "slowly done"}], "isError": False}
        kinds = [(entry["kind"], entry.get("outcome")) for entry in server.records()]
        assert kinds == [("task_created", None), ("tool_call", "succeeded")]
        assert len({entry["task"] for entry in server.records()}) == 1


async def test_a_client_without_tasks_gets_the_result_or_is_told_what_it_lacks(tmp_path):
    gates = Gates()
    gates.go.set()
    async with in_process(tmp_path, offer=[gates.slow(), failing]) as server:
        token = server.token()
        plain = await server.modern("tools/call", token, name="slow")
        required = await server.modern("tools/call", token, name="failing", arguments={"how": ""})
        got = await server.modern("tasks/get", token, taskId="x")

        assert plain.json["result"]["content"][0]["text"] == "slowly done"
        for answer in (required, got):
            assert (answer.status, answer.json["error"]["code"]) == (400, -32021)
        assert [entry["outcome"] for entry in server.records()] == ["succeeded", "failed"]


@pytest.mark.parametrize("who", ["bob", "carol", "other client"])
async def test_nobody_else_sees_answers_or_cancels_a_task(tmp_path, who):
    gates = Gates()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        thief = server.token(client="another") if who == "other client" else server.token(who)
        stolen = [await ask(server, thief, method, task_id) for method in ("tasks/get", "tasks/update", "tasks/cancel")]
        unknown = [
            await ask(server, thief, method, "x" * 43) for method in ("tasks/get", "tasks/update", "tasks/cancel")
        ]

        assert stolen == unknown
        assert {answer["error"]["code"] for answer in stolen} == {-32602}
        assert (await ask(server, token, "tasks/get", task_id))["result"]["status"] == "working"


async def test_a_cancelled_task_is_cancelled_and_recorded_so(tmp_path):
    gates = Gates()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        await gates.inside.wait()
        ack = await ask(server, token, "tasks/cancel", task_id)
        ended = await settled(server, token, task_id)
        again = await ask(server, token, "tasks/cancel", task_id)

        assert {name for name in ack["result"] if name != "_meta"} == {"resultType"}
        assert ended["status"] == "cancelled"
        assert again["result"]["resultType"] == "complete"
        assert server.records()[-1]["outcome"] == "cancelled"


async def test_a_tools_own_failure_completes_and_a_protocol_error_fails(tmp_path):
    async with in_process(tmp_path, offer=[failing]) as server:
        token = server.token()
        tools = await settled(server, token, (await start(server, token, "failing", how="tool"))["taskId"])
        protocol = await settled(server, token, (await start(server, token, "failing", how="protocol"))["taskId"])

        assert (tools["status"], tools["result"]["isError"]) == ("completed", True)
        assert (protocol["status"], protocol["error"]["code"]) == ("failed", -32603)
        assert protocol["statusMessage"] == "deep trouble"
        assert "result" not in protocol


async def test_an_error_that_has_no_json_form_fails_its_task_and_nothing_else(tmp_path):
    async with in_process(tmp_path, offer=[failing]) as server:
        token = server.token()
        shown = await settled(server, token, (await start(server, token, "failing", how="no JSON"))["taskId"])
        again = await settled(server, token, (await start(server, token, "failing", how=""))["taskId"])

        assert (shown["status"], shown["error"]["message"]) == ("failed", "the server failed")
        assert again["status"] == "completed"


async def test_a_task_asks_and_takes_answers_one_by_one(tmp_path):
    async with in_process(tmp_path, offer=[ask_twice]) as server:
        token = server.token()
        task_id = (await start(server, token, "ask_twice"))["taskId"]
        first = await settled(server, token, task_id, "input_required")
        keys = sorted(first["inputRequests"])
        yes = {"action": "accept", "content": {"sure": True}}
        await ask(server, token, "tasks/update", task_id, inputResponses={keys[0]: yes, "nonsense": yes})
        half = (await ask(server, token, "tasks/get", task_id))["result"]
        await ask(server, token, "tasks/update", task_id, inputResponses={keys[0]: yes, keys[1]: yes})
        (key,) = await asked_next(server, token, task_id, instead_of=keys)
        await ask(server, token, "tasks/update", task_id, inputResponses={key: yes})
        ended = await settled(server, token, task_id)

        assert list(half["inputRequests"]) == [keys[1]]
        assert half["status"] == "input_required"
        assert ended["result"]["content"][0]["text"] == "{'sure': True} {'sure': True} {'sure': True}"


async def test_a_task_whose_server_stopped_has_failed_after_the_restart(tmp_path):
    gates = Gates()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        await gates.inside.wait()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        shown = (await ask(server, token, "tasks/get", task_id))["result"]

        assert (shown["status"], shown["error"]["code"]) == ("failed", -32603)
        assert server.records()[-1]["outcome"] == "cancelled"


async def test_a_result_outlives_a_restart(tmp_path):
    gates = Gates()
    gates.go.set()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        ended = await settled(server, token, task_id)
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        assert (await ask(server, token, "tasks/get", task_id))["result"] == ended


async def test_a_person_has_a_bounded_number_of_tasks_however_many_are_begun_at_once(tmp_path):
    gates = Gates()
    answers: list[Answered] = []
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()

        async def begin() -> None:
            answers.append(await server.modern("tools/call", token, capabilities=TASKS, name="slow"))

        async with trio.open_nursery() as nursery:
            for _ in range(25):
                nursery.start_soon(begin)

        refused = [answer for answer in answers if answer.status != 200]
        assert [(each.status, each.json["error"]["code"]) for each in refused] == [(429, -32603)] * 5
        assert (await start(server, server.token("bob"), "slow"))["status"] == "working"


@pytest.mark.parametrize("how", ["refused", "cancelled"])
async def test_a_task_that_could_not_be_recorded_does_not_stay_under_way(tmp_path, monkeypatch, how):
    at_the_log = trio.Event()
    answers: list[Answered] = []

    async def append(self: AuditWriter, body: bytes) -> None:
        at_the_log.set()
        if how == "refused":
            raise AuditUnavailable("the disk is full")
        await trio.sleep_forever()

    gates = Gates()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()

        async def begin() -> None:
            answers.append(await server.modern("tools/call", token, capabilities=TASKS, name="slow"))

        with monkeypatch.context() as patched:
            patched.setattr(AuditWriter, "append", append)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(begin)
                await at_the_log.wait()
                if how == "cancelled":
                    nursery.cancel_scope.cancel()

        assert [answer.status for answer in answers] == ([503] if how == "refused" else [])
        assert server.store_row("SELECT count(*), sum(ended) FROM task") == (1, 1)
        assert not gates.inside.is_set()


async def unavailable(*_: object) -> None:
    raise AuditUnavailable("the disk is full")


async def full(*_: object) -> None:
    raise StoreUnavailable("database or disk is full")


async def test_a_task_whose_record_fails_has_failed_and_ends_nothing_else(tmp_path, monkeypatch):
    gates = Gates()
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        await gates.inside.wait()
        with monkeypatch.context() as patched:
            patched.setattr(Ticket, "durable", unavailable)
            gates.go.set()
            shown = await settled(server, token, task_id)

        assert (shown["status"], shown["statusMessage"]) == ("failed", "the audit log is unavailable")
        assert "result" not in shown
        assert (await settled(server, token, (await start(server, token, "slow"))["taskId"]))["status"] == "completed"


async def test_how_a_task_ended_is_stored_when_the_store_is_back(tmp_path, monkeypatch):
    gates = Gates()
    monkeypatch.setattr(tasks, "RETRY_S", 0)
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        await gates.inside.wait()
        tried = trio.Event()

        async def tries(*_: object) -> None:
            tried.set()
            await full()

        with monkeypatch.context() as patched:
            patched.setattr(StoredTasks, "save", tries)
            gates.go.set()
            await tried.wait()
            assert (await ask(server, token, "tasks/get", task_id))["result"]["status"] == "working"
        shown = await settled(server, token, task_id)

        assert shown["result"]["content"][0]["text"] == "slowly done"


async def test_answers_by_another_worker_that_can_not_be_stored_end_nothing(tmp_path, monkeypatch):
    bus = Bus("life")
    yes = {"action": "accept", "content": {"sure": True}}
    async with in_process(tmp_path, offer=[ask_twice], bus=bus) as server:
        token = server.token()
        task_id = (await start(server, token, "ask_twice"))["taskId"]
        asked = sorted((await settled(server, token, task_id, "input_required"))["inputRequests"])
        with monkeypatch.context() as patched:
            patched.setattr(StoredTasks, "save", full)
            bus._deliver("task_answered", {"id": task_id, "answers": {asked[0]: yes}})
            bus._deliver("workers", {"alive": ["life"]})
            await trio.testing.wait_all_tasks_blocked(0.01)
        await ask(server, token, "tasks/update", task_id, inputResponses=dict.fromkeys(asked, yes))
        (key,) = await asked_next(server, token, task_id, instead_of=asked)
        await ask(server, token, "tasks/update", task_id, inputResponses={key: yes})

        assert (await settled(server, token, task_id))["status"] == "completed"


async def test_whoever_listens_for_a_task_of_theirs_hears_how_it_stands(tmp_path):
    gates = Gates()
    heard: list[bytes] = []
    async with in_process(tmp_path, offer=[gates.slow()]) as server:
        token = server.token()
        task_id = (await start(server, token, "slow"))["taskId"]
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    lambda: server.modern(
                        "subscriptions/listen",
                        token,
                        capabilities=TASKS,
                        hear=heard.append,
                        notifications={"taskIds": [task_id, "another's"]},
                    )
                )
                await until(lambda: bool(heard))
                gates.go.set()
                await until(lambda: b"completed" in b"".join(heard))
                nursery.cancel_scope.cancel()
        refused = await server.modern("subscriptions/listen", token, notifications={"taskIds": [task_id]})

        assert b"another's" not in b"".join(heard)
        assert b"slowly done" in b"".join(heard)
        assert refused.json["error"]["code"] == -32021


async def test_a_call_asks_first_and_then_goes_on_as_a_task_with_the_answers(tmp_path):
    yes = {"action": "accept", "content": {"sure": True}}
    no = {"action": "accept", "content": {"sure": False}}
    async with in_process(tmp_path, offer=[ask_then_work]) as server:
        token = server.token()
        asked = await start(server, token, "ask_then_work")
        created = (
            await server.modern(
                "tools/call",
                token,
                2,
                capabilities=TASKS,
                name="ask_then_work",
                arguments={},
                requestState=asked["requestState"],
                inputResponses={"elicitation-1": yes},
            )
        ).json["result"]
        parked = await settled(server, token, created["taskId"], "input_required")
        (key,) = parked["inputRequests"]
        await ask(server, token, "tasks/update", created["taskId"], inputResponses={key: no})
        ended = await settled(server, token, created["taskId"])

        assert (asked["resultType"], created["resultType"]) == ("input_required", "task")
        assert "requestState" not in created
        assert ended["result"]["content"][0]["text"] == "{'sure': True} {'sure': False}"
        told = [(entry["kind"], entry.get("outcome")) for entry in server.records()]
        assert told == [
            ("tool_call", "input_required"),
            ("tool_call", "continued"),
            ("task_created", None),
            ("tool_call", "succeeded"),
        ]


async def test_without_tasks_a_call_that_would_go_on_as_one_is_answered_at_its_end(tmp_path):
    yes = {"action": "accept", "content": {"sure": True}}
    async with in_process(tmp_path, offer=[ask_then_work]) as server:
        answer = await server.modern(
            "tools/call",
            server.token(),
            capabilities={"elicitation": {}},
            name="ask_then_work",
            inputResponses={"elicitation-1": yes, "elicitation-2": yes},
        )

        assert answer.json["result"]["resultType"] == "complete"
        assert answer.json["result"]["content"][0]["text"] == "{'sure': True} {'sure': True}"
