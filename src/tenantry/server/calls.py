"""One use of a feature (`tools/call`, `prompts/get`, `resources/read`): decide, run, record, answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import perf_counter_ns
from typing import Any

import structlog
import trio

from tenantry import policy
from tenantry.audit import denials, record
from tenantry.audit.denials import Denial
from tenantry.audit.record import Form, Kind, Outcome
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Id, Object, RemoteProtocolError
from tenantry.mcp import results, revisions
from tenantry.mcp.context import CallContext
from tenantry.mcp.functions import Function
from tenantry.mcp.interaction import Background, BadAnswer, CannotAsk, InputRequired, Questions
from tenantry.mcp.revisions import Era, Revision
from tenantry.mcp.tools import ArgumentError, Tool, ToolError
from tenantry.policy import Decision, Denied, Directory, Feature, Reason
from tenantry.server import figures
from tenantry.server.audit_writer import Recorder, Ticket
from tenantry.server.cut import Cause, Cut
from tenantry.server.figures import Figures

_log = structlog.get_logger()
_RECORDED = {
    "tool": (Kind.TOOL_CALL, Kind.TOOL_DENIED),
    "prompt": (Kind.PROMPT_GET, Kind.PROMPT_DENIED),
    "resource": (Kind.RESOURCE_READ, Kind.RESOURCE_DENIED),
}
# Some 2 KiB each: what the records of one person's calls by one client have in common.
FORMS_REMEMBERED = 1000


@dataclass(slots=True, kw_only=True)  # each call makes one, and freezing doubles what that takes
class Call:
    """What is called and how it came; of the arguments' values those are recorded that the tool names."""

    id: Id
    feature: Feature
    named: str
    """What the client called it by: a name, or a resource's URI."""
    arguments: Object
    revision: Revision
    recorded: tuple[str, ...] = ()
    """The arguments whose values are recorded."""
    waits: bool = True
    """Whether there may be a time in which it can be ended."""
    session: str | None = None
    """A name for the MCP session that is no secret."""
    task: str | None = None


@dataclass(slots=True, kw_only=True)  # each call makes one, and freezing doubles what that takes
class Ended:
    """How a call ended: with a result body, a protocol error, a denial, or questions that come first."""

    outcome: Outcome
    body: Object | None = None
    error: RemoteProtocolError | None = None
    denied: Denied | None = None
    questions: Questions = field(default_factory=dict)
    cut: Cause | None = None
    """What ended it from outside."""


Run = Callable[[], Awaitable[Object]]
"""Runs the function and gives the result's body; raises what the function raises, and `ArgumentError`."""
RunTalking = Callable[[CallContext], Awaitable[Object]]
"""The same of a function that talks with its client."""


class Calls:
    """Runs calls; every one of them leaves exactly one record before its answer can leave."""

    def __init__(
        self,
        *,
        directory: Callable[[], Directory],
        audit: Recorder,
        figures: Figures,
        clock: Callable[[], float],
        mode: str,
        timeout_s: float,
    ) -> None:
        self._directory = directory
        self._audit = audit
        self._figures = figures
        self._clock = clock
        self._mode = mode
        self._timeout_s = timeout_s
        self._form = lru_cache(FORMS_REMEMBERED)(self._form_of)

    def decide(self, principal: Principal, feature: Feature) -> Decision:
        """What the policy says now."""
        return policy.decide(principal, feature, self._directory())

    async def call(self, principal: Principal, call: Call, run: Run, cut: Cut) -> Ended:
        """Decide on the call now and do as `carry_out`; return once the record is durable."""
        decision = self.decide(principal, call.feature)
        ended, ticket = await self.carry_out(principal, call, run, cut, decision=decision)
        await ticket.durable()
        return ended

    async def carry_out(
        self, principal: Principal, call: Call, run: Run, cut: Cut, *, decision: Decision
    ) -> tuple[Ended, Ticket]:
        """Run a call if it is allowed by the `decision` of this moment, and hand its record in.

        Nothing of how it ended may be answered before the ticket says that it is durable. A call that is cut or
        cancelled is recorded too. Raises `AuditUnavailable` where there is no record: then that alone may be answered.
        """
        self._audit.check()  # no tool runs that could leave no record
        began = int(self._clock() * 1_000_000), perf_counter_ns()
        try:
            if isinstance(decision, Denied):
                ended = _refusal(principal, call, decision)
            elif call.waits:
                ended = await self._run(call, run, cut)
            elif cut.cause is None:  # it ends where it begins; a scope would take longer than most such functions do
                ended = await _ended_by(call, run)
            else:
                ended = Ended(outcome=Outcome.CANCELLED, cut=cut.cause)
        except BaseException:  # cancelled from outside of the call: it is over when its record is durable, too
            await self._hand_in(principal, call, decision, Outcome.CANCELLED, began).durable()
            raise
        return ended, self._hand_in(principal, call, decision, ended.outcome, began)

    def _hand_in(
        self,
        principal: Principal,
        call: Call,
        decision: Decision,
        outcome: Outcome,
        began: tuple[int, int],
    ) -> Ticket:
        # `began`: microseconds since the epoch, and nanoseconds of the clock that never jumps
        time_us, started = began
        denied = decision if isinstance(decision, Denied) else None
        reason = None if denied is None else denied.reason
        form = self._form(call.feature.kind, reason, outcome, *principal.binding, call.revision.name)
        entry = form.encode(time_us, (perf_counter_ns() - started) // 1000, call.named, *_how(call))
        if denied is None:
            ticket = self._audit.hand_in(entry, tenant=principal.tenant)
        else:
            denial = Denial(_about(principal, call, denied), time_us)
            ticket = self._audit.hand_in_denial(entry, denial, tenant=principal.tenant)
        ticket.when_settled(partial(self._count, principal.tenant, call.feature, decision, outcome, started))
        return ticket

    def _count(self, tenant: str, feature: Feature, decision: Decision, outcome: Outcome, started: int) -> None:
        is_known = isinstance(decision, policy.Allowed) or feature in self._directory().needed
        named = feature if is_known else Feature(feature.kind, figures.UNKNOWN)
        self._figures.call(tenant, named, outcome, (perf_counter_ns() - started) / 1e9)
        if isinstance(decision, Denied):
            self._figures.denial(tenant, decision.reason.value)

    def origin(self, principal: Principal, call: Call) -> Object:
        """The fields of a record that say who called what, and how it came."""
        how = zip(_HOW, _how(call), strict=True)
        return {**self._whence(*principal.binding, call.revision.name), call.feature.kind: call.named, **dict(how)}

    def _whence(self, tenant: str, subject: str, client: str, revision: str) -> Object:
        return {
            "tenant": tenant,
            "subject": subject,
            "client": client,
            "era": revisions.REVISIONS[revision].era,
            "revision": revision,
            "mode": self._mode,
        }

    def _form_of(self, kind: str, reason: Reason | None, outcome: Outcome, *whence: str) -> Form:
        allowed, denied = _RECORDED[kind]
        return Form(
            allowed if reason is None else denied,
            ("time", "duration_us", kind, *_HOW),
            decision="allowed" if reason is None else "denied",
            reason=reason,
            outcome=outcome,
            **self._whence(*whence),
        )

    async def _run(self, call: Call, run: Run, cut: Cut) -> Ended:
        with cut.open(trio.current_time() + self._timeout_s):
            return await _ended_by(call, run)
        if cut.cause is not None:
            return Ended(outcome=Outcome.CANCELLED, cut=cut.cause)
        text = f"{call.feature.name} took longer than {self._timeout_s:g} s and was stopped"
        return _failed(Outcome.TIMED_OUT, call, text)


async def _ended_by(call: Call, run: Run) -> Ended:  # noqa: PLR0911  # one for each way to end
    try:
        return Ended(outcome=Outcome.SUCCEEDED, body=await run())
    except InputRequired as required:
        return Ended(outcome=Outcome.INPUT_REQUIRED, questions=required.questions)
    except Background:
        return Ended(outcome=Outcome.CONTINUED)
    except ArgumentError as error:
        return _bad_arguments(call, error)
    except ToolError as error:
        return _failed(Outcome.TOOL_ERROR, call, str(error))
    except BadAnswer as error:
        return _bad_answer(call, error)
    except CannotAsk as error:
        return _cannot_ask(call, error)
    except RemoteProtocolError as error:
        return Ended(outcome=Outcome.FAILED, error=_with_id(error, call.id))
    except (Exception, SystemExit):  # noqa: BLE001  # a tool may raise anything; it ends its call, not the server
        _log.exception("a call crashed", feature=call.feature.name)
        return _failed(Outcome.CRASHED, call, f"{call.feature.name} failed inside the server")


def invoke(function: Function, arguments: dict[str, Any]) -> Awaitable[Any]:
    """Call a function with keyword arguments; a sync one in a thread."""
    if function.is_async:
        called: Awaitable[Any] = function.callable(**arguments)
        return called
    # A thread can't be stopped: a call that is cancelled or too slow is answered while its thread runs out.
    return trio.to_thread.run_sync(lambda: function.callable(**arguments), abandon_on_cancel=True)


async def run_tool(tool: Tool, call: Call, context: CallContext | None) -> Object:
    """Run a tool and give its result's body; a tool that wants no context may be given none."""
    arguments = tool.bind(call.arguments, context)
    return results.of_value(await invoke(tool.function, arguments), tool=tool, revision=call.revision)


def _with_id(error: RemoteProtocolError, id_: Id) -> RemoteProtocolError:
    return RemoteProtocolError(error.code, error.message, id=id_, data=error.data, http_status=error.http_status)


def _failed(outcome: Outcome, call: Call, text: str) -> Ended:
    # Only a tool's result can say that it failed; everything else fails by an error.
    if call.feature.kind == "tool":
        return Ended(outcome=outcome, body=results.of_failure(text))
    return Ended(outcome=outcome, error=RemoteProtocolError(Code.INTERNAL_ERROR, text, id=call.id))


def _bad_answer(call: Call, error: BadAnswer) -> Ended:
    if call.revision.era is Era.LEGACY:
        return _failed(Outcome.TOOL_ERROR, call, str(error))
    # 2026-07-28, multi round-trip requests, error handling.
    invalid = RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {error}", id=call.id)
    return Ended(outcome=Outcome.FAILED, error=invalid)


def _cannot_ask(call: Call, error: CannotAsk) -> Ended:
    if call.revision.era is Era.LEGACY:
        return _failed(Outcome.TOOL_ERROR, call, str(error))
    missing = RemoteProtocolError(
        Code.MISSING_CAPABILITY,
        "Missing required client capability",
        id=call.id,
        data={"requiredCapabilities": error.needed},
    )
    return Ended(outcome=Outcome.FAILED, error=missing)


def _bad_arguments(call: Call, error: ArgumentError) -> Ended:
    if call.feature.kind == "tool" and call.revision.argument_errors_are_results:
        return Ended(outcome=Outcome.INVALID_ARGUMENTS, body=results.of_failure(f"Invalid arguments: {error}"))
    return Ended(
        outcome=Outcome.INVALID_ARGUMENTS,
        error=RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {error}", id=call.id),
    )


def _refusal(principal: Principal, call: Call, denied: Denied) -> Ended:
    if denied.hides:
        return Ended(outcome=Outcome.DENIED, denied=denied, error=unknown(call))
    if denied.reason is Reason.STEP_UP:
        return Ended(outcome=Outcome.DENIED, denied=denied)
    text = (
        f"Denied: {call.named} needs {' '.join(sorted(denied.needed))}, which {principal.subject} can't be granted. "
        "Signing in again will not help; ask whoever runs this server."
    )
    if call.feature.kind == "tool":
        return Ended(outcome=Outcome.DENIED, denied=denied, body=results.of_failure(text))
    return Ended(
        outcome=Outcome.DENIED, denied=denied, error=RemoteProtocolError(Code.INVALID_PARAMS, text, id=call.id)
    )


def unknown(call: Call) -> RemoteProtocolError:
    """The error for what there is not, or not for this principal."""
    named = call.named[:128]
    if call.feature.kind == "resource":
        code = call.revision.resource_not_found
        return RemoteProtocolError(code, "Resource not found", id=call.id, data={"uri": named})
    return RemoteProtocolError(Code.INVALID_PARAMS, f"Unknown {call.feature.kind}: {named}", id=call.id)


def _about(principal: Principal, call: Call, denied: Denied) -> str:
    # A name that nobody knows is the client's own: denials of such names are all alike, however many there are.
    name = None if denied.reason is Reason.UNKNOWN else call.feature.name
    return denials.about(
        tenant=principal.tenant,
        subject=principal.subject,
        client=principal.client_id,
        decision="denied",
        outcome=Outcome.DENIED.value,
        reason=denied.reason.value,
        **{call.feature.kind: name},
    )


_HOW = ("arguments_sha256", "arguments_bytes", "recorded", "jsonrpc_id", "session", "task")


def _how(call: Call) -> tuple[object, ...]:
    recorded = record.excerpt(call.arguments, call.recorded) if call.recorded else None
    return *record.digest(call.arguments), recorded, call.id, call.session, call.task
