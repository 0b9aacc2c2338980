import json
from collections.abc import Callable
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing

from tenantry import CallContext, ToolError, tool
from tenantry.audit import record
from tenantry.audit.denials import Denial
from tenantry.audit.record import Outcome
from tenantry.identity import Principal
from tenantry.jsonrpc import Code
from tenantry.mcp.revisions import LEGACY, MODERN
from tenantry.policy import Directory, Feature, Reason, Tenant, User
from tenantry.server.audit_writer import AuditUnavailable
from tenantry.server.calls import Call, Calls, Ended, run_tool
from tenantry.server.changes import Changes
from tenantry.server.channels import Channel, Line
from tenantry.server.cut import Cause, Cut
from tenantry.server.figures import Figures

NEWEST = next(iter(MODERN.values()))
ALICE = Principal(
    tenant="a",
    subject="alice",
    client_id="client",
    scopes=frozenset({"call"}),
    token_id="t",
    family_id="f",
    expires_at=0,
)


class Audit:
    """A recorder that keeps what it was given; at its gate a ticket waits, shielded as the real one does."""

    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.fails = False
        self.down = False
        self.alike: list[dict[str, object]] = []

    def hand_in(self, entry: bytes, *, tenant: str = "") -> "Held":
        return Held(self, entry)

    def hand_in_denial(self, entry: bytes, denial: Denial, *, tenant: str = "") -> "Held":
        self.alike.append(json.loads(denial.about))
        return Held(self, entry)

    def check(self) -> None:
        if self.down:
            raise AuditUnavailable("no disk")


class Held:
    """A ticket of an `Audit`."""

    def __init__(self, audit: Audit, entry: bytes) -> None:
        self._audit = audit
        self._entry = entry

    def when_settled(self, tell: Callable[[], None]) -> None:
        """Nobody counts here."""

    async def durable(self) -> None:
        with trio.CancelScope(shield=True):
            await self._audit.gate.wait()
            await trio.lowlevel.checkpoint()
        if self._audit.fails:
            raise AuditUnavailable("no disk")
        self._audit.entries.append(record.decode(self._entry))


class OneTool:
    """Calls of one function under the name `it`; other names are somebody else's, or nobody's."""

    def __init__(self, calls: Calls, function: Callable[..., object]) -> None:
        self._calls = calls
        self._tool = tool(name="it")(function)

    async def call(self, principal: Principal, call: Call, cut: Cut | None = None) -> Ended:
        line = Line(principal=principal, changes=cast(Changes, None), stream=None, capabilities={})
        context = CallContext(principal=principal, channel=Channel(line))
        return await self._calls.call(principal, call, partial(run_tool, self._tool, call, context), cut or Cut())


def calls(audit: Audit, function: Callable[..., object], **settings: object) -> OneTool:
    directory = Directory(
        needed={
            Feature("tool", "it"): frozenset({"call"}),
            Feature("tool", "high"): frozenset({"call", "admin"}),
            Feature("tool", "far"): frozenset(),
        },
        tenants={"a": Tenant(features=frozenset({Feature("tool", "it"), Feature("tool", "high")}))},
        users={"alice": User(tenant="a", scopes=frozenset({"call", "admin"}))},
    )
    made = Calls(
        figures=Figures(),
        directory=lambda: directory,
        audit=audit,
        clock=lambda: 1000.5,
        mode="dual",
        timeout_s=float(settings.get("timeout_s", 5)),
    )
    return OneTool(made, function)


def call(name: str = "it", arguments: dict[str, object] | None = None, revision=NEWEST) -> Call:
    return Call(id=0, feature=Feature("tool", name), named=name, arguments=arguments or {}, revision=revision)


async def say(message: str = "hi") -> str:
    return message


async def test_a_success_is_recorded_with_all_that_is_kept_of_a_call():
    audit = Audit()
    ended = await calls(audit, say).call(ALICE, call(arguments={"message": "secret"}))

    assert ended.body == {"content": [{"type": "text", "text": "secret"}], "isError": False}
    (entry,) = audit.entries
    assert entry.pop("duration_us") >= 0  # type: ignore[operator]
    assert len(entry.pop("arguments_sha256")) == 64
    assert entry == {
        "kind": "tool_call",
        "time": 1_000_500_000,
        "tenant": "a",
        "subject": "alice",
        "client": "client",
        "tool": "it",
        "arguments_bytes": 20,
        "decision": "allowed",
        "outcome": "succeeded",
        "jsonrpc_id": 0,
        "era": "modern",
        "revision": "2026-07-28",
        "mode": "dual",
    }


async def test_a_tool_error_is_no_success():
    async def fail() -> str:
        raise ToolError("out of paper")

    audit = Audit()
    ended = await calls(audit, fail).call(ALICE, call())

    assert ended.body == {"content": [{"type": "text", "text": "out of paper"}], "isError": True}
    assert audit.entries[0]["outcome"] == "tool_error"


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_crash_tells_the_client_nothing_and_is_recorded(kind, in_thread):
    def crash() -> str:
        raise kind("password=hunter2")

    async def crash_here() -> str:
        return crash()

    audit = Audit()
    ended = await calls(audit, crash if in_thread else crash_here).call(ALICE, call())

    assert ended.body is not None
    assert ended.body["isError"] is True
    assert "hunter2" not in str(ended.body)
    assert audit.entries[0]["outcome"] == "crashed"


async def test_a_value_without_json_form_is_a_crash():
    async def odd() -> object:
        return {"x": float("nan"), "y": object()}

    audit = Audit()
    await calls(audit, odd).call(ALICE, call())

    assert audit.entries[0]["outcome"] == "crashed"


async def test_a_tool_that_takes_too_long_is_stopped(autojump_clock):
    audit = Audit()

    async def sleep() -> str:
        await trio.sleep_forever()
        return ""

    ended = await calls(audit, sleep, timeout_s=3).call(ALICE, call())

    assert ended.body is not None
    assert "3 s" in str(ended.body)
    assert trio.current_time() == pytest.approx(3, abs=0.1)
    assert audit.entries[0]["outcome"] == "timed_out"


@pytest.mark.parametrize(("revision", "is_result"), [("2025-11-25", True), ("2025-06-18", False)])
async def test_bad_arguments_are_a_result_or_an_error_as_the_revision_says(revision, is_result):
    audit = Audit()
    ended = await calls(audit, say).call(ALICE, call(arguments={"message": 1}, revision=LEGACY[revision]))

    assert (ended.body is not None) == is_result
    assert (ended.error is not None) != is_result
    assert audit.entries[0]["outcome"] == "invalid_arguments"


async def test_a_denial_is_recorded_and_the_tool_is_not_run():
    ran = []

    async def it() -> str:
        ran.append(1)
        return ""

    audit = Audit()
    ended = await calls(audit, it).call(ALICE, call("high"))

    assert ended.denied is not None
    assert ended.denied.reason is Reason.STEP_UP
    assert ran == []
    assert audit.entries[0]["kind"] == "tool_denied"
    assert audit.entries[0]["reason"] == "insufficient_scope"
    assert audit.entries[0]["outcome"] == "denied"


async def test_a_hidden_tool_is_answered_as_an_unknown_one_and_recorded_as_what_it_is():
    audit = Audit()
    tool_calls = calls(audit, say)
    hidden = await tool_calls.call(ALICE, call("far"))
    unknown = await tool_calls.call(ALICE, call("fur"))

    assert hidden.error is not None
    assert unknown.error is not None
    assert hidden.error.code is unknown.error.code is Code.INVALID_PARAMS
    assert hidden.error.message.replace("far", "fur") == unknown.error.message
    assert [entry["reason"] for entry in audit.entries] == ["foreign", "unknown"]
    assert [what.get("tool") for what in audit.alike] == ["far", None], "of invented names there is no end"


async def test_without_a_record_there_is_no_answer():
    audit = Audit()
    audit.fails = True
    with pytest.raises(AuditUnavailable):
        await calls(audit, say).call(ALICE, call())


async def test_nothing_runs_while_nothing_can_be_recorded():
    ran = []

    async def it() -> str:
        ran.append(1)
        return ""

    audit = Audit()
    audit.down = True
    with pytest.raises(AuditUnavailable):
        await calls(audit, it).call(ALICE, call())
    assert (ran, audit.entries) == ([], [])


async def test_a_call_cancelled_inside_its_tool_is_recorded_once_as_cancelled():
    inside = trio.Event()

    async def wait(ctx: CallContext) -> str:
        inside.set()
        await trio.sleep_forever()
        return ctx.tenant

    audit = Audit()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls(audit, wait).call, ALICE, call())
            await inside.wait()
            nursery.cancel_scope.cancel()

    assert [entry["outcome"] for entry in audit.entries] == ["cancelled"]


async def test_a_call_cancelled_while_its_record_is_written_is_recorded_once_and_not_answered():
    audit = Audit()
    audit.gate = trio.Event()
    answers = []

    async def call_and_answer() -> None:
        ended = await calls(audit, say).call(ALICE, call())
        await trio.lowlevel.checkpoint()
        answers.append(ended)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call_and_answer)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            assert audit.entries == []
            audit.gate.set()

    assert [entry["outcome"] for entry in audit.entries] == ["succeeded"]
    assert answers == []


async def test_what_awaits_nothing_is_not_begun_where_its_call_was_ended_before():
    audit, ran = Audit(), []

    async def never() -> str:
        ran.append("never")
        return ""

    tool_call, cut = call(), Cut()
    tool_call.waits = False
    cut.grant_ended()
    ended = await calls(audit, never).call(ALICE, tool_call, cut)

    assert (ran, ended.outcome, ended.cut) == ([], Outcome.CANCELLED, Cause.GRANT_ENDED)
    assert [entry["outcome"] for entry in audit.entries] == ["cancelled"]


async def test_a_sync_tool_runs_beside_the_loop_and_is_abandoned_when_its_call_is_cancelled():
    import threading

    entered, gate = threading.Event(), threading.Event()

    def block() -> str:
        entered.set()
        gate.wait(5)
        return ""

    audit = Audit()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls(audit, block).call, ALICE, call())
            await trio.to_thread.run_sync(entered.wait, 5)
            nursery.cancel_scope.cancel()
    gate.set()

    assert [entry["outcome"] for entry in audit.entries] == ["cancelled"]
