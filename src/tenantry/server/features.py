"""What both eras ask for: lists, calls, prompts, resources, completion. One mechanism; the era is in its arguments."""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from typing import Any, NoReturn, Protocol

from tenantry import jsonrpc, policy, web
from tenantry.audit.record import Outcome
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Id, Object, RemoteProtocolError, Request
from tenantry.mcp import interaction, param_headers, resources, results, route
from tenantry.mcp.catalogue import Catalogue, page
from tenantry.mcp.context import CallContext
from tenantry.mcp.interaction import CannotAsk
from tenantry.mcp.offer import Offer
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.revisions import Era, Revision
from tenantry.mcp.session import Session
from tenantry.mcp.tools import ArgumentError, TaskSupport, Tool
from tenantry.oauth import bearer
from tenantry.policy import ALLOWED, Decision, Denied, Feature
from tenantry.server.audit_writer import Ticket
from tenantry.server.calls import Call, Calls, Ended, Run, RunTalking, invoke, run_tool, unknown
from tenantry.server.changes import Changes
from tenantry.server.channels import Channel
from tenantry.server.cut import Cause, Cut, GrantEnded
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.ongoing import Ongoing
from tenantry.server.request_stream import JSON, NO_ANSWER, RequestStream
from tenantry.server.turns import Turns
from tenantry.version import __version__


@dataclass(slots=True, kw_only=True)  # each call makes one, and freezing doubles what that takes
class Incoming:
    """One request, its sender, and what its era adds."""

    exchange: Exchange
    principal: Principal
    message: Request
    revision: Revision
    way: "Way"
    """How its era reaches the client."""
    capabilities: Object
    """What the client says that it can do."""
    answers: Object = field(default_factory=dict)
    """What came along of answers to what was asked before."""
    session: Session | None = None
    batched: bool = False
    """Whether it is one of several, which are answered together: no message can go before."""
    cut: Cut = field(default_factory=Cut)
    continue_as_task: Callable[[], Awaitable[Object]] | None = None
    """Begins the task that a call goes on as, and gives its handle."""

    def answer(self, body: Object) -> web.Response:
        """The response with a result."""
        complete = results.complete(body, revision=self.revision, version=__version__)
        return web.Response(status=200, headers=JSON, body=jsonrpc.encode_result(self.message.id, complete))

    def invalid(self, text: str) -> RemoteProtocolError:
        """The error for parameters that do not fit."""
        return RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {text}", id=self.message.id)

    def text(self, name: str) -> str:
        """A parameter that must be text; raises `RemoteProtocolError`."""
        value = self.message.params.get(name)
        if not isinstance(value, str):
            raise self.invalid(f"{name} must be a string")
        return value

    def object(self, name: str) -> Object:
        """A parameter that is an object, {} where it is left out; raises `RemoteProtocolError`."""
        value = self.message.params.get(name, {})
        if not isinstance(value, dict):
            raise self.invalid(f"{name} must be an object")
        return value


class Way(Protocol):
    """How an era reaches the client of a call under way, and is reached by it."""

    def connect(self, incoming: Incoming) -> tuple[RequestStream, Channel]:
        """Make the answer's stream, and the way to the client from inside of the call."""

    def cancellable(self, incoming: Incoming) -> AbstractContextManager[object]:
        """Let the client say that it no longer wants the answer, while the block runs."""


@dataclass(slots=True)
class Recorded:
    """An answer that may leave once its record is durable: `Features.release` waits for that."""

    response: web.Response
    ticket: Ticket


class Features:
    """Handlers by method name, for either era."""

    def __init__(
        self,
        *,
        config: Config,
        changes: Changes,
        calls: Calls,
        ongoing: Ongoing,
        turns: Turns,
        seal: Callable[[Call, Principal, Object], str],
    ) -> None:
        self._config = config
        self._changes = changes
        self._calls = calls
        self._ongoing = ongoing
        self._turns = turns
        self._seal = seal

    # --- lists

    async def list_tools(self, incoming: Incoming) -> Answer:
        """`tools/list`."""
        return self._list(incoming, "tool", "tools", self._offer.tools, results.describe_tool)

    async def list_prompts(self, incoming: Incoming) -> Answer:
        """`prompts/list`."""
        return self._list(incoming, "prompt", "prompts", self._offer.prompts, results.describe_prompt)

    async def list_resources(self, incoming: Incoming) -> Answer:
        """`resources/list`: those of a fixed URI."""
        return self._list_resources(incoming, "resources", templates=False)

    async def list_templates(self, incoming: Incoming) -> Answer:
        """`resources/templates/list`."""
        return self._list_resources(incoming, "resourceTemplates", templates=True)

    def _list_resources(self, incoming: Incoming, key: str, *, templates: bool) -> Answer:
        catalogue = Catalogue(item for item in self._resources() if item.is_template is templates)
        return self._list(incoming, "resource", key, catalogue, results.describe_resource)

    def _list(
        self,
        incoming: Incoming,
        kind: str,
        key: str,
        catalogue: Catalogue[Any],
        describe: Callable[[Any, Revision], Object],
    ) -> Answer:
        names = policy.visible(incoming.principal, kind, catalogue, self._changes.world.directory)
        try:
            chosen, next_cursor = page(names, incoming.message.params.get("cursor"))
        except ValueError as error:
            raise incoming.invalid(str(error)) from None
        items = [describe(catalogue[name], incoming.revision) for name in chosen]
        return incoming.answer(results.of_list(key, items, next_cursor=next_cursor, revision=incoming.revision))

    @property
    def _offer(self) -> Offer:
        return self._changes.world.offer

    def _resources(self) -> Iterable[Resource]:
        return [self._offer.resources[name] for name in self._offer.resources]

    # --- calls

    async def call_tool(self, incoming: Incoming) -> Answer | Recorded:
        """`tools/call`."""
        call = self._call(incoming, Feature("tool", incoming.text("name")), incoming.object("arguments"))
        tool = self.tool(incoming, call)
        if isinstance(tool, Denied):
            call.waits = False
            return await self._answer_call(incoming, call, tool, _refused)
        call.recorded, call.waits = tool.recorded, tool.function.waits
        if tool.task_support is TaskSupport.REQUIRED and incoming.revision.era is Era.MODERN:
            return await self._answer_call(incoming, call, ALLOWED, _needs_tasks)
        if tool.function.context_parameter is None:
            return await self._answer_call(incoming, call, ALLOWED, partial(run_tool, tool, call, None))
        return await self._answer_talking(incoming, call, ALLOWED, partial(run_tool, tool, call))

    def tool(self, incoming: Incoming, call: Call) -> Tool | Denied:
        """The tool of a call that is allowed, its mirrored headers checked; the denial of one that is not."""
        decision = self._decide(incoming, call)
        if isinstance(decision, Denied):
            return decision
        tool = self._offer.tools[call.feature.name]
        if incoming.revision.era is Era.MODERN and tool.headers:
            param_headers.check(incoming.exchange.request.headers, tool.headers, call.arguments, id_=call.id)
        return tool

    async def get_prompt(self, incoming: Incoming) -> Answer | Recorded:
        """`prompts/get`."""
        call = self._call(incoming, Feature("prompt", incoming.text("name")), incoming.object("arguments"))

        async def run(context: CallContext) -> Object:
            prompt = self._offer.prompts[call.feature.name]
            try:
                arguments = prompt.function.bind(call.arguments, context)
            except ValueError as error:  # pydantic's ValidationError
                raise ArgumentError(_first_line(error)) from None
            return results.of_prompt(prompt, prompt.messages(await invoke(prompt.function, arguments)))

        return await self._answer_talking(incoming, call, self._decide(incoming, call), run)

    async def read_resource(self, incoming: Incoming) -> Answer | Recorded:
        """`resources/read`."""
        uri = incoming.text("uri")
        found = resources.find(uri, self._resources())
        name = "" if found is None else found[0].name
        call = self._call(incoming, Feature("resource", name), {} if found is None else found[1], named=uri)

        async def run(context: CallContext) -> Object:
            if found is None:
                raise unknown(call)
            resource, variables = found
            try:
                arguments = resource.function.bind(variables, context)
            except ValueError:
                raise unknown(call) from None
            value = await invoke(resource.function, arguments)
            return results.of_contents(resource.contents(uri, value), call.revision)

        return await self._answer_talking(incoming, call, self._decide(incoming, call), run)

    def _call(self, incoming: Incoming, feature: Feature, arguments: Object, *, named: str = "") -> Call:
        session = incoming.session
        return Call(
            id=incoming.message.id,
            feature=feature,
            named=named or feature.name,
            arguments=arguments,
            revision=incoming.revision,
            session=None if session is None else session.name,
        )

    def _decide(self, incoming: Incoming, call: Call) -> Decision:
        return self._calls.decide(incoming.principal, call.feature)

    async def _answer_call(self, incoming: Incoming, call: Call, decision: Decision, run: Run) -> Answer | Recorded:
        if not call.waits:  # nothing can come in between
            if not self._ongoing.stands(incoming.principal):
                incoming.cut.grant_ended()
            ended, ticket = await self._calls.carry_out(incoming.principal, call, run, incoming.cut, decision=decision)
        elif incoming.revision.era is Era.MODERN:
            async with incoming.exchange.noticing_departure(incoming.cut.leave):
                ended, ticket = await self._ended(incoming, call, decision, run)
        else:
            ended, ticket = await self._ended(incoming, call, decision, run)
        if ended.body is not None:
            try:
                return Recorded(incoming.answer(ended.body), ticket)
            except Exception:  # a body that can't be written: that it failed is an answer, too
                await ticket.durable()
                raise
        await self.release(ticket, incoming.principal)
        if ended.cut is not None:
            _require_grant(ended.cut)
            return NO_ANSWER
        return self.answer_ended(incoming, call, ended)

    async def release(self, ticket: Ticket, principal: Principal) -> None:
        """Return when an answer may leave; raises `AuditUnavailable` where its record is not known to be durable.

        To be asked where nothing of the request is held any more but its answer.
        """
        waits = not ticket.is_settled
        await ticket.durable()
        if waits:  # one commit wakes all whose records were in it
            await self._turns.take(principal.tenant)

    async def _answer_talking(self, incoming: Incoming, call: Call, decision: Decision, run: RunTalking) -> Answer:
        answer: web.Response | None = None
        cause = Cause.LEFT
        stream, channel = incoming.way.connect(incoming)
        context = CallContext(principal=incoming.principal, channel=channel)
        async with stream.attended(leaving_cancels=incoming.revision.era is Era.MODERN):
            ended, ticket = await self._ended(incoming, call, decision, partial(run, context))
            await self.release(ticket, incoming.principal)
            if ended.outcome is Outcome.CONTINUED and incoming.continue_as_task is not None:
                ended = Ended(outcome=ended.outcome, body=await incoming.continue_as_task())
            if ended.cut is None:
                answer = self._answered(incoming, call, ended)
            else:
                cause = ended.cut
        if answer is None:
            _require_grant(cause)
            return await stream.abandon()
        return await stream.finish(answer)

    async def _ended(self, incoming: Incoming, call: Call, decision: Decision, run: Run) -> tuple[Ended, Ticket]:
        principal, cut = incoming.principal, incoming.cut
        with self._ongoing.ending(principal, cut.grant_ended), incoming.way.cancellable(incoming):
            return await self._calls.carry_out(principal, call, run, cut, decision=decision)

    def _answered(self, incoming: Incoming, call: Call, ended: Ended) -> web.Response:
        # An error is an answer too: on a stream that has begun there is no other way to give it.
        try:
            return self.answer_ended(incoming, call, ended)
        except RemoteProtocolError as error:
            return answer_error(error, incoming.revision.era)

    def answer_ended(self, incoming: Incoming, call: Call, ended: Ended) -> web.Response:
        """Make the answer of how a call ended; raises the `RemoteProtocolError` that it ended with."""
        if ended.error is not None:
            _raise_of(ended)
        if ended.questions:
            state = self._seal(call, incoming.principal, incoming.message.params)
            return incoming.answer(results.of_input_required(interaction.requests(ended.questions), state))
        if ended.body is not None:
            return incoming.answer(ended.body)
        if ended.denied is None:
            raise AssertionError("a call that came to its end has a body, an error, questions or a denial")
        return self._challenge(incoming.message.id, ended.denied)

    def _challenge(self, id_: Id, denied: Denied) -> web.Response:
        # 2026-07-28, authorization, scope challenge: every scope that the operation needs, at once.
        challenge = bearer.insufficient_scope(self._config, denied.needed)
        needed = " ".join(sorted(denied.needed))
        error = jsonrpc.error(Code.INVALID_REQUEST, f"insufficient_scope: this needs {needed}", id_=id_)
        headers = {**JSON, "www-authenticate": challenge}
        return web.Response(status=403, headers=headers, body=jsonrpc.encode(error))

    # --- completion

    async def complete(self, incoming: Incoming) -> Answer:
        """`completion/complete`."""
        reference, argument = incoming.object("ref"), incoming.object("argument")
        name, typed = argument.get("name"), argument.get("value")
        if not isinstance(name, str) or not isinstance(typed, str):
            raise incoming.invalid("argument needs name and value")
        item = self._referenced(incoming, reference)
        suggest = item.completions.get(name)
        found = [] if suggest is None else suggest(typed)
        return incoming.answer(results.of_completions(await found if isawaitable(found) else found))

    def _referenced(self, incoming: Incoming, reference: Object) -> Prompt | Resource:
        kind = reference.get("type")
        item: Prompt | Resource | None = None
        if kind == "ref/prompt" and reference.get("name") in self._offer.prompts:
            item = self._offer.prompts[reference["name"]]
            feature = Feature("prompt", item.name)
        elif kind == "ref/resource":
            item = next((found for found in self._resources() if found.uri == reference.get("uri")), None)
            feature = Feature("resource", "" if item is None else item.name)
        if item is None or isinstance(self._calls.decide(incoming.principal, feature), Denied):
            raise incoming.invalid("ref names no prompt and no resource of yours")
        return item


def _raise_of(ended: Ended) -> NoReturn:
    """Raise, and hold no longer, the error that a call ended with: the two would hold each other by its traceback."""
    error, ended.error = ended.error, None
    try:
        raise error or AssertionError
    finally:
        del error


def _require_grant(cause: Cause) -> None:
    if cause is Cause.GRANT_ENDED:
        raise GrantEnded


async def _refused() -> Object:
    raise AssertionError("a call that is denied does not run")


async def _needs_tasks() -> Object:
    raise CannotAsk({"extensions": {results.TASKS: {}}})


def _first_line(error: ValueError) -> str:
    return str(error).splitlines()[0][:200]


def answer_error(error: RemoteProtocolError, era: Era) -> web.Response:
    """The response of a JSON-RPC error, with the status that goes with it."""
    body = jsonrpc.error(error.code, error.message, id_=error.id, data=error.data)
    return web.Response(status=route.status_of(error, era), headers=JSON, body=jsonrpc.encode(body))
