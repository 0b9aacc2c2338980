"""The answer to one POST while it is being made: a JSON object, or an event stream from the first message on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tenantry import jsonrpc, sse, web
from tenantry.jsonrpc import Object
from tenantry.machine import step
from tenantry.mcp.stream import TRANSITIONS, Event, State
from tenantry.server.cancelled_by import cancelled_by
from tenantry.server.event_store import EventStore, StreamRecord
from tenantry.server.event_stream import KEEP_ALIVE_COMMENT, KEEP_ALIVE_S
from tenantry.server.exchange import ACCEPTED, ANSWERED, Answer, Exchange

# 2025-11-25, cancellation: a request that its client has cancelled is not answered.
NO_ANSWER = ACCEPTED
JSON = {"content-type": "application/json"}
# Log messages beyond this are dropped until the client has read: they are not worth the memory.
WAITING_MAX = 1000
RETRY_MS = 500


class RequestStream:
    """Messages of one call go out in order, then its response.

    With a `record` each message is kept before it is sent, so that a client that is cut off can come back for it.
    `priming` says whether the stream begins with an id alone. A `silent` one is a JSON object whatever happens.
    """

    __slots__ = (
        "_deadline",
        "_events",
        "_exchange",
        "_one_at_a_time",
        "_priming",
        "_record",
        "_request_id",
        "_session",
        "_silent",
        "_state",
        "_waiting",
        "_wake",
    )

    def __init__(
        self,
        exchange: Exchange,
        *,
        events: EventStore | None = None,
        session: bytes | None = None,
        request_id: jsonrpc.Id | None = None,
        priming: bool = False,
        silent: bool = False,
    ) -> None:
        self._exchange = exchange
        self._events = events
        self._session = session
        self._request_id = request_id
        self._priming = priming
        self._silent = silent
        self._record: StreamRecord | None = None
        self._waiting: list[bytes] = []
        self._wake: trio.Event | None = None
        self._deadline = float("inf")
        self._state = State.PENDING
        self._one_at_a_time: trio.Lock | None = None

    @property
    def _lock(self) -> trio.Lock:
        """Held while something is sent; most answers send nothing before themselves, and need none."""
        if self._one_at_a_time is None:
            self._one_at_a_time = trio.Lock()
        return self._one_at_a_time

    @asynccontextmanager
    async def attended(self, *, leaving_cancels: bool) -> AsyncIterator[None]:
        """Run a call in the block: its messages are sent as they come, and a comment where it is quiet for long.

        With `leaving_cancels` a client that leaves cancels the block (2026-07-28, cancellation); without, the call
        goes on (2025-11-25, transports: a disconnect is no cancellation). A stream that reaches the exchange's
        deadline is released where that is possible, and cancels the block elsewhere.
        """
        self._deadline = self._exchange.deadline()
        leaving = [self._exchange.wait_for_disconnect] if leaving_cancels else []
        async with cancelled_by(self._pump, *leaving):
            yield

    def post(self, message: Object) -> None:
        """Queue a message; it is dropped where too many wait already."""
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(jsonrpc.encode(message))
            if self._wake is not None:
                self._wake.set()

    async def send(self, message: Object) -> None:
        """Send a message behind those that wait, and return when it is on its way."""
        self._waiting.append(jsonrpc.encode(message))
        await self._flush()

    async def release(self) -> bool:
        """End the connection and not the call; False where the client could not come back (2025-11-25, transports)."""
        await self._flush()
        if not self._priming or self._events is None:
            return False
        async with self._lock:
            if self._state is not State.RELEASED:
                await self._begin()
                await self._exchange.send_part(sse.retry(RETRY_MS))
                await self._exchange.end_stream()
                self._step(Event.RELEASE)
        return True

    async def finish(self, response: web.Response) -> Answer:
        """Give the response: as it is where no message came before it, else as the stream's last event."""
        with trio.CancelScope(shield=True):
            await self._flush()
        before = self._state
        if before is not State.PENDING:
            await self._emit(response.body, final=True)
        self._step(Event.RESPONSE)
        if before is State.PENDING:
            return response
        if before is State.STREAMING:
            await self._exchange.end_stream()
        return ANSWERED

    async def abandon(self) -> Answer:
        """End without a response."""
        before = self._state
        self._step(Event.RESPONSE)
        if self._record is not None and self._events is not None:
            await self._events.close(self._record)
        if before is State.PENDING:
            return NO_ANSWER
        if before is State.STREAMING:
            await self._exchange.end_stream()
        return ANSWERED

    async def _pump(self) -> None:
        while True:
            self._wake = trio.Event()
            with trio.move_on_at(self._next_look()) as quiet:
                if not self._waiting:
                    await self._wake.wait()
            await self._flush()
            if trio.current_time() < self._deadline:
                if quiet.cancelled_caught and self._state is not State.RELEASED and not self._silent:
                    await self._keep_alive()
            elif self._state is State.STREAMING and not await self.release():
                return

    def _next_look(self) -> float:
        now = trio.current_time()
        deadline = self._deadline
        return min(now + KEEP_ALIVE_S, deadline) if now < deadline else now + KEEP_ALIVE_S

    async def _keep_alive(self) -> None:
        async with self._lock:
            await self._begin()
            self._step(Event.KEEP_ALIVE)
            await self._exchange.send_part(KEEP_ALIVE_COMMENT)

    async def _flush(self) -> None:
        async with self._lock:
            while self._waiting:
                message = self._waiting.pop(0)
                with trio.CancelScope(shield=True):  # a message that was taken out must not be lost
                    await self._begin()
                    self._step(Event.MESSAGE)
                    await self._emit(message)

    async def _begin(self) -> None:
        if self._state is not State.PENDING:
            return
        if self._events is not None and self._session is not None:
            self._record = await self._events.open(self._session, self._request_id)
        await self._exchange.begin_stream()
        if self._priming and self._record is not None:
            await self._exchange.send_part(sse.priming(self._record.last_id))

    def _step(self, event: Event) -> None:
        self._state = step(TRANSITIONS, self._state, event)

    async def _emit(self, message: bytes, *, final: bool = False) -> None:
        id_ = None
        if self._record is not None and self._events is not None:
            id_ = await self._events.append(self._record, message, final=final)
        if self._state is not State.RELEASED:
            await self._exchange.send_part(sse.event(message, id_=id_))
