"""The standalone stream of a legacy session: what nobody asked for at that moment (MCP 2025-11-25, transports).

Also where a client comes back by `Last-Event-ID`, for this stream or for that of a request.
"""

from collections import deque
from dataclasses import dataclass

import trio

from tenantry import jsonrpc, sse
from tenantry.identity import Principal
from tenantry.jsonrpc import Code, Object, RemoteProtocolError
from tenantry.mcp import revisions
from tenantry.mcp.session import Session
from tenantry.server.bus import Bus
from tenantry.server.changes import Changes, Listener
from tenantry.server.event_store import STANDALONE, EventStore, Resumed, StreamRecord
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.sessions import Sessions

# What happens while nobody listens; the oldest gives way.
PENDING_MAX = 100


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """What waits for a session's stream, and who told it."""

    listener: Listener
    messages: deque[bytes]
    come: trio.Event


class StandaloneStreams:
    """At most one for each session; from its first opening on, nothing that happens is missed."""

    def __init__(self, *, sessions: Sessions, events: EventStore, changes: Changes, bus: Bus) -> None:
        self._sessions = sessions
        self._events = events
        self._changes = changes
        self._waiting: dict[bytes, _Waiting] = {}
        self._bus = bus
        bus.subscribe("stream_attached", lambda body: self._hand_over(bytes.fromhex(body["session"])))
        bus.subscribe("stream_handed_over", self._take_over)

    async def open(
        self, session: Session, principal: Principal, *, last_event_id: str | None, deadline: float
    ) -> EventStream:
        """Give the standalone stream, or what follows `last_event_id` on the stream that it names.

        `deadline` is on trio's clock. Raises `RemoteProtocolError` where the session has no such stream.
        """
        if last_event_id is None:
            return EventStream(run=lambda send: self._run(session, principal, send, None), deadline=deadline)
        resumed = await self._events.resume(session.digest, last_event_id)
        if resumed is None:
            raise RemoteProtocolError(
                Code.INVALID_REQUEST, "Last-Event-ID names no stream of this session", http_status=400
            )
        if resumed.name == STANDALONE:
            return EventStream(run=lambda send: self._run(session, principal, send, resumed), deadline=deadline)
        return EventStream(run=lambda send: _redeliver(resumed, send), deadline=deadline, outlives_closing=True)

    def forget(self, digest: bytes) -> None:
        """The session is over."""
        self._stop_listening(digest)
        self._events.forget(digest)

    def _stop_listening(self, digest: bytes) -> "_Waiting | None":
        waiting = self._waiting.pop(digest, None)
        if waiting is not None:
            self._changes.remove(waiting.listener)
        return waiting

    def _hand_over(self, digest: bytes) -> None:
        """The client has come to another worker, which listens for it from now on."""
        waiting = self._stop_listening(digest)
        if waiting is not None and waiting.messages:
            messages = [message.decode() for message in waiting.messages]
            self._bus.publish("stream_handed_over", {"session": digest.hex(), "messages": messages})

    def _take_over(self, body: Object) -> None:
        waiting = self._waiting.get(bytes.fromhex(body["session"]))
        if waiting is not None:
            waiting.messages.extendleft(message.encode() for message in reversed(body["messages"]))
            waiting.come.set()

    async def _run(self, session: Session, principal: Principal, send: SendBytes, resumed: Resumed | None) -> None:
        ending = self._sessions.attach_stream(session)
        waiting = self._listening(session, principal)
        kept = await self._events.open(session.digest, None)
        try:
            if resumed is not None and resumed.after < kept.last:
                found, _ = await resumed.next()
                for id_, message in found:
                    await send(sse.event(message, id_=id_))
            elif revisions.LEGACY[session.revision].priming:
                await send(sse.priming(kept.last_id))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._deliver, waiting, kept, send)
                await ending.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._sessions.detach_stream(session, ending)

    async def _deliver(self, waiting: _Waiting, kept: StreamRecord, send: SendBytes) -> None:
        while True:
            while waiting.messages:
                with trio.CancelScope(shield=True):  # a message that was taken out must not be lost
                    message = waiting.messages.popleft()
                    id_ = await self._events.append(kept, message)
                await send(sse.event(message, id_=id_))
            waiting.come = trio.Event()
            await waiting.come.wait()

    def _listening(self, session: Session, principal: Principal) -> _Waiting:
        known = self._waiting.get(session.digest)
        if known is not None:
            return known
        messages: deque[bytes] = deque(maxlen=PENDING_MAX)

        def deliver(method: str, params: Object) -> None:
            body: Object = {"jsonrpc": "2.0", "method": method}
            messages.append(jsonrpc.encode({**body, "params": params} if params else body))
            waiting.come.set()

        listener = Listener(principal=principal, deliver=deliver, uris=lambda: session.subscriptions)
        waiting = _Waiting(listener=listener, messages=messages, come=trio.Event())
        self._waiting[session.digest] = waiting
        self._changes.add(listener)
        return waiting


async def _redeliver(resumed: Resumed, send: SendBytes) -> None:
    ended = False
    while not ended:
        found, ended = await resumed.next()
        for id_, message in found:
            await send(sse.event(message, id_=id_))
