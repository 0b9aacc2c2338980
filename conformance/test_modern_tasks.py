"""Tasks (the extension io.modelcontextprotocol/tasks on revision 2026-07-28)."""

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Answer, Modern, NotApplicable
from conformance.modern import TASKS, WITH_TASKS, connection
from conformance.peer import Peer

STATUSES = {"working", "input_required", "completed", "failed", "cancelled"}
FINAL = {"completed", "failed", "cancelled"}
CAN: dict[str, Any] = {"elicitation": {}, "sampling": {}, **WITH_TASKS}
METHODS = ("tasks/get", "tasks/update", "tasks/cancel")
LONG_S = 60
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def able(peer: Peer, **more: Any) -> Modern:
    """A client that declares tasks."""
    peer.needs("tasks")
    return peer.modern(capabilities=CAN, **more)


def ask(client: Modern, method: str, task: str, **more: Any) -> Answer:
    """Send a task request with its routing header."""
    params = {"taskId": task, **({"inputResponses": {}} if method == "tasks/update" else {}), **more}
    return client.request(method, params, headers={"mcp-name": task})


def created(peer: Peer, client: Modern, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that makes a task, and give the result."""
    peer.needs_tool(tool)
    result: dict[str, Any] = client.call(tool, arguments).result
    if result["resultType"] == "complete":
        raise NotApplicable(f"the server made no task of {tool}, as it may")
    assert result["resultType"] == "task", result
    peer.afterwards(client, lambda: ask(client, "tasks/cancel", result["taskId"]))
    return result


def get(client: Modern, task: str) -> dict[str, Any]:
    """Read a task."""
    result: dict[str, Any] = ask(client, "tasks/get", task).result
    return result


def polled(client: Modern, task: str, done: Callable[[dict[str, Any]], bool], *, seconds: float = 8) -> dict[str, Any]:
    """Read a task until something holds."""
    end = time.monotonic() + seconds
    while not done(found := get(client, task)):
        assert time.monotonic() < end, f"it stays {found}"
        time.sleep(0.05)
    return found


def final(client: Modern, task: str) -> dict[str, Any]:
    """Read a task until it has come to its end."""
    return polled(client, task, lambda found: found["status"] in FINAL)


def waiting(client: Modern, task: str, count: int = 1) -> dict[str, Any]:
    """Read a task until it waits for so many inputs."""
    return polled(client, task, lambda found: len(found.get("inputRequests", {})) >= count)


def slow(peer: Peer, client: Modern, seconds: float = LONG_S) -> dict[str, Any]:
    """Make a task that takes its time."""
    return created(peer, client, "slow_compute", seconds=seconds, label="conformance")


def filled(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a form."""
    fill = {"string": "Alice", "boolean": True, "integer": 7, "number": 7.5}
    properties = request["params"]["requestedSchema"]["properties"]
    return {"action": "accept", "content": {name: fill[inner["type"]] for name, inner in properties.items()}}


# --- negotiation


@clause("mcp-tasks:negotiation:declared")
def test_the_extension_is_declared_and_no_older_slot_is(peer: Peer) -> None:
    capabilities = peer.modern().request("server/discover").result["capabilities"]
    assert isinstance(capabilities["extensions"][TASKS], dict)
    assert "tasks" not in capabilities, "that was the slot of 2025-11-25"


@clause("mcp-tasks:negotiation:server-decides", "mcp-tasks:creation:result-type-nowhere-else")
def test_a_tool_that_is_quick_gives_an_ordinary_result(peer: Peer) -> None:
    peer.needs_tool("greet")
    for params in ({}, {"task": {"ttl": 1000, "pollInterval": 5}}):
        result = able(peer).request("tools/call", {"name": "greet", "arguments": {"name": "World"}, **params}).result
        assert result["resultType"] == "complete"
        assert "World" in result["content"][0]["text"]
        assert "taskId" not in result


@clause(
    "mcp-tasks:negotiation:not-without-declaration",
    "mcp-tasks:negotiation:earlier-declarations-do-not-count",
    "mcp-2026-07-28:basic/versioning:extension-one-sided",
)
def test_a_request_that_does_not_declare_the_extension_gets_no_task(peer: Peer) -> None:
    client = able(peer)
    slow(peer, client, 0.2)
    with connection(client) as same:
        params = {"name": "slow_compute", "arguments": {"seconds": 0, "label": "x"}}
        assert same.request("tools/call", params).status == 200
        undeclared = same.request("tools/call", params, meta=client.meta(clientCapabilities={}))
        assert undeclared.message.get("result", {}).get("resultType") != "task"
        assert "result" in undeclared.message or undeclared.code == -32021


@clause("mcp-tasks:negotiation:required-extension-code", "mcp-tasks:negotiation:required-extension-named")
def test_what_only_a_task_can_serve_names_the_extension(peer: Peer) -> None:
    peer.needs("tasks")
    peer.needs_tool("failing_job")
    answer = peer.modern(capabilities={"elicitation": {}}).call("failing_job")
    assert (answer.status, answer.code) == (400, -32021), answer
    assert TASKS in answer.error["data"]["requiredCapabilities"]["extensions"]


@clause("mcp-tasks:get:not-declared-code", "mcp-tasks:update:not-declared-code", "mcp-tasks:cancel:not-declared-code")
@pytest.mark.parametrize("method", METHODS)
def test_a_task_request_needs_the_extension_declared(peer: Peer, method: str) -> None:
    task = slow(peer, able(peer))["taskId"]
    for undeclaring in (peer.modern(), peer.modern(capabilities={"extensions": {"com.example/other": {}}})):
        for each in (task, "no-such-task"):
            answer = ask(undeclaring, method, each)
            assert (answer.status, answer.code) == (400, -32021), answer
            assert TASKS in answer.error["data"]["requiredCapabilities"]["extensions"]


# --- creation


@clause(
    "mcp-tasks:creation:result-type",
    "mcp-tasks:creation:seed-fields",
    "mcp-tasks:creation:poll-interval",
    "mcp-tasks:status:known",
)
def test_a_new_task_has_its_fields_and_no_older_ones(peer: Peer) -> None:
    task = slow(peer, able(peer))
    assert isinstance(task["taskId"], str)
    assert task["status"] in STATUSES
    for name in ("createdAt", "lastUpdatedAt"):
        assert ISO.fullmatch(task[name]), task[name]
        datetime.fromisoformat(task[name])
    assert task["ttlMs"] is None or (type(task["ttlMs"]) is int and task["ttlMs"] > 0)
    assert type(task.get("pollIntervalMs", 1)) is int
    assert not {"task", "ttl", "pollInterval", "requestState", "result", "error", "inputRequests"} & set(task)


@clause("mcp-tasks:creation:durable-first", "mcp-2026-07-28:basic/statelessness:state-by-identifier")
def test_a_task_can_be_read_at_once_and_on_any_connection(peer: Peer) -> None:
    client = able(peer)
    for _ in range(10):
        task = slow(peer, client, 0.5)
        assert get(able(peer), task["taskId"])["taskId"] == task["taskId"]


@clause("mcp-tasks:creation:only-tools-call", "mcp-tasks:creation:result-type-nowhere-else")
def test_nothing_but_a_tool_call_makes_a_task(peer: Peer) -> None:
    client = able(peer)
    for method in ("server/discover", "tools/list", "prompts/list", "resources/list"):
        response = client.request(method).response
        assert response.get("result", {}).get("resultType") != "task", method
    task = slow(peer, client)["taskId"]
    for method in METHODS:
        assert ask(client, method, task).result["resultType"] == "complete", method


@clause("mcp-tasks:creation:mrtr-before-creation")
def test_input_that_is_needed_first_is_asked_for_before_the_task_is_made(peer: Peer) -> None:
    peer.needs_tool("test_tool_with_task")
    client = able(peer)
    first = client.call("test_tool_with_task").result
    assert first["resultType"] == "input_required"
    assert "taskId" not in first
    responses = {key: filled(each) for key, each in first["inputRequests"].items()}
    params = {"name": "test_tool_with_task", "arguments": {}, "inputResponses": responses}
    params |= {"requestState": first["requestState"]} if "requestState" in first else {}
    second = client.request("tools/call", params).result
    assert second["resultType"] == "task"
    assert not {"requestState", "inputRequests"} & set(second)
    done = final(client, second["taskId"])
    assert done["status"] == "completed"
    assert "Alice" in str(done["result"]["content"])


# --- status and tasks/get


@clause("mcp-tasks:get:result-type-complete", "mcp-tasks:get:same-task", "mcp-tasks:status:working")
def test_a_task_that_works_reads_as_working(peer: Peer) -> None:
    client = able(peer)
    task = slow(peer, client)
    found = get(client, task["taskId"])
    assert (found["resultType"], found["taskId"], found["status"]) == ("complete", task["taskId"], "working")
    assert found["createdAt"] == task["createdAt"]
    assert not {"result", "error", "inputRequests", "requestState"} & set(found)


@clause("mcp-tasks:status:completed", "mcp-tasks:get:result-as-the-call-would-give")
def test_a_task_that_is_done_carries_the_result_of_its_call(peer: Peer) -> None:
    client = able(peer)
    done = final(client, slow(peer, client, 0.2)["taskId"])
    assert done["status"] == "completed"
    assert done["result"]["content"][0]["type"] == "text"
    assert not done["result"].get("isError", False)
    assert "error" not in done
    assert "io.modelcontextprotocol/related-task" not in str(done)


@clause("mcp-tasks:status:failed-for-jsonrpc-errors-only", "mcp-tasks:status:tool-error-is-completed")
def test_a_tool_error_stands_in_a_completed_task(peer: Peer) -> None:
    client = able(peer)
    done = final(client, created(peer, client, "failing_job")["taskId"])
    assert done["status"] == "completed"
    assert done["result"]["isError"] is True
    assert done["result"]["content"]


@clause("mcp-tasks:status:failed", "mcp-tasks:status:failed-error-form")
def test_a_protocol_error_fails_the_task(peer: Peer) -> None:
    client = able(peer)
    done = final(client, created(peer, client, "protocol_error_job")["taskId"])
    assert done["status"] == "failed"
    assert type(done["error"]["code"]) is int
    assert done["error"]["message"]
    assert "result" not in done


@clause("mcp-tasks:status:failed-has-message")
def test_a_task_that_failed_says_why(peer: Peer) -> None:
    client = able(peer)
    done = final(client, created(peer, client, "protocol_error_job")["taskId"])
    assert done["status"] == "failed"
    assert done.get("statusMessage")


@clause("mcp-tasks:status:isolated-transitions", "mcp-tasks:cancel:finished-acknowledged")
def test_a_task_at_its_end_stays_as_it_is(peer: Peer) -> None:
    client = able(peer)
    task = slow(peer, client, 0.1)["taskId"]
    done = final(client, task)
    assert ask(client, "tasks/cancel", task).result["resultType"] == "complete"
    assert ask(client, "tasks/update", task, inputResponses={"x": {"action": "accept"}}).status == 200
    again = get(client, task)
    assert (again["status"], again["result"]) == (done["status"], done["result"])


@clause("mcp-tasks:get:unknown-id-code", "mcp-tasks:update:unknown-id-code", "mcp-tasks:cancel:unknown-id-code")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["no-such-task", "0", "x" * 300, "00000000-0000-0000-0000-000000000000"], ids=len)
def test_an_unknown_task_is_invalid_params(peer: Peer, method: str, task: str) -> None:
    answer = ask(able(peer), method, task)
    assert (answer.status, answer.code) == (400, -32602), answer


@clause("mcp-tasks:get:malformed-id-code")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("params", [{}, {"taskId": None}, {"taskId": 5}, {"taskId": []}], ids=str)
def test_a_task_request_without_a_proper_id_is_invalid_params(peer: Peer, method: str, params: dict[str, Any]) -> None:
    answer = able(peer).request(method, {"inputResponses": {}, **params})
    assert (answer.status, answer.code) == (400, -32602), answer


# --- tasks/update


@clause(
    "mcp-tasks:status:input-required",
    "mcp-tasks:get:all-outstanding-inputs",
    "mcp-tasks:get:still-listed-on-next-poll",
    "mcp-tasks:update:acknowledged-empty",
    "mcp-tasks:update:result-type-complete",
    "mcp-tasks:update:goes-on",
)
def test_a_task_that_waits_lists_what_it_waits_for_and_goes_on_when_it_has_it(peer: Peer) -> None:
    client = able(peer)
    task = confirm(peer, client)
    found = waiting(client, task)
    assert found["status"] == "input_required"
    assert get(client, task)["inputRequests"] == found["inputRequests"]
    assert {each["method"] for each in found["inputRequests"].values()} == {"elicitation/create"}
    responses = {key: filled(each) for key, each in found["inputRequests"].items()}
    acknowledged = ask(client, "tasks/update", task, inputResponses=responses).result
    assert acknowledged["resultType"] == "complete"
    assert set(acknowledged) <= {"resultType", "_meta"}
    assert final(client, task)["status"] == "completed"


def confirm(peer: Peer, client: Modern) -> str:
    """Make a task that asks once."""
    wanted = peer.needs_tool("confirm_delete")["inputSchema"].get("properties", {})
    task: str = created(peer, client, "confirm_delete", **dict.fromkeys(wanted, "a.txt"))["taskId"]
    return task


@clause(
    "mcp-tasks:update:partial-accepted", "mcp-tasks:update:keys-unique-for-life", "mcp-tasks:update:keys-never-reused"
)
@clause("mcp-tasks:get:all-outstanding-inputs")
def test_some_of_what_is_asked_may_be_answered_and_the_rest_stays_open(peer: Peer) -> None:
    client = able(peer)
    task = created(peer, client, "multi_input")["taskId"]
    found = waiting(client, task, 2)["inputRequests"]
    one, *others = found
    ask(client, "tasks/update", task, inputResponses={one: filled(found[one])})
    left = polled(client, task, lambda now: one not in now.get("inputRequests", {}))
    assert left["status"] == "input_required"
    assert set(left["inputRequests"]) == set(others)
    ask(client, "tasks/update", task, inputResponses={key: filled(found[key]) for key in others})
    assert final(client, task)["status"] == "completed"


@clause("mcp-tasks:update:unknown-keys-ignored")
def test_a_response_under_a_key_that_is_not_open_is_ignored(peer: Peer) -> None:
    client = able(peer)
    task = confirm(peer, client)
    found = waiting(client, task)
    extra = {"action": "accept", "content": {"name": "Mallory", "confirm": True}}
    assert ask(client, "tasks/update", task, inputResponses={"nobody-asked": extra}).result["resultType"] == "complete"
    assert get(client, task)["inputRequests"] == found["inputRequests"]
    responses = {key: filled(each) for key, each in found["inputRequests"].items()}
    for _ in range(2):  # the second answer comes too late and changes nothing
        assert ask(client, "tasks/update", task, inputResponses=responses).result["resultType"] == "complete"
    assert final(client, task)["status"] == "completed"


# --- tasks/cancel


@clause(
    "mcp-tasks:cancel:acknowledged-empty",
    "mcp-tasks:cancel:result-type-complete",
    "mcp-tasks:status:cancelled",
)
def test_a_cancelled_task_is_acknowledged_and_stops(peer: Peer) -> None:
    client = able(peer)
    task = slow(peer, client)["taskId"]
    acknowledged = ask(client, "tasks/cancel", task).result
    assert acknowledged["resultType"] == "complete"
    assert set(acknowledged) <= {"resultType", "_meta"}
    done = final(client, task)
    assert done["status"] == "cancelled"
    assert not {"result", "error"} & set(done)


@clause("mcp-tasks:cancel:not-by-notification")
def test_a_cancelled_notification_does_not_cancel_a_task(peer: Peer) -> None:
    client = able(peer)
    peer.needs_tool("slow_compute")
    params = {"name": "slow_compute", "arguments": {"seconds": 1, "label": "x"}}
    task = client.request("tools/call", params, id=31).result["taskId"]
    client.notify("notifications/cancelled", {"requestId": 31})
    client.notify("notifications/cancelled", {"requestId": task})
    assert final(client, task)["status"] == "completed"


@clause("mcp-tasks:removed:no-list", "mcp-tasks:removed:no-result")
@pytest.mark.parametrize("method", ["tasks/list", "tasks/result", "tasks/no-such"])
def test_methods_of_the_older_tasks_are_unknown(peer: Peer, method: str) -> None:
    answer = ask(able(peer), method, "x")
    assert (answer.status, answer.code) == (404, -32601), answer


# --- notifications


def listening(peer: Peer, client: Modern, *tasks: str) -> Any:
    """Listen to tasks."""
    peer.needs("subscriptions")
    return client.open("subscriptions/listen", {"notifications": {"taskIds": list(tasks)}}, id="tasks")


@clause("mcp-tasks:notifications:acknowledged-ids")
def test_the_acknowledgement_lists_the_tasks_agreed_to(peer: Peer) -> None:
    client = able(peer)
    task = slow(peer, client)["taskId"]
    with listening(peer, client, task, "no-such-task") as stream:
        assert set(stream.message()["params"]["notifications"].get("taskIds", [])) <= {task}


@clause("mcp-tasks:notifications:not-declared-code")
def test_listening_to_tasks_needs_the_extension_declared(peer: Peer) -> None:
    peer.needs("tasks", "subscriptions")
    answer = peer.modern().request("subscriptions/listen", {"notifications": {"taskIds": ["no-such-task"]}})
    assert (answer.status, answer.code) == (400, -32021), answer
    assert TASKS in answer.error["data"]["requiredCapabilities"]["extensions"]


@clause(
    "mcp-tasks:notifications:status-pushed",
    "mcp-tasks:notifications:complete-task",
    "mcp-tasks:notifications:only-asked-ids",
    "mcp-tasks:notifications:no-progress-or-logs",
)
def test_a_pushed_task_is_whole_and_one_of_those_asked_for(peer: Peer) -> None:
    client = able(peer)
    task, other = slow(peer, client, 1)["taskId"], slow(peer, client, 0.5)["taskId"]
    with listening(peer, client, task) as stream:
        agreed = stream.message()["params"]["notifications"].get("taskIds", [])
        if task not in agreed:
            raise NotApplicable("the server does not push the status of tasks")
        pushed: list[dict[str, Any]] = []
        for message in stream.messages(8):
            assert message["method"] == "notifications/tasks"
            pushed.append(message["params"])
            if pushed[-1]["status"] in FINAL:
                break
    assert {params["taskId"] for params in pushed} == {task}
    assert other not in str(pushed)
    read = get(client, task)
    for name in ("status", "createdAt", "ttlMs", "result"):
        assert pushed[-1][name] == read[name], name


# --- security


@clause("mcp-tasks:security:ids-unguessable")
def test_task_ids_are_long_and_do_not_follow_from_one_another(peer: Peer) -> None:
    client = able(peer)
    ids = [final(client, slow(peer, client, 0)["taskId"])["taskId"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(each) >= 22 for each in ids), "128 bits take 22 characters"
    heads, tails = {each[:8] for each in ids}, {each[-8:] for each in ids}
    assert len(heads) == len(tails) == 20, "a part of the ids repeats"


@clause("mcp-tasks:security:authorized-each-time")
@pytest.mark.parametrize("method", METHODS)
def test_a_task_request_needs_a_valid_access_token(peer: Peer, method: str) -> None:
    task = slow(peer, able(peer))["taskId"]
    for token in (None, "not-a-token"):
        answer = ask(able(peer, token=token), method, task)
        assert answer.status == 401, answer
        assert not answer.messages


@clause("mcp-tasks:security:others-tasks-hidden", "own:modern:tasks-stay-in-principal")
def test_anothers_task_is_answered_as_one_that_never_was(peer: Peer) -> None:
    mine = able(peer)
    task = slow(peer, mine)["taskId"]
    for user in ("bob", "carol"):
        other = able(peer, token=peer.site.token_of(user))
        for method in METHODS:
            hidden, unknown = ask(other, method, task), ask(other, method, "no-such-task")
            assert (hidden.status, hidden.code) == (unknown.status, unknown.code) == (400, -32602), method
            assert hidden.error == unknown.error, method
        with listening(peer, other, task) as stream:
            assert not stream.message()["params"]["notifications"].get("taskIds")
    assert get(mine, task)["status"] == "working"
