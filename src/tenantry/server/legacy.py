"""What only legacy clients ask for: the handshake, sessions, subscriptions, batches."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

from tenantry import jsonrpc, policy, web
from tenantry.audit import denials, record
from tenantry.audit.denials import Denial
from tenantry.audit.record import Kind
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Message, Notification, RemoteProtocolError, Request, Response
from tenantry.mcp import resources, results, revisions
from tenantry.mcp.context import LEVELS
from tenantry.mcp.revisions import Era, Revision
from tenantry.mcp.route import Legacy
from tenantry.mcp.session import Session
from tenantry.policy import Denied, Feature
from tenantry.server.audit_writer import Recorder
from tenantry.server.bus import Bus
from tenantry.server.changes import Changes
from tenantry.server.channels import Channel, LegacyChannel, Line, progress_token
from tenantry.server.event_store import EventStore
from tenantry.server.exchange import ACCEPTED, Answer, Exchange
from tenantry.server.features import Features, Incoming, Recorded, answer_error
from tenantry.server.inbox import Inbox
from tenantry.server.request_stream import JSON, RequestStream
from tenantry.server.sessions import Sessions, UnknownSession, digest_of
from tenantry.server.standalone import StandaloneStreams
from tenantry.version import __version__

# A batch is answered as a whole, so its length bounds what one request may cost.
BATCH_MAX = 50
SUBSCRIPTIONS_MAX = 100


class LegacyEra:
    """Answers clients of the handshake."""

    def __init__(
        self,
        *,
        config: Config,
        features: Features,
        changes: Changes,
        sessions: Sessions,
        events: EventStore,
        audit: Recorder,
        bus: Bus,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._push = config.mode.sessions
        self._features = features
        self._changes = changes
        self._sessions = sessions
        self._events = events
        self._audit = audit
        self._clock = clock
        self._inbox = Inbox(bus)
        self._streams = StandaloneStreams(sessions=sessions, events=events, changes=changes, bus=bus)
        sessions.on_end = self._forget
        self._methods: dict[str, Callable[[Incoming], Awaitable[Answer | Recorded]]] = {
            "ping": self._ping,
            "logging/setLevel": self._set_level,
            "tools/list": features.list_tools,
            "tools/call": features.call_tool,
            "resources/list": features.list_resources,
            "resources/templates/list": features.list_templates,
            "resources/read": features.read_resource,
            "prompts/list": features.list_prompts,
            "prompts/get": features.get_prompt,
            "completion/complete": features.complete,
            **(
                {"resources/subscribe": self._subscribe, "resources/unsubscribe": self._unsubscribe}
                if self._push
                else {}
            ),
        }

    def _forget(self, digest: bytes) -> None:
        self._inbox.open(digest)
        self._streams.forget(digest)

    # --- one message

    async def message(self, exchange: Exchange, principal: Principal, routed: Legacy) -> Answer | Recorded:
        """Answer one message; raises `RemoteProtocolError`."""
        if isinstance(routed.message, Request) and routed.message.method == "initialize":
            return await self._initialize(principal, routed.message)
        session = None
        if self._push:
            digest = exchange.request.once(_session_digest)
            session = self._sessions.at_hand(digest, principal) or await self._session(exchange.request, principal)
        return await self._in_session(exchange, principal, routed, session)

    def _in_session(
        self,
        exchange: Exchange,
        principal: Principal,
        routed: Legacy,
        session: Session | None,
        *,
        batched: bool = False,
    ) -> Awaitable[Answer | Recorded]:
        message = routed.message
        if not isinstance(message, Request):
            return self._told(session, message)
        handle = self._methods.get(message.method)
        if handle is None:
            raise RemoteProtocolError(Code.METHOD_NOT_FOUND, "Method not found", id=message.id)
        incoming = Incoming(
            exchange=exchange,
            principal=principal,
            message=message,
            revision=self._revision(routed, session),
            way=self,
            capabilities={} if session is None else session.capabilities,
            session=session,
            batched=batched,
        )
        return handle(incoming)

    async def _told(self, session: Session | None, message: Notification | Response) -> Answer:
        if session is None:
            return ACCEPTED
        if isinstance(message, Response):
            self._inbox.deliver(session.digest, message)
        elif message.method == "notifications/initialized":
            await self._sessions.initialized(session)
            self._inbox.open(session.digest)
        elif message.method == "notifications/cancelled":
            self._inbox.cancel(session.digest, message.params.get("requestId"))
        return ACCEPTED

    def _revision(self, routed: Legacy, session: Session | None) -> Revision:
        if session is not None:
            return revisions.LEGACY[session.revision]
        return routed.header_revision or revisions.ASSUMED

    # --- the way to the client of a call

    def connect(self, incoming: Incoming) -> tuple[RequestStream, Channel]:
        """Make the answer's stream, and the channel: one that can ask, in a session."""
        session, message, revision = incoming.session, incoming.message, incoming.revision
        resumable = session is not None and revision.event_ids
        stream = RequestStream(
            incoming.exchange,
            events=self._events if resumable else None,
            session=None if session is None else session.digest,
            request_id=message.id,
            priming=resumable and revision.priming,
            silent=incoming.batched,
        )
        line = Line(
            principal=incoming.principal,
            changes=self._changes,
            stream=None if incoming.batched else stream,
            capabilities=incoming.capabilities,
            progress_token=progress_token(message.params.get("_meta")),
            log_level="info" if session is None else session.log_level or "info",
        )
        if session is None:
            return stream, Channel(line)
        return stream, LegacyChannel(
            line, inbox=self._inbox, session=session.digest, revision=revision, cut=incoming.cut
        )

    def cancellable(self, incoming: Incoming) -> AbstractContextManager[object]:
        """Hear of `notifications/cancelled`, which names a request of the session."""
        if incoming.session is None:
            return nullcontext()
        return self._inbox.running(incoming.session.digest, incoming.message.id, incoming.cut)

    # --- batches

    async def batch(self, exchange: Exchange, principal: Principal, values: list[object]) -> Answer:
        """Answer a batch (2025-03-26 alone): each request by itself, without streams; raises `RemoteProtocolError`."""
        session = await self._session(exchange.request, principal) if self._push else None
        header = revisions.LEGACY.get(exchange.request.headers.get("mcp-protocol-version") or "")
        revision = self._revision(Legacy(message=Notification("", {}), header_revision=header), session)
        if not revision.batches or not 0 < len(values) <= BATCH_MAX:
            raise RemoteProtocolError(
                Code.INVALID_REQUEST, f"Invalid Request: batches of 1 to {BATCH_MAX}, and in 2025-03-26 alone"
            )
        answers = [
            answer
            for value in values
            if (answer := await self._in_batch(exchange, principal, value, session, revision)) is not None
        ]
        if not answers:
            return ACCEPTED
        return web.Response(status=200, headers=JSON, body=b"[" + b",".join(answers) + b"]")

    async def _in_batch(
        self, exchange: Exchange, principal: Principal, value: object, session: Session | None, revision: Revision
    ) -> bytes | None:
        try:
            message = _batched(value)
            routed = Legacy(message=message, header_revision=revision)
            answer = await self._in_session(exchange, principal, routed, session, batched=True)
            if isinstance(answer, Recorded):
                await self._features.release(answer.ticket, principal)
                answer = answer.response
        except RemoteProtocolError as error:
            answer = answer_error(error, Era.LEGACY)
        return answer.body or None if isinstance(answer, web.Response) else None

    # --- the handshake and the session

    async def _initialize(self, principal: Principal, message: Request) -> Answer:
        version, capabilities = message.params.get("protocolVersion"), message.params.get("capabilities")
        for name, value, wanted in (
            ("protocolVersion", version, str),
            ("capabilities", capabilities, dict),
            ("clientInfo", message.params.get("clientInfo"), dict),
        ):
            if not isinstance(value, wanted):
                raise RemoteProtocolError(Code.INVALID_PARAMS, f"Invalid params: {name} is missing", id=message.id)
        revision = revisions.negotiate(str(version))
        headers = dict(JSON)
        if self._push:
            session_id = await self._sessions.open(principal, revision.name, dict(capabilities or {}))
            self._inbox.begin(digest_of(session_id))
            headers["mcp-session-id"] = session_id
        body = results.of_initialize(self._changes.world.offer, revision, version=__version__, push=self._push)
        return web.Response(status=200, headers=headers, body=jsonrpc.encode_result(message.id, body))

    async def _session(self, request: web.Request, principal: Principal) -> Session:
        digest = request.once(_session_digest)
        try:
            return await self._sessions.find(digest, principal)
        except UnknownSession as error:
            if error.foreign:
                await self._record_refusal(principal)
            raise RemoteProtocolError(
                Code.INVALID_REQUEST, "Session not found; begin again with initialize", http_status=404
            ) from None

    async def _record_refusal(self, principal: Principal) -> None:
        time_us = int(self._clock() * 1_000_000)
        who = {"tenant": principal.tenant, "subject": principal.subject, "client": principal.client_id}
        entry = record.encode(Kind.SESSION_REFUSED, time_us=time_us, **who)
        await self._audit.append_denial(entry, Denial(denials.about(**who, reason=Kind.SESSION_REFUSED.value), time_us))

    async def delete(self, exchange: Exchange, principal: Principal) -> Answer:
        """End the session."""
        await exchange.read_body(limit=0)
        await self._sessions.end(await self._session(exchange.request, principal))
        return web.Response(status=204)

    async def stream(self, exchange: Exchange, principal: Principal) -> Answer:
        """Open the session's standalone stream, or go on with the one that a `Last-Event-ID` names."""
        await exchange.read_body(limit=0)
        session = await self._session(exchange.request, principal)
        last_event_id = exchange.request.headers.get("last-event-id")
        return await self._streams.open(session, principal, last_event_id=last_event_id, deadline=exchange.deadline())

    # --- methods of the legacy era alone

    async def _ping(self, incoming: Incoming) -> Answer:
        return incoming.answer({})

    async def _set_level(self, incoming: Incoming) -> Answer:
        level = incoming.text("level")
        if level not in LEVELS:
            raise incoming.invalid("level is no log level")
        session = await self._own(incoming)
        if session is not None:
            session.log_level = level
            await self._sessions.changed(session)
        return incoming.answer({})

    async def _subscribe(self, incoming: Incoming) -> Answer:
        uri, session = incoming.text("uri"), await self._own(incoming)
        offer = self._changes.world.offer.resources
        found = resources.find(uri, [offer[name] for name in offer])
        feature = Feature("resource", "" if found is None else found[0].name)
        if isinstance(policy.decide(incoming.principal, feature, self._changes.world.directory), Denied):
            raise RemoteProtocolError(
                incoming.revision.resource_not_found,
                "Resource not found",
                id=incoming.message.id,
                data={"uri": uri[:256]},
            )
        if session is not None and len(session.subscriptions) < SUBSCRIPTIONS_MAX:
            session.subscriptions.add(uri)
            await self._sessions.changed(session)
        return incoming.answer({})

    async def _unsubscribe(self, incoming: Incoming) -> Answer:
        uri, session = incoming.text("uri"), await self._own(incoming)
        if session is not None:
            session.subscriptions.discard(uri)
            await self._sessions.changed(session)
        return incoming.answer({})

    async def _own(self, incoming: Incoming) -> Session | None:
        return await self._session(incoming.exchange.request, incoming.principal) if self._push else None


def _session_digest(request: web.Request) -> bytes:
    session_id = request.headers.get("mcp-session-id")
    if session_id is None:
        raise RemoteProtocolError(
            Code.INVALID_REQUEST, "Bad Request: Mcp-Session-Id is missing; begin with initialize", http_status=400
        )
    return digest_of(session_id)


def _batched(value: object) -> Message:
    message = jsonrpc.message(value)
    if isinstance(message, Request) and message.method == "initialize":
        raise RemoteProtocolError(Code.INVALID_REQUEST, "initialize is not part of a batch", id=message.id)
    return message
