"""The MCP endpoint: POST, GET and DELETE of one URL, for both eras."""

from collections.abc import Awaitable, Callable

import trio

from tenantry import jsonrpc, policy, web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Notification, Object, RemoteProtocolError, Request
from tenantry.mcp import results, revisions, route
from tenantry.mcp.revisions import Era, Revision
from tenantry.mcp.route import Legacy, Modern
from tenantry.mcp.session import Session
from tenantry.mcp.tools import Catalogue, page
from tenantry.oauth import bearer
from tenantry.policy import Directory
from tenantry.server.asgi import Answer, EventStream, Exchange, SendBytes
from tenantry.server.audit_writer import Recorder
from tenantry.server.sessions import Sessions, UnknownSession
from tenantry.server.tool_calls import Call, Ended, ToolCalls
from tenantry.version import __version__

JSON = {"content-type": "application/json"}
_ACCEPTED = web.Response(status=202)


class McpEndpoint:
    """Answers one request in the request's own task; only a standalone stream lives longer."""

    def __init__(
        self,
        *,
        config: Config,
        authenticate: Callable[[web.Request], Principal],
        sessions: Sessions,
        tool_calls: ToolCalls,
        catalogue: Catalogue,
        directory: Callable[[], Directory],
        audit: Recorder,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._mode = config.mode
        self._authenticate = authenticate
        self._sessions = sessions
        self._tool_calls = tool_calls
        self._catalogue = catalogue
        self._directory = directory
        self._audit = audit
        self._clock = clock
        self._served: dict[str, Callable[[Exchange, Principal], Awaitable[Answer]]] = {"POST": self._post}
        if self._mode.sessions:
            self._served |= {"GET": self._get, "DELETE": self._delete}

    async def handle(self, exchange: Exchange) -> Answer:
        """Answer any method; strangers get 401 whatever they ask for."""
        principal = self._authenticate(exchange.request)
        serve = self._served.get(exchange.request.method)
        if serve is None:
            raise web.HttpError(405, "that method is not served here", headers={"allow": ", ".join(self._served)})
        return await serve(exchange, principal)

    async def _post(self, exchange: Exchange, principal: Principal) -> Answer:
        request = exchange.request
        web.require_content_type(request, "application/json")
        body = await exchange.read_body(limit=self._config.limits.body_bytes)
        _require_accept(request, "application/json", "text/event-stream")
        era = Era.LEGACY
        try:
            message = jsonrpc.parse(body)
            era = route.era_of(request.headers, message, modern_served=self._mode.modern)
            routed = route.classify(request.headers, message, modern_served=self._mode.modern)
            if isinstance(routed, Modern):
                return await self._modern(exchange, principal, routed)
            return await self._legacy(request, principal, routed)
        except RemoteProtocolError as error:
            return _answer_error(error, era)

    # --- modern: each request stands for itself

    async def _modern(self, exchange: Exchange, principal: Principal, routed: Modern) -> Answer:
        message, revision = routed.message, routed.revision
        if isinstance(message, Notification):
            return _ACCEPTED
        if message.method == "server/discover":
            return _answer(message, results.of_discover(), revision)
        if message.method == "tools/list":
            return self._list_tools(principal, message, revision)
        if message.method == "tools/call":
            async with exchange.cancelled_by_disconnect():
                return await self._call_tool(principal, message, revision, session=None)
            return web.Response(status=499)  # the client has left: nobody reads this
        raise _method_not_found(message)

    # --- legacy: a handshake, then requests of its session

    async def _legacy(self, request: web.Request, principal: Principal, routed: Legacy) -> Answer:
        message = routed.message
        if isinstance(message, Request) and message.method == "initialize":
            return await self._initialize(principal, message)
        session = await self._session(request, principal) if self._mode.sessions else None
        if not isinstance(message, Request):
            if isinstance(message, Notification) and message.method == "notifications/initialized" and session:
                await self._sessions.initialized(session)
            return _ACCEPTED
        revision = self._revision(routed, session)
        if message.method == "ping":
            return _answer(message, {}, revision)
        if message.method == "tools/list":
            return self._list_tools(principal, message, revision)
        if message.method == "tools/call":
            return await self._call_tool(principal, message, revision, session=session)
        raise _method_not_found(message)

    async def _initialize(self, principal: Principal, message: Request) -> Answer:
        version = message.params.get("protocolVersion")
        for name in ("capabilities", "clientInfo"):
            if not isinstance(message.params.get(name), dict):
                raise RemoteProtocolError(
                    Code.INVALID_PARAMS, f"Invalid params: {name} must be an object", id=message.id
                )
        if not isinstance(version, str):
            raise RemoteProtocolError(
                Code.INVALID_PARAMS, "Invalid params: protocolVersion must be a string", id=message.id
            )
        revision = revisions.negotiate(version)
        headers = dict(JSON)
        if self._mode.sessions:
            headers["mcp-session-id"] = await self._sessions.open(principal, revision.name)
        body = jsonrpc.encode(jsonrpc.result(message.id, results.of_initialize(revision, version=__version__)))
        return web.Response(status=200, headers=headers, body=body)

    async def _session(self, request: web.Request, principal: Principal) -> Session:
        session_id = request.headers.get("mcp-session-id")
        if session_id is None:
            raise RemoteProtocolError(
                Code.INVALID_REQUEST, "Bad Request: Mcp-Session-Id is missing; begin with initialize", http_status=400
            )
        try:
            return await self._sessions.find(session_id, principal)
        except UnknownSession as error:
            if error.foreign:
                await self._record_refusal(principal)
            raise RemoteProtocolError(
                Code.INVALID_REQUEST, "Session not found; begin again with initialize", http_status=404
            ) from None

    async def _record_refusal(self, principal: Principal) -> None:
        await self._audit.append(
            record.encode(
                Kind.SESSION_REFUSED,
                time_us=int(self._clock() * 1_000_000),
                tenant=principal.tenant,
                subject=principal.subject,
                client=principal.client_id,
            )
        )

    def _revision(self, routed: Legacy, session: Session | None) -> Revision:
        if session is not None:
            return revisions.LEGACY[session.revision]
        return routed.header_revision or revisions.ASSUMED

    async def _get(self, exchange: Exchange, principal: Principal) -> Answer:
        _require_accept(exchange.request, "text/event-stream")
        await exchange.read_body(limit=0)
        try:
            session = await self._session(exchange.request, principal)
        except RemoteProtocolError as error:
            return _answer_error(error, Era.LEGACY)
        ending = self._sessions.attach_stream(session)

        async def run(_send: SendBytes) -> None:
            try:
                await ending.wait()
            finally:
                self._sessions.detach_stream(session, ending)

        # No text says what becomes of a stream whose access token expires; it ends, and the client comes again.
        return EventStream(run=run, deadline=trio.current_time() + principal.expires_at - self._clock())

    async def _delete(self, exchange: Exchange, principal: Principal) -> Answer:
        await exchange.read_body(limit=0)
        try:
            await self._sessions.end(await self._session(exchange.request, principal))
        except RemoteProtocolError as error:
            return _answer_error(error, Era.LEGACY)
        return web.Response(status=204)

    # --- what both eras ask for

    def _list_tools(self, principal: Principal, message: Request, revision: Revision) -> Answer:
        names = policy.visible(principal, self._catalogue, self._directory())
        try:
            chosen, next_cursor = page(names, message.params.get("cursor"))
        except ValueError as error:
            raise RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {error}", id=message.id) from None
        tools = [self._catalogue[name] for name in chosen]
        return _answer(message, results.of_list(tools, next_cursor=next_cursor, revision=revision), revision)

    async def _call_tool(
        self, principal: Principal, message: Request, revision: Revision, *, session: Session | None
    ) -> Answer:
        name, arguments = message.params.get("name"), message.params.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise RemoteProtocolError(
                Code.INVALID_PARAMS,
                "Invalid params: name must be a string, arguments an object",
                id=message.id,
            )
        call = Call(
            id=message.id,
            tool=name,
            arguments=arguments,
            revision=revision,
            session=None if session is None else session.digest.hex()[:16],
        )
        ended = await self._tool_calls.call(principal, call)
        return self._answer_call(message, ended, revision)

    def _answer_call(self, message: Request, ended: Ended, revision: Revision) -> Answer:
        if ended.error is not None:
            raise ended.error
        if ended.body is not None:
            return _answer(message, ended.body, revision)
        if ended.denied is None:
            raise AssertionError("a call that came to its end has a body, an error or a denial")
        return self._challenge(message, ended.denied)

    def _challenge(self, message: Request, denied: policy.Denied) -> Answer:
        # 2026-07-28, authorization, scope challenge: every scope that the operation needs, at once.
        challenge = bearer.insufficient_scope(self._config, denied.needed)
        error = jsonrpc.error(
            Code.INVALID_REQUEST,
            f"insufficient_scope: this tool needs {' '.join(sorted(denied.needed))}",
            id_=message.id,
        )
        return web.Response(status=403, headers={**JSON, "www-authenticate": challenge}, body=jsonrpc.encode(error))


def _require_accept(request: web.Request, *types: str) -> None:
    header = request.headers.get("accept")
    if not all(web.accepts(header, wanted) for wanted in types):
        raise web.HttpError(406, f"send Accept: {', '.join(types)}")


def _method_not_found(message: Request) -> RemoteProtocolError:
    return RemoteProtocolError(Code.METHOD_NOT_FOUND, "Method not found", id=message.id)


def _answer(message: Request, body: Object, revision: Revision) -> web.Response:
    complete = results.complete(body, revision=revision, version=__version__)
    return web.Response(status=200, headers=JSON, body=jsonrpc.encode(jsonrpc.result(message.id, complete)))


def _answer_error(error: RemoteProtocolError, era: Era) -> web.Response:
    body = jsonrpc.error(error.code, error.message, id_=error.id, data=error.data)
    return web.Response(status=route.status_of(error, era), headers=JSON, body=jsonrpc.encode(body))
