"""What only modern clients ask for: discovery, listening, rounds of input, tasks."""

import dataclasses
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import trio

from tenantry import jsonrpc, policy, sse
from tenantry.audit import record
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Notification, Object, RemoteProtocolError, Request
from tenantry.mcp import interaction, resources, results
from tenantry.mcp.context import LEVELS
from tenantry.mcp.interaction import BadAnswer
from tenantry.mcp.route import Modern
from tenantry.mcp.tools import TaskSupport
from tenantry.oauth import sealing
from tenantry.policy import Denied, Feature
from tenantry.server.calls import Call, run_tool
from tenantry.server.changes import Changes, Listener
from tenantry.server.channels import Channel, Line, ModernChannel, progress_token
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import ACCEPTED, Answer, Exchange
from tenantry.server.features import Features, Incoming, Recorded
from tenantry.server.request_stream import RequestStream
from tenantry.server.tasks import Tasks, UnknownTask
from tenantry.version import __version__

STATE_LIFETIME_S = 600
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
PENDING_MAX = 100
LISTENED_MAX = 100
_LISTS = {"toolsListChanged": "tool", "resourcesListChanged": "resource", "promptsListChanged": "prompt"}


class RequestStates:
    """The `requestState` of a round of input: sealed, and bound to who asked for what (2026-07-28, MRTR)."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def seal(self, call: Call, principal: Principal, params: Object) -> str:
        """Carry the answers that came so far to the next round."""
        answers = {**self.answers(call.id, call.feature.kind, principal, params)}
        values = {"for": _binding(call.feature.kind, principal, params), "answers": answers}
        return sealing.seal("request-state", values, key=self._key, now=self._clock())

    def answers(self, id_: jsonrpc.Id, kind: str, principal: Principal, params: Object) -> dict[str, Object]:
        """The answers of all rounds so far; raises `RemoteProtocolError` for a state that is not this request's."""
        try:
            return {**self._carried(kind, principal, params), **interaction.answers_of(params)}
        except (BadAnswer, sealing.BrokenSeal) as error:
            raise RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {error}", id=id_) from None

    def _carried(self, kind: str, principal: Principal, params: Object) -> dict[str, Object]:
        state = params.get("requestState")
        if state is None:
            return {}
        if not isinstance(state, str):
            raise BadAnswer("requestState is a string")
        values = sealing.unseal("request-state", state, key=self._key, now=self._clock(), lifetime_s=STATE_LIFETIME_S)
        if values["for"] != _binding(kind, principal, params):
            raise BadAnswer("requestState belongs to another request")
        return dict(values["answers"])


def _binding(kind: str, principal: Principal, params: Object) -> list[str]:
    salient = {name: params[name] for name in ("name", "uri", "arguments") if name in params}
    return [kind, *principal.binding, hashlib.sha256(record.canonical(salient)).hexdigest()]


class ModernEra:
    """Answers requests that carry their own metadata; each stands for itself."""

    def __init__(self, *, features: Features, changes: Changes, tasks: Tasks, states: RequestStates) -> None:
        self._features = features
        self._changes = changes
        self._tasks = tasks
        self._states = states
        self._methods: dict[str, Callable[[Incoming], Awaitable[Answer | Recorded]]] = {
            "server/discover": self._discover,
            "subscriptions/listen": self._listen,
            "tools/list": features.list_tools,
            "tools/call": self._call_tool,
            "resources/list": features.list_resources,
            "resources/templates/list": features.list_templates,
            "resources/read": features.read_resource,
            "prompts/list": features.list_prompts,
            "prompts/get": features.get_prompt,
            "completion/complete": features.complete,
            "tasks/get": self._get_task,
            "tasks/update": self._update_task,
            "tasks/cancel": self._cancel_task,
        }

    async def message(self, exchange: Exchange, principal: Principal, routed: Modern) -> Answer | Recorded:
        """Answer one message; raises `RemoteProtocolError`."""
        message = routed.message
        if isinstance(message, Notification):
            return ACCEPTED
        handle = self._methods.get(message.method)
        if handle is None:
            raise RemoteProtocolError(Code.METHOD_NOT_FOUND, "Method not found", id=message.id)
        return await handle(self._incoming(exchange, principal, message, routed))

    def _incoming(self, exchange: Exchange, principal: Principal, message: Request, routed: Modern) -> Incoming:
        level = message.params["_meta"].get(LOG_LEVEL)
        if level is not None and level not in LEVELS:
            raise RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {LOG_LEVEL}", id=message.id)
        kind = message.method.split("/")[0].removesuffix("s")
        return Incoming(
            exchange=exchange,
            principal=principal,
            message=message,
            revision=routed.revision,
            way=self,
            capabilities=routed.client_capabilities,
            answers=self._states.answers(message.id, kind, principal, message.params),
        )

    # --- the way to the client of a call

    def connect(self, incoming: Incoming) -> tuple[RequestStream, Channel]:
        """Make the answer's stream, and the channel, which asks by ending the call."""
        stream = RequestStream(incoming.exchange)
        becomes_task = incoming.continue_as_task is not None
        return stream, ModernChannel(self._line(incoming, stream), answers=incoming.answers, becomes_task=becomes_task)

    def cancellable(self, _: Incoming) -> AbstractContextManager[object]:
        """Nothing: a modern client cancels by leaving."""
        return nullcontext()

    def _line(self, incoming: Incoming, stream: RequestStream | None) -> Line:
        meta = incoming.message.params["_meta"]
        return Line(
            principal=incoming.principal,
            changes=self._changes,
            stream=stream,
            capabilities=incoming.capabilities,
            progress_token=progress_token(meta),
            log_level=meta.get(LOG_LEVEL),
        )

    async def _discover(self, incoming: Incoming) -> Answer:
        return incoming.answer(results.of_discover(self._changes.world.offer, incoming.revision))

    # --- tools that go on as tasks

    async def _call_tool(self, incoming: Incoming) -> Answer | Recorded:
        if not _has_tasks(incoming):
            return await self._features.call_tool(incoming)
        name, arguments = incoming.text("name"), incoming.object("arguments")
        call = Call(
            id=incoming.message.id,
            feature=Feature("tool", name),
            named=name,
            arguments=arguments,
            revision=incoming.revision,
        )
        tool = self._features.tool(incoming, call)
        if isinstance(tool, Denied) or tool.task_support is TaskSupport.FORBIDDEN:
            return await self._features.call_tool(incoming)
        line = self._line(incoming, None)

        async def create() -> Object:
            named = dataclasses.replace(call, recorded=tool.recorded)
            run = partial(run_tool, tool, named)
            body = await self._tasks.create(incoming.principal, named, run, line, answers=incoming.answers)
            return {**body, "resultType": "task"}

        if tool.task_support is TaskSupport.AFTER_ASKING:
            return await self._features.call_tool(dataclasses.replace(incoming, continue_as_task=create))
        return incoming.answer(await create())

    async def _get_task(self, incoming: Incoming) -> Answer:
        _require_tasks(incoming)
        return incoming.answer(await self._known(incoming, self._tasks.get))

    async def _update_task(self, incoming: Incoming) -> Answer:
        _require_tasks(incoming)
        answers = interaction.answers_of(incoming.message.params)

        async def update(principal: Principal, id_: str) -> Object:
            await self._tasks.update(principal, id_, answers)
            return {}

        return incoming.answer(await self._known(incoming, update))

    async def _cancel_task(self, incoming: Incoming) -> Answer:
        _require_tasks(incoming)

        async def cancel(principal: Principal, id_: str) -> Object:
            await self._tasks.cancel(principal, id_)
            return {}

        return incoming.answer(await self._known(incoming, cancel))

    async def _known(self, incoming: Incoming, use: Callable[[Principal, str], Awaitable[Object]]) -> Object:
        try:
            return await use(incoming.principal, incoming.text("taskId"))
        except UnknownTask:
            raise RemoteProtocolError(Code.INVALID_PARAMS, "Task not found", id=incoming.message.id) from None

    # --- listening

    async def _listen(self, incoming: Incoming) -> Answer:
        wanted = incoming.message.params.get("notifications")
        if not isinstance(wanted, dict):
            raise incoming.invalid("notifications must be an object")
        if wanted.get("taskIds"):
            _require_tasks(incoming)
        honoured = await self._honoured(incoming, wanted)
        id_ = incoming.message.id
        waiting: deque[bytes] = deque(maxlen=PENDING_MAX)
        come = trio.Event()

        def deliver(method: str, params: Object) -> None:
            nonlocal come
            tagged = {**params, "_meta": {SUBSCRIPTION_ID: id_}}
            waiting.append(jsonrpc.encode({"jsonrpc": "2.0", "method": method, "params": tagged}))
            come.set()

        listener = Listener(
            principal=incoming.principal,
            deliver=deliver,
            kinds=frozenset(kind for name, kind in _LISTS.items() if honoured.get(name)),
            uris=lambda: honoured.get("resourceSubscriptions", []),
            tasks=frozenset(honoured.get("taskIds", [])),
        )
        deliver("notifications/subscriptions/acknowledged", {"notifications": honoured})

        async def run(send: SendBytes) -> None:
            nonlocal come
            self._changes.add(listener)
            try:
                while True:
                    while waiting:
                        await send(sse.event(waiting.popleft()))
                    come = trio.Event()
                    await come.wait()
            finally:
                self._changes.remove(listener)

        closing = {"_meta": {SUBSCRIPTION_ID: id_}}
        body = results.complete(closing, revision=incoming.revision, version=__version__)
        return EventStream(
            run=run,
            speaks_first=True,
            deadline=incoming.exchange.deadline(),
            farewell=sse.event(jsonrpc.encode_result(id_, body)),
        )

    async def _honoured(self, incoming: Incoming, wanted: Object) -> dict[str, Any]:
        uris, task_ids = wanted.get("resourceSubscriptions", []), wanted.get("taskIds", [])
        if not all(isinstance(wanted.get(name, False), bool) for name in _LISTS):
            raise incoming.invalid("notifications holds truth values")
        for value in (uris, task_ids):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise incoming.invalid("notifications holds lists of strings")
        honoured: dict[str, Any] = {name: True for name in _LISTS if wanted.get(name) is True}
        readable = [uri for uri in uris[:LISTENED_MAX] if self._may_read(incoming.principal, uri)]
        own = [id_ for id_ in task_ids[:LISTENED_MAX] if await self._tasks.is_own(incoming.principal, id_)]
        return honoured | ({"resourceSubscriptions": readable} if readable else {}) | ({"taskIds": own} if own else {})

    def _may_read(self, principal: Principal, uri: str) -> bool:
        world = self._changes.world
        found = resources.find(uri, [world.offer.resources[name] for name in world.offer.resources])
        feature = Feature("resource", "" if found is None else found[0].name)
        return not isinstance(policy.decide(principal, feature, world.directory), Denied)


def _has_tasks(incoming: Incoming) -> bool:
    extensions = incoming.capabilities.get("extensions")
    return isinstance(extensions, dict) and results.TASKS in extensions


def _require_tasks(incoming: Incoming) -> None:
    if not _has_tasks(incoming):
        raise RemoteProtocolError(
            Code.MISSING_CAPABILITY,
            "Missing required client capability",
            id=incoming.message.id,
            data={"requiredCapabilities": {"extensions": {results.TASKS: {}}}},
        )
