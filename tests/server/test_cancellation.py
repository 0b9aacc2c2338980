"""A call is cut at each of its waits, one after the other: it leaves one record, and none is answered without it."""

import math
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from itertools import count
from unittest.mock import patch

import pytest
import trio

from tenantry import CallContext, ToolError, tool
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.server.audit_writer import AuditWriter, Ticket
from tests.cut import cut_at
from tests.faults.subject import early_acknowledgement, promised
from tests.oauth.flow import Recorded, World
from tests.server.in_process import InProcess, in_process, request

Ask = Callable[[int, trio.Event | None, Callable[[bytes], None]], Awaitable[object]]
BEGUN: set[str] = set()
"""The marks of the calls whose tool has begun."""


@tool(name="quick")
async def quick(mark: str) -> str:
    """Answer at once."""
    BEGUN.add(mark)
    await trio.lowlevel.checkpoint()
    return "done"


@tool(name="wrong")
async def wrong(mark: str) -> str:
    """Fail."""
    BEGUN.add(mark)
    raise ToolError("out of paper")


@tool(name="talking")
async def talking(mark: str, ctx: CallContext) -> str:
    """Tell of its progress: the answer is a stream."""
    BEGUN.add(mark)
    await ctx.progress(1)
    ctx.log("error", "half done")
    await trio.lowlevel.checkpoint()
    await ctx.progress(2)
    return "done"


TOOLS = [quick, wrong, talking]
# admin_purge is there for the tenant and not for these scopes; export_report is another tenant's.
NAMES = ["quick", "wrong", "talking", "admin_purge", "export_report"]


def arguments(id_: int, name: str) -> dict[str, object]:
    return {"name": name, "arguments": {"mark": str(id_)}, "_meta": {"progressToken": id_}}


def modern(server: InProcess, token: str, name: str) -> Ask:
    def ask(id_: int, left: trio.Event | None, hear: Callable[[bytes], None]) -> Awaitable[object]:
        params = arguments(id_, name)
        meta = params.pop("_meta")
        return server.modern("tools/call", token, id_, meta=meta, left=left, hear=hear, **params)

    return ask


def legacy(server: InProcess, token: str, name: str, headers: dict[str, str]) -> Ask:
    def ask(id_: int, left: trio.Event | None, hear: Callable[[bytes], None]) -> Awaitable[object]:
        message = request("tools/call", id_, **arguments(id_, name))
        return server.post(message, token, left=left, hear=hear, **headers)

    return ask


class Judge:
    """Holds what was answered and what ran against what is on record."""

    def __init__(self, server: InProcess) -> None:
        self._server = server
        self.problems: list[str] = []
        self.answered = 0

    def records(self, id_: int) -> list[str]:
        return [entry["outcome"] for entry in self._server.records() if entry.get("jsonrpc_id") == id_]

    def hear(self, id_: int) -> Callable[[bytes], None]:
        """Take what is sent to the client: an answer must be on record at the moment that it leaves."""

        def hear(data: bytes) -> None:
            if b'"result":' in data or b'"error":{' in data:
                self.answered += 1
                if len(self.records(id_)) != 1:
                    self.problems.append(f"{id_} was answered with the records {self.records(id_)}")

        return hear

    def check(self, id_: int) -> None:
        """What must hold when the call is over, however it was cut."""
        records = self.records(id_)
        if len(records) > 1 or (str(id_) in BEGUN and not records):
            self.problems.append(f"{id_} has the records {records}")


async def cut_everywhere(server: InProcess, ask: Ask, *, leaving: bool, ids: "count[int]") -> Judge:
    """Cut the call at its first wait, at its second, and so on until one ends before it is cut."""
    judge = Judge(server)
    happened = True
    cuts = 0
    while happened:
        cuts += 1
        id_ = next(ids)
        left = trio.Event() if leaving else None
        with trio.fail_after(30):
            work = partial(ask, id_, left, judge.hear(id_))
            happened = await cut_at(cuts, work, leave=None if left is None else left.set)
            await server.audit.append(record.encode(Kind.LOGOUT, time_us=1))  # all that was handed in came before
        judge.check(id_)
    assert cuts > 3, "there was nothing to cut"
    assert judge.answered, "the last one, which was not cut, was not answered"
    return judge


async def judged(tmp_path, era: str, name: str, *, leaving: bool) -> list[str]:
    async with in_process(tmp_path, offer=list(TOOLS)) as server:
        token = server.token("alice", "tools:call")
        if era == "modern":
            ask = modern(server, token, name)
        else:
            opened = await server.initialize(token)
            headers = {"mcp_session_id": opened.headers["mcp-session-id"], "mcp_protocol_version": "2025-11-25"}
            await server.post(request("notifications/initialized", None), token, **headers)
            ask = legacy(server, token, name, headers)
        judge = await cut_everywhere(server, ask, leaving=leaving, ids=count(1000))
        return judge.problems


@pytest.mark.parametrize("leaving", [False, True], ids=["cancelled", "left"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_that_is_cut_anywhere_has_one_record_and_no_answer_without_it(tmp_path, era, name, leaving):
    assert await judged(tmp_path, era, name, leaving=leaving) == []


def forgetful_writer() -> AbstractContextManager[object]:
    """Plant a writer that takes nothing from whoever was cancelled."""
    hand_in = AuditWriter.hand_in

    def cancellable(writer: AuditWriter, entry: bytes, **more: str) -> Ticket:
        return promised(entry) if trio.current_effective_deadline() == -math.inf else hand_in(writer, entry, **more)

    return patch.object(AuditWriter, "hand_in", cancellable)


def doubling_writer() -> AbstractContextManager[object]:
    """Plant a writer that writes twice."""
    hand_in = AuditWriter.hand_in

    def twice(writer: AuditWriter, entry: bytes, **more: str) -> Ticket:
        hand_in(writer, entry, **more)
        return hand_in(writer, entry, **more)

    return patch.object(AuditWriter, "hand_in", twice)


@pytest.mark.parametrize("plant", [forgetful_writer, doubling_writer, early_acknowledgement])
async def test_a_planted_bug_is_noticed(tmp_path, plant):
    with plant():
        assert await judged(tmp_path, "modern", "quick", leaving=False) != []


# --- the authorization server: a change of the store has its record, and no answer comes without it


class Waiting(Recorded):
    """A recorder whose append waits and is shielded, as the real one is."""

    async def append(self, entry: bytes) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
        await super().append(entry)


async def cut_each_wait(change: Callable[[], Awaitable[object]], check: Callable[[bool], Awaitable[None]]) -> None:
    """Cut `change` at each wait; `check` is told each time whether it was answered."""
    answered = False

    async def answer() -> None:
        nonlocal answered
        await change()
        answered = True

    for number in count(1):
        answered = False
        happened = await cut_at(number, answer)
        await check(answered)
        if not happened:
            break
    assert answered
    assert number > 3


async def test_a_code_that_was_redeemed_is_on_record_wherever_the_request_was_cut(tmp_path):
    world = World(tmp_path / "state.db", audit=Waiting())
    client_id = await world.register()
    code = await world.code(client_id)

    async def check(answered: bool) -> None:
        nonlocal code
        issued = world.audit.kinds().count("token_issued")
        again = await world.redeem(client_id, code)
        was_redeemed = again.status == 400
        assert issued == was_redeemed >= answered
        world.audit.rows.clear()
        code = await world.code(client_id)

    await cut_each_wait(lambda: world.redeem(client_id, code), check)
    world.store.close()


async def test_a_client_that_was_registered_is_on_record_wherever_the_request_was_cut(tmp_path):
    world = World(tmp_path / "state.db", audit=Waiting())

    async def check(answered: bool) -> None:
        with closing(sqlite3.connect(world.path)) as store:
            (registered,) = store.execute("SELECT count(*) FROM client").fetchone()
        assert world.audit.kinds().count("client_registered") == registered

    await cut_each_wait(world.register, check)
    world.store.close()
