"""Calls that go on after their answer: durable before the handle is given, bound to their principal, audited.

The tasks extension (`io.modelcontextprotocol/tasks`). A task's call leaves its one record when it ends, like any
other; that it was created is a record of its own, before the client learns of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import structlog
import trio

from tenantry import jsonrpc
from tenantry.audit import record
from tenantry.audit.record import Kind, Outcome
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Object
from tenantry.machine import step
from tenantry.mcp import interaction
from tenantry.mcp.context import CallContext
from tenantry.mcp.interaction import Question, Questions
from tenantry.mcp.task import TRANSITIONS, Event, Status
from tenantry.server.audit_writer import AuditUnavailable, Recorder
from tenantry.server.bus import WORKERS, Bus
from tenantry.server.calls import Call, Calls, Ended, Run, RunTalking
from tenantry.server.changes import Changes
from tenantry.server.channels import Line, TaskChannel
from tenantry.server.cut import Cut
from tenantry.server.ongoing import Ongoing
from tenantry.server.store import Store
from tenantry.server.store.database import StoreUnavailable
from tenantry.server.store.tasks import StoredTask

_log = structlog.get_logger()

TTL_MS = 3_600_000
POLL_INTERVAL_MS = 500
# What one person may have going on at once.
PER_PERSON_MAX = 20
# Between two tries to store how one ended.
RETRY_S = 3.0


class UnknownTask(Exception):
    """There is no such task for this principal."""


@dataclass(slots=True, kw_only=True)
class _Task:
    """A task that this process runs."""

    stored: StoredTask
    cut: Cut = field(default_factory=Cut)
    questions: Questions = field(default_factory=dict)
    answers: dict[str, Object] = field(default_factory=dict)
    answered: trio.Event = field(default_factory=trio.Event)
    used: int = 0


class Tasks:
    """Creates, runs, tells of and cancels tasks. `run` must be running."""

    def __init__(
        self,
        *,
        store: Store,
        calls: Calls,
        audit: Recorder,
        changes: Changes,
        bus: Bus,
        ongoing: Ongoing,
        clock: Callable[[], float],
        fresh: Callable[[], str],
    ) -> None:
        self._store = store
        self._calls = calls
        self._audit = audit
        self._changes = changes
        self._ongoing = ongoing
        self._clock = clock
        self._fresh = fresh
        self._bus = bus
        self._running: dict[str, _Task] = {}
        self._nursery: trio.Nursery | None = None
        bus.subscribe("task_answered", self._hear_answers)
        bus.subscribe("task_cancelled", lambda body: self._cancel_here(body["id"]))
        bus.subscribe(WORKERS, self._hear_of_workers)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the running tasks until cancelled; what a process that is gone left unended has failed."""
        await self._end_orphans()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def _end_orphans(self) -> None:
        for stored in await self._store.tasks.unended():
            if not self._bus.alive(stored.runner):
                await self._end(stored, Event.ERROR, error=_error("the server stopped before the task ended"))

    def _hear_of_workers(self, _: Object) -> None:
        self._begin(self._end_orphans)

    def _begin(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Do what nobody waits for; where the store is unavailable it is left undone, and nothing else ends."""

        async def done() -> None:
            try:
                await work(*arguments)
            except StoreUnavailable as error:
                _log.error("a task can't be changed", reason=str(error))

        if self._nursery is not None:
            self._nursery.start_soon(done)

    async def create(
        self, principal: Principal, call: Call, run: RunTalking, line: Line, *, answers: Mapping[str, Object]
    ) -> Object:
        """Begin a task for a call that is allowed; when this returns it is durable, and `tasks/get` finds it.

        Raises `RemoteProtocolError` where the person has too many, and what the audit log raises; no task goes on then.
        """
        if self._nursery is None:
            raise jsonrpc.RemoteProtocolError(Code.INTERNAL_ERROR, "no task can begin now", id=call.id)
        now = self._clock()
        stored = StoredTask(
            id=self._fresh(),
            binding=principal.binding,
            expires_at=now + TTL_MS / 1000,
            body={
                "status": Status.WORKING.value,
                "createdAt": _iso(now),
                "lastUpdatedAt": _iso(now),
                "ttlMs": TTL_MS,
                "pollIntervalMs": POLL_INTERVAL_MS,
            },
            runner=self._bus.own,
        )
        task = _Task(stored=stored)
        if not await self._store.tasks.begin(stored, most=PER_PERSON_MAX):
            message = f"{PER_PERSON_MAX} tasks are going on, end one of them or try again later"
            raise jsonrpc.RemoteProtocolError(Code.INTERNAL_ERROR, message, id=call.id, http_status=429)
        named = replace(call, session=None, task=stored.id[:16])
        created = record.encode(Kind.TASK_CREATED, time_us=int(now * 1_000_000), **self._calls.origin(principal, named))
        try:
            await self._audit.append(created)
        except BaseException:
            # Nobody would end it: it never began, and its client was given no handle.
            with trio.CancelScope(shield=True):
                await self._end(stored, Event.ERROR, error=_error("the task did not begin"))
            raise
        self._running[stored.id] = task
        channel = TaskChannel(line, park=partial(self._park, task), answers=answers)
        context = CallContext(principal=principal, channel=channel)
        self._nursery.start_soon(self._carry_out, task, principal, named, partial(run, context))
        return _shown(stored)

    async def _carry_out(self, task: _Task, principal: Principal, call: Call, run: Run) -> None:
        ended = Ended(outcome=Outcome.CANCELLED)
        try:
            with self._ongoing.ending(principal, task.cut.grant_ended):
                ended = await self._calls.call(principal, call, run, task.cut)
        except Exception as error:  # noqa: BLE001  # whatever fails, nothing ends by it but this task
            _log.error("a task failed", reason=repr(error))
            ended = _UNRECORDED if isinstance(error, AuditUnavailable) else _FAILED
        finally:
            await self._finish(task, ended)

    async def _finish(self, task: _Task, ended: Ended) -> None:
        """Let its owner see how it ended, as soon as the store takes that."""
        while True:
            if await self._ends_as(task, ended):
                break
            await trio.sleep(RETRY_S)
        self._running.pop(task.stored.id, None)

    async def _ends_as(self, task: _Task, ended: Ended) -> bool:
        """Store the end of a task; False where that may work later."""
        try:
            with trio.CancelScope(shield=True):
                await self._end_as(task, ended)
        except StoreUnavailable as error:
            _log.error("the end of a task can't be stored", reason=str(error))
            return False
        except Exception as error:  # noqa: BLE001  # such as data of an error that has no JSON form
            _log.error("a task failed", reason=repr(error))
            return ended is _FAILED or await self._ends_as(task, _FAILED)
        return True

    async def _end_as(self, task: _Task, ended: Ended) -> None:
        if ended.body is not None:
            await self._end(task.stored, Event.RESULT, result=ended.body)
        elif ended.error is not None:
            error = jsonrpc.error(ended.error.code, ended.error.message, id_=None, data=ended.error.data)["error"]
            await self._end(task.stored, Event.ERROR, error=error)
        elif ended.cut is not None:
            await self._end(task.stored, Event.CANCEL)
        else:
            await self._end(task.stored, Event.ERROR, error=_error("the server stopped before the task ended"))

    async def _end(self, stored: StoredTask, event: Event, **more: Object) -> None:
        await self._move(stored, event, more, ended=True)

    async def _park(self, task: _Task, questions: dict[str, Question]) -> dict[str, Object]:
        # A key is used once in a task's life, so that an answer always means the question that it was given to.
        task.used += 1
        keys = {key: f"{key}-{task.used}" for key in questions}
        task.questions = {keys[key]: question for key, question in questions.items()}
        task.answers = {}
        task.answered = trio.Event()
        await self._restate(task, Event.ASK)
        await task.answered.wait()
        await self._restate(task, Event.ANSWER)
        return {key: task.answers[keys[key]] for key in questions}

    async def _restate(self, task: _Task, event: Event) -> None:
        await self._move(
            task.stored, event, {"inputRequests": interaction.requests(task.questions)} if task.questions else {}
        )

    async def _move(self, stored: StoredTask, event: Event, more: Object, *, ended: bool = False) -> None:
        status = step(TRANSITIONS, Status(stored.body["status"]), event)
        if status is Status.FAILED:
            more = {**more, "statusMessage": more["error"]["message"]}
        body = {name: value for name, value in stored.body.items() if name != "inputRequests"}
        body |= {"status": status.value, "lastUpdatedAt": _iso(self._clock()), **more}
        await self._store.tasks.save(replace(stored, body=body, ended=ended))
        stored.body, stored.ended = body, ended
        self._tell(stored)

    def _tell(self, stored: StoredTask) -> None:
        self._changes.task(stored.id, stored.binding, _shown(stored))

    async def get(self, principal: Principal, id_: str) -> Object:
        """How the task stands; raises `UnknownTask`."""
        return _shown(await self._find(principal, id_))

    async def is_own(self, principal: Principal, id_: str) -> bool:
        """Whether the principal has such a task."""
        return await self._store.tasks.find(id_, principal.binding) is not None

    async def update(self, principal: Principal, id_: str, answers: dict[str, Object]) -> None:
        """Take answers to what the task asks; others are ignored. Raises `UnknownTask`."""
        await self._find(principal, id_)
        task = self._running.get(id_)
        if task is None:
            self._bus.publish("task_answered", {"id": id_, "answers": answers})
        else:
            await self._answer(task, answers)

    def _hear_answers(self, body: Object) -> None:
        task = self._running.get(body["id"])
        if task is not None:
            self._begin(self._answer, task, body["answers"])

    async def _answer(self, task: _Task, answers: dict[str, Object]) -> None:
        taken = {key: answer for key, answer in answers.items() if key in task.questions}
        if not taken:
            return
        task.answers |= taken
        task.questions = {key: question for key, question in task.questions.items() if key not in taken}
        if task.questions:
            await self._restate(task, Event.ASK)
        else:
            task.answered.set()

    async def cancel(self, principal: Principal, id_: str) -> None:
        """Ask the task to end; one that has ended stays as it is. Raises `UnknownTask`."""
        await self._find(principal, id_)
        if not self._cancel_here(id_):
            self._bus.publish("task_cancelled", {"id": id_})

    def _cancel_here(self, id_: str) -> bool:
        task = self._running.get(id_)
        if task is not None:
            task.cut.cancel()
        return task is not None

    async def _find(self, principal: Principal, id_: str) -> StoredTask:
        stored = await self._store.tasks.find(id_, principal.binding)
        if stored is None or stored.expires_at < self._clock():
            raise UnknownTask
        return stored


def _shown(stored: StoredTask) -> Object:
    return {"taskId": stored.id, **stored.body}


def _failed(why: str) -> Ended:
    return Ended(outcome=Outcome.FAILED, error=jsonrpc.RemoteProtocolError(Code.INTERNAL_ERROR, why))


_FAILED = _failed("the server failed")
_UNRECORDED = _failed("the audit log is unavailable")


def _error(text: str) -> Object:
    return {"code": int(Code.INTERNAL_ERROR), "message": text}


def _iso(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
