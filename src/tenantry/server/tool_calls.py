"""One `tools/call`: decide, run, record, answer."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

import structlog
import trio

from tenantry import policy
from tenantry.audit import record
from tenantry.audit.record import ArgumentsDigest, Kind, Outcome
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Id, Object, RemoteProtocolError
from tenantry.mcp import results
from tenantry.mcp.revisions import Revision
from tenantry.mcp.tools import ArgumentError, CallContext, Catalogue, Tool, ToolError
from tenantry.policy import Denied, Directory, Reason
from tenantry.server.audit_writer import Recorder

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is called and how it came; everything of it but the arguments' values is recorded."""

    id: Id
    tool: str
    arguments: Object
    revision: Revision
    session: str | None
    """A name for the MCP session that is no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended: with a result body, with a protocol error, or with a denial."""

    outcome: Outcome
    body: Object | None = None
    error: RemoteProtocolError | None = None
    denied: Denied | None = None


class ToolCalls:
    """Runs calls; every one of them leaves exactly one record before its answer can leave."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        directory: Callable[[], Directory],
        audit: Recorder,
        clock: Callable[[], float],
        mode: str,
        timeout_s: float,
    ) -> None:
        self._catalogue = catalogue
        self._directory = directory
        self._audit = audit
        self._clock = clock
        self._mode = mode
        self._timeout_s = timeout_s

    async def call(self, principal: Principal, call: Call) -> Ended:
        """Decide on the call, run it if it is allowed, and return once its record is durable.

        A call that is cancelled is recorded too: the append is shielded. Raises `AuditUnavailable` where there is
        no record, and then nothing may be answered but that.
        """
        started, clock_started = perf_counter_ns(), self._clock()
        decision = policy.decide(principal, call.tool, self._directory())
        ended = Ended(outcome=Outcome.CANCELLED)
        try:
            if isinstance(decision, Denied):
                ended = _refusal(principal, call, decision)
            else:
                ended = await self._run(principal, call)
        finally:
            await self._audit.append(
                record.encode(
                    Kind.TOOL_DENIED if isinstance(decision, Denied) else Kind.TOOL_CALL,
                    time_us=int(clock_started * 1_000_000),
                    duration_us=(perf_counter_ns() - started) // 1000,
                    outcome=ended.outcome,
                    **_decided(decision),
                    **_caller(principal),
                    **self._called(call),
                )
            )
        return ended

    def _called(self, call: Call) -> Object:
        digest = ArgumentsDigest.of(call.arguments)
        return {
            "tool": call.tool,
            "arguments_sha256": digest.sha256,
            "arguments_bytes": digest.size,
            "jsonrpc_id": call.id,
            "session": call.session,
            "era": call.revision.era.value,
            "revision": call.revision.name,
            "mode": self._mode,
        }

    async def _run(self, principal: Principal, call: Call) -> Ended:
        tool = self._catalogue[call.tool]
        try:
            arguments = tool.bind(call.arguments, CallContext(principal=principal))
        except ArgumentError as error:
            return _bad_arguments(call, error)
        with trio.move_on_after(self._timeout_s):
            return await _ended_by(tool, arguments, call)
        return Ended(
            outcome=Outcome.TIMED_OUT,
            body=results.of_failure(f"{tool.name} took longer than {self._timeout_s:g} s and was stopped"),
        )


async def _ended_by(tool: Tool, arguments: Object, call: Call) -> Ended:
    try:
        value = await _invoke(tool, arguments)
        return Ended(outcome=Outcome.SUCCEEDED, body=results.of_value(value, revision=call.revision))
    except ToolError as error:
        return Ended(outcome=Outcome.TOOL_ERROR, body=results.of_failure(str(error)))
    except Exception:  # noqa: BLE001  # a tool may raise anything; that must end its call and not the server
        _log.exception("a tool crashed", tool=tool.name)
        return Ended(outcome=Outcome.CRASHED, body=results.of_failure(f"{tool.name} failed inside the server"))


async def _invoke(tool: Tool, arguments: Object) -> object:
    if tool.is_async:
        return await tool.function(**arguments)
    # A thread can't be stopped: a call that is cancelled or too slow is answered while its thread runs out.
    return await trio.to_thread.run_sync(lambda: tool.function(**arguments), abandon_on_cancel=True)


def _bad_arguments(call: Call, error: ArgumentError) -> Ended:
    if call.revision.argument_errors_are_results:
        return Ended(outcome=Outcome.INVALID_ARGUMENTS, body=results.of_failure(f"Invalid arguments: {error}"))
    return Ended(
        outcome=Outcome.INVALID_ARGUMENTS,
        error=RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {error}", id=call.id),
    )


def _refusal(principal: Principal, call: Call, denied: Denied) -> Ended:
    if denied.hides_tool:
        error = RemoteProtocolError(Code.INVALID_PARAMS, f"Unknown tool: {call.tool[:128]}", id=call.id)
        return Ended(outcome=Outcome.DENIED, denied=denied, error=error)
    if denied.reason is Reason.STEP_UP:
        return Ended(outcome=Outcome.DENIED, denied=denied)
    text = (
        f"Denied: {call.tool} needs {' '.join(sorted(denied.needed))}, which {principal.subject} can't be granted. "
        "Signing in again will not help; ask whoever runs this server."
    )
    return Ended(outcome=Outcome.DENIED, denied=denied, body=results.of_failure(text))


def _decided(decision: policy.Allowed | Denied) -> Object:
    if isinstance(decision, Denied):
        return {"decision": "denied", "reason": decision.reason.value}
    return {"decision": "allowed"}


def _caller(principal: Principal) -> Object:
    return {"tenant": principal.tenant, "subject": principal.subject, "client": principal.client_id}
