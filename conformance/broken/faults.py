"""The one table of faults: name -> what goes wrong and which clauses must catch it."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any

from conformance.broken.oauth_faults import OAUTH_FAULTS
from conformance.broken.proxy import JSON, Fault, Message, Reply, Request, without
from conformance.clauses import Clause, inventory

MODERN = "mcp-2026-07-28:"
HTTP = MODERN + "basic/transports/http/"
LEGACY = "mcp-2025-11-25:"
RPC = "jsonrpc-2.0:"
META = "io.modelcontextprotocol/"


def result(change: Callable[[Message], Any], *methods: str) -> Callable[[Request, Message], Any]:
    """Spoil the results of some methods; of all where none is named."""

    def spoil(request: Request, message: Message) -> Any:
        if not isinstance(message.get("result"), dict) or (methods and request.asks not in methods):
            return message
        return {**message, "result": change(message["result"])}

    return spoil


def error(change: Callable[[Message], Any]) -> Callable[[Request, Message], Any]:
    """Spoil every error."""
    return lambda _request, message: {**message, "error": change(message["error"])} if "error" in message else message


def lacking(*names: str) -> Callable[[Message], Message]:
    """Take members out."""
    return lambda members: {name: value for name, value in members.items() if name not in names}


def having(**more: Any) -> Callable[[Message], Message]:
    """Put members in."""
    return lambda members: {**members, **more}


def status(old: int, new: int) -> Callable[[Request, Reply], Reply]:
    """Answer one status in place of another."""
    return lambda _request, reply: replace(reply, status=new) if reply.status == old else reply


def blind_to(*names: str) -> Callable[[Request], Request]:
    """Hide header fields from the server, so that it can't judge them."""

    def hide(request: Request) -> Request:
        for name in names:
            request = replace(request, headers=without(request.headers, name))
        return request

    return hide


def reading(change: Callable[[Message], Message]) -> Callable[[Request], Request]:
    """Show the server another message than was sent."""

    def show(request: Request) -> Request:
        if not isinstance(request.message, dict):
            return request
        return replace(request, body=json.dumps(change(request.message)).encode())

    return show


def mending_headers(request: Request) -> Request:
    """Make the mirrored fields agree with the body, whatever was sent."""
    if request.asks is None or request.header("mcp-protocol-version") is None:
        return request
    params = request.message.get("params")
    name = params.get("name", params.get("uri")) if isinstance(params, dict) else None
    headers = without(without(request.headers, "mcp-method"), "mcp-name")
    headers.append(("mcp-method", request.asks))
    return replace(request, headers=[*headers, ("mcp-name", name)] if isinstance(name, str) else headers)


def mending_meta(message: Message) -> Message:
    """Fill in the metadata that a modern request must bring along."""
    usual = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}
    params = message.get("params") or {}
    return {**message, "params": {**params, "_meta": {**usual, **params.get("_meta", {})}}}


def at_version(request: Request) -> Request:
    """Serve whatever version is asked for as the one that the server knows."""
    params = request.message.get("params") if isinstance(request.message, dict) else None
    if not isinstance(params, dict) or f"{META}protocolVersion" not in params.get("_meta", {}):
        return request
    meta = {**params["_meta"], f"{META}protocolVersion": "2026-07-28"}
    body = json.dumps({**request.message, "params": {**params, "_meta": meta}}).encode()
    headers = [*without(request.headers, "mcp-protocol-version"), ("mcp-protocol-version", "2026-07-28")]
    return replace(request, headers=headers, body=body)


def saying(name: str, value: str) -> Callable[[Request], Request]:
    """Show the server one value of a header field, whatever was sent."""
    return lambda request: replace(request, headers=[*without(request.headers, name), (name, value)])


def numbered(message: Message) -> Message:
    """Give a request with the id null another."""
    return {**message, "id": 1} if message.get("id", 1) is None else message


def response_accepted(request: Request, reply: Reply) -> Reply:
    """Accept a response that nobody asked for."""
    posted = isinstance(request.message, dict) and "method" not in request.message and "result" in request.message
    return Reply(202, []) if posted else reply


def first_of_array(request: Request) -> Request:
    """Take an array of messages for its first."""
    items = request.message
    if not isinstance(items, list) or not items:
        return request
    return replace(request, body=json.dumps(items[0]).encode())


def id_as_text(_request: Message | Request, message: Message) -> Message:
    """Give ids back as text."""
    return {**message, "id": str(message["id"])} if "id" in message else message


def with_foreign_tools(listed: Message) -> Message:
    """Show another list at each request."""
    return {**listed, "tools": listed["tools"][::-1] if next(_TURNS) % 2 else listed["tools"][:-1]}


_TURNS = count()


def accepted_with_body(_request: Request, reply: Reply) -> Reply:
    """Say something where nothing is to be said."""
    if reply.status != 202:
        return reply
    return replace(reply, headers=[*reply.headers, ("content-type", JSON)], body=b"{}")


def get_is_fine(request: Request, reply: Reply) -> Reply:
    """Answer a GET with a page."""
    return Reply(200, [("content-type", "text/plain")], b"hello") if request.method == "GET" else reply


def session_id(value: str) -> Callable[[Request, Reply], Reply]:
    """Put a session id on every answer."""
    return lambda _request, reply: replace(
        reply, headers=[*without(reply.headers, "mcp-session-id"), ("mcp-session-id", value)]
    )


def no_challenge(_request: Request, reply: Reply) -> Reply:
    """Say 401 and not where to sign in."""
    return replace(reply, headers=without(reply.headers, "www-authenticate"))


def each_tool(change: Callable[[Message], Message]) -> Callable[[Request, Message], Any]:
    """Spoil the listing of each tool."""
    return result(lambda listed: {**listed, "tools": [change(each) for each in listed["tools"]]}, "tools/list")


FAULTS: dict[str, Fault] = {
    # JSON-RPC
    "any-json-rpc-version": Fault(
        does="takes a request of any JSON-RPC version",
        clauses=(f"{RPC}4:version-member",),
        request=reading(having(jsonrpc="2.0")),
    ),
    "ids-as-text": Fault(
        does="gives ids back as text",
        clauses=(f"{RPC}5:id-repeated", f"{MODERN}basic/responses:result-has-request-id"),
        message=id_as_text,
    ),
    "null-beside-result": Fault(
        does="puts an error of null beside each result",
        clauses=(f"{RPC}5:result-or-error", f"{MODERN}basic/responses:result-member"),
        message=lambda _request, message: {**message, "error": None} if "result" in message else message,
    ),
    "version-left-out": Fault(
        does="leaves the jsonrpc member out of its answers",
        clauses=(f"{RPC}5:version-in-answers", f"{MODERN}basic/messages:jsonrpc-member"),
        message=lambda _request, message: lacking("jsonrpc")(message),
    ),
    "codes-as-text": Fault(
        does="sends the codes of errors as text",
        clauses=(f"{RPC}5.1:error-object", f"{MODERN}basic/responses:error-code-integer"),
        message=error(lambda members: {**members, "code": str(members["code"])}),
    ),
    "one-code-for-all": Fault(
        does="answers every fault with -32603",
        clauses=(
            f"{RPC}5.1:parse-error",
            f"{RPC}5.1:invalid-request",
            f"{RPC}5.1:method-not-found",
            f"{MODERN}basic/error-codes:method-not-found",
            f"{MODERN}server/tools:unknown-tool-is-protocol-error",
        ),
        message=error(having(code=-32603)),
    ),
    "answers-notifications": Fault(
        does="answers a notification",
        clauses=(f"{RPC}4.1:notification-unanswered", f"{HTTP}sending:notification-202-without-body"),
        reply=accepted_with_body,
    ),
    # Modern
    "no-result-type": Fault(
        does="leaves resultType out",
        clauses=(f"{MODERN}basic/responses:result-type-present", f"{MODERN}schema:results-valid"),
        message=result(lacking("resultType")),
    ),
    "strange-result-type": Fault(
        does="invents a resultType",
        clauses=(f"{MODERN}basic/responses:result-type-known",),
        message=result(having(resultType="finished")),
    ),
    "unknown-method-200": Fault(
        does="answers an unknown method with status 200",
        clauses=(f"{HTTP}headers:unknown-method-status",),
        reply=status(404, 200),
    ),
    "faults-500": Fault(
        does="answers what a client did wrong with status 500",
        clauses=(f"{HTTP}headers:version-mismatch-error", f"{MODERN}basic/meta:missing-field-status"),
        reply=status(400, 500),
    ),
    "mints-sessions": Fault(
        does="gives modern answers a session id",
        clauses=(f"{HTTP}compatibility:session-id-not-minted",),
        reply=session_id("abc"),
    ),
    "any-origin": Fault(
        does="never looks at Origin",
        clauses=(f"{HTTP}endpoint:origin-validated", f"{HTTP}endpoint:origin-status"),
        request=blind_to("origin"),
    ),
    "foreign-origin-401": Fault(
        does="answers a foreign Origin with status 401",
        clauses=(f"{HTTP}endpoint:origin-status",),
        reply=status(403, 401),
    ),
    "unmatched-headers": Fault(
        does="never compares header fields with the body",
        clauses=(
            f"{HTTP}headers:method-matches",
            f"{HTTP}headers:method-required",
            f"{HTTP}headers:name-matches",
            f"{HTTP}headers:name-required-tools-call",
        ),
        request=mending_headers,
    ),
    "metadata-not-needed": Fault(
        does="serves requests without metadata",
        clauses=(f"{MODERN}basic/meta:missing-capabilities-refused",),
        request=reading(mending_meta),
    ),
    "no-cache-scope": Fault(
        does="leaves cacheScope out",
        clauses=(f"{MODERN}server/caching:hints-on-tools-list", f"{MODERN}server/caching:hints-on-discover"),
        message=result(lacking("cacheScope")),
    ),
    "negative-ttl": Fault(
        does="sends a negative ttlMs",
        clauses=(f"{MODERN}server/caching:ttl-not-negative",),
        message=result(having(ttlMs=-1), "tools/list", "server/discover"),
    ),
    "strange-cache-scope": Fault(
        does="invents a cacheScope",
        clauses=(f"{MODERN}server/caching:scope-of-two",),
        message=result(having(cacheScope="shared"), "tools/list", "server/discover"),
    ),
    "moody-lists": Fault(
        does="lists other tools from request to request",
        clauses=(f"{MODERN}server/tools:list-not-per-connection",),
        message=result(with_foreign_tools, "tools/list"),
    ),
    "schema-null": Fault(
        does="lists tools whose inputSchema is null",
        clauses=(f"{MODERN}server/tools:input-schema-object",),
        message=each_tool(having(inputSchema=None)),
    ),
    "boasting-versions": Fault(
        does="says that it speaks a revision that it does not speak",
        clauses=(f"{MODERN}server/discover:versions", f"{MODERN}server/discover:same-versions-as-error"),
        message=result(having(supportedVersions=["2026-07-28", "2099-01-01"]), "server/discover"),
    ),
    "boasting-capabilities": Fault(
        does="declares resources that it lacks and prompts that nobody can list",
        clauses=(f"{MODERN}server/discover:capabilities-hold",),
        request=reading(
            lambda message: (
                {**message, "method": "no/such/method"}
                if message.get("method") in {"prompts/list", "resources/list"}
                else message
            )
        ),
        message=result(having(capabilities={"tools": {}, "resources": {}, "prompts": {}}), "server/discover"),
    ),
    "versions-unsaid": Fault(
        does="does not say which versions it would take",
        clauses=(f"{MODERN}basic/versioning:unsupported-version-lists-supported",),
        message=error(lacking("data")),
    ),
    "old-methods-live": Fault(
        does="answers ping and others that this revision took out",
        clauses=(f"{MODERN}basic/versioning:removed-methods-unknown",),
        message=lambda request, message: (
            lacking("error")(message) | {"result": {"resultType": "complete"}} if request.asks == "ping" else message
        ),
        reply=lambda request, reply: replace(reply, status=200) if request.asks == "ping" else reply,
    ),
    "open-door": Fault(
        does="takes no notice of how a stranger is to sign in",
        clauses=(f"{MODERN}basic/auth:http-authorization",),
        reply=no_challenge,
    ),
    "any-version": Fault(
        does="serves every version alike",
        clauses=(f"{MODERN}basic/versioning:unsupported-version-code", f"{HTTP}headers:version-matches"),
        request=at_version,
    ),
    "null-ids": Fault(
        does="serves requests with the id null",
        clauses=(f"{MODERN}basic/requests:id-not-null",),
        request=reading(numbered),
    ),
    "responses-accepted": Fault(
        does="accepts a response from the client",
        clauses=(f"{HTTP}sending:no-client-responses",),
        reply=response_accepted,
    ),
    "no-discovery": Fault(
        does="does not know server/discover",
        clauses=(f"{MODERN}basic/versioning:discover-implemented",),
        message=lambda request, message: (
            lacking("result")(message) | {"error": {"code": -32601, "message": "Method not found"}}
            if request.asks == "server/discover"
            else message
        ),
    ),
    "any-accept": Fault(
        does="never looks at Accept",
        clauses=("own:modern:accept-judged",),
        request=saying("accept", f"{JSON}, text/event-stream"),
    ),
    "any-content-type": Fault(
        does="never looks at Content-Type",
        clauses=("own:modern:content-type-judged",),
        request=saying("content-type", JSON),
    ),
    "last-key-wins": Fault(
        does="takes the last of two members of one name",
        clauses=("own:modern:duplicate-keys-refused",),
        request=reading(lambda message: message),
    ),
    # Legacy
    "ended-session-400": Fault(
        does="answers an ended session with status 400",
        clauses=(f"{LEGACY}transports.sessions:ended-404",),
        reply=status(404, 400),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "blank-in-session-id": Fault(
        does="makes session ids with a blank in them",
        clauses=(f"{LEGACY}transports.sessions:visible-ascii",),
        reply=lambda request, reply: session_id("a b")(request, reply) if request.asks == "initialize" else reply,
        revision="2025-11-25",
        mode="sessionful",
    ),
    "one-revision-for-all": Fault(
        does="negotiates 2024-11-05, whatever the client asks for",
        clauses=(f"{LEGACY}lifecycle.version:same",),
        message=result(having(protocolVersion="2024-11-05"), "initialize"),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "any-version-header": Fault(
        does="never looks at the version header",
        clauses=(f"{LEGACY}transports.version-header:invalid-400",),
        request=blind_to("mcp-protocol-version"),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "notifications-200": Fault(
        does="answers an accepted notification with status 200",
        clauses=(f"{LEGACY}transports.sending:accepted-202",),
        reply=status(202, 200),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "wordy-ping": Fault(
        does="answers a ping with more than an empty result",
        clauses=(f"{LEGACY}ping:answer",),
        message=result(having(pong=True), "ping"),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "arrays-served": Fault(
        does="carries out the first message of an array",
        clauses=(f"{LEGACY}transports.sending:single-message",),
        request=first_of_array,
        revision="2025-11-25",
        mode="sessionful",
    ),
    "any-origin-legacy": Fault(
        does="never looks at Origin",
        clauses=(f"{LEGACY}transports.security:origin-checked", f"{LEGACY}transports.security:origin-403"),
        request=blind_to("origin"),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "page-for-get": Fault(
        does="answers a GET with a page",
        clauses=(f"{LEGACY}transports.listening:stream-or-405",),
        reply=get_is_fine,
        revision="2025-11-25",
        mode="sessionful",
    ),
    "speechless-errors": Fault(
        does="leaves the message out of errors",
        clauses=(f"{LEGACY}basic.responses:error-members",),
        message=error(lacking("message")),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "results-of-the-future": Fault(
        does="sends members of 2026-07-28 to clients of 2025-11-25",
        clauses=(f"{LEGACY}lifecycle.operation:agreed-version",),
        message=result(having(resultType="complete", ttlMs=0, cacheScope="public")),
        revision="2025-11-25",
        mode="sessionful",
    ),
    "ids-as-text-legacy": Fault(
        does="gives ids back as text",
        clauses=(f"{LEGACY}basic.responses:same-id",),
        message=id_as_text,
        revision="2025-11-25",
        mode="sessionful",
    ),
    **OAUTH_FAULTS,
}

NONE = "none"
"""The name of the proxy that spoils nothing: what passes there shows that the fault, and not the proxy, is caught."""
HANDSHAKE = frozenset({"initialize", "notifications/initialized"})


def speechless(request: Request, reply: Reply) -> Reply:
    """Answer nothing of use once the handshake is over."""
    return reply if request.asks in HANDSHAKE else Reply(500, [])


def agreeing(request: Request, _reply: Reply) -> Reply:
    """Call everything a success."""
    number = request.message.get("id", 1) if isinstance(request.message, dict) else 1
    return Reply(200, [("content-type", JSON)], json.dumps({"jsonrpc": "2.0", "id": number, "result": {}}).encode())


GENERAL = {
    "speechless": Fault(does="answers 500 to everything behind the handshake", clauses=(), reply=speechless),
    "agreeing": Fault(does="answers everything with an empty result", clauses=(), reply=agreeing),
}
"""Faults so gross that no clause may be shown on both."""
EVERYTHING = {**FAULTS, **GENERAL}
# One column is enough for a clause: the first of these in which it holds.
GENERAL_COLUMNS = (
    ("2026-07-28", "dual"),
    ("2026-07-28", "stateless"),
    ("2025-11-25", "sessionful"),
    ("2025-11-25", "stateless"),
    ("2025-06-18", "sessionful"),
    ("2025-03-26", "sessionful"),
)


def runs() -> list[tuple[str, str, str]]:
    """Give every revision, mode and fault for which tests are run."""
    named = {(fault.revision, fault.mode, name) for name, fault in FAULTS.items()}
    general = {(*column, name) for column in GENERAL_COLUMNS for name in GENERAL}
    return sorted(named | general | {(revision, mode, NONE) for revision, mode, _ in named})


@cache
def watched(name: str, revision: str, mode: str) -> frozenset[str]:
    """Give the clauses whose tests are run against a fault; against none, those of all faults of the column."""
    if name in GENERAL:
        return frozenset(row.id for row in inventory().values() if general_column(row) == (revision, mode))
    named = [FAULTS[name]] if name != NONE else FAULTS.values()
    fitting = [fault for fault in named if (fault.revision, fault.mode) == (revision, mode)]
    return frozenset(each for fault in fitting for each in fault.clauses)


def general_column(row: Clause) -> tuple[str, str] | None:
    """Give the column in which the tests of a row meet the gross faults."""
    return next((column for column in GENERAL_COLUMNS if row.holds(*column)), None)
