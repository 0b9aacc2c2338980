"""One request under way, and what it may be answered by.

Everything a client can do to a request that is under way is answered here: a body that is too long, too slow, or cut
into dust, an answer before the body's end, and leaving early.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import trio

from tenantry import web
from tenantry.server.asgi import Departure, Message, Receive, Send, body_part, start
from tenantry.server.cancelled_by import telling
from tenantry.server.event_stream import STREAM_FIELDS, EventStream
from tenantry.server.turns import Line

# A body may take BODY_START_S and then as long as its bytes need at BODY_RATE, but BODY_END_S at the most: slow
# links get through, a byte every few seconds does not.
BODY_START_S = 10.0
BODY_RATE_BYTES_PER_S = 8 * 1024
BODY_END_S = 60.0
# Each chunk costs some 30 us however small it is, so past a free number they must carry something on average.
BODY_FREE_EVENTS = 256
BODY_MEAN_EVENT_BYTES = 64
# What is still read and dropped after an early answer. A client that writes all before it reads loses the answer
# if the connection is reset under its hands (RFC 9112 section 9.6).
DRAIN_BYTES = 16 * 1024 * 1024
DRAIN_EVENTS = 4096
DRAIN_S = 5.0


def _never() -> float:
    return float("inf")


class Exchange:
    """One request under way: its head at once, its body when asked for."""

    __slots__ = (
        "_body",
        "_body_due",
        "_departure",
        "_gone",
        "_line",
        "_receive",
        "_send",
        "deadline",
        "request",
        "streaming",
    )

    def __init__(
        self,
        request: web.Request,
        receive: Receive,
        send: Send,
        *,
        body_due: bool = True,
        body: bytes | None = None,
        departure: Departure | None = None,
        line: Line | None = None,
    ) -> None:
        self.request = request
        self._line = line
        self._departure = departure
        self._receive = receive
        self._send = send
        self._gone = False
        self._body = body
        self._body_due = body_due
        self.streaming = False
        """Whether an event stream has begun from inside of the handler and not ended."""
        self.deadline: Callable[[], float] = _never
        """Gives when an event stream must have ended: trio's clock, seconds."""

    def belongs_to(self, tenant: str) -> None:
        """Say whose request it is: the next one on its connection waits with that tenant's others."""
        if self._line is not None:
            self._line.belongs_to(tenant)

    @property
    def size(self) -> int:
        """The body's size in bytes as far as it is known, 0 where it is not; raises `web.HttpError` 400."""
        return len(self._body) if self._body is not None else declared_length(self.request) or 0

    @property
    def body_due(self) -> bool:
        """Whether body bytes may still come in."""
        return self._body_due

    async def read_body(self, *, limit: int) -> bytes:
        """Read the whole body, at most `limit` bytes; a request without one gives `b""`.

        Raises `web.HttpError`: 413 for a declared or real size over `limit`, 408 for a body that is too slow, 400
        for one in too many pieces, for one that breaks off and for one that differs from its Content-Length.
        """
        if self._body is not None:
            if len(self._body) > limit:
                raise _too_large(limit)
            return self._body
        if not self._body_due:
            return b""
        declared = declared_length(self.request)
        if declared is not None and declared > limit:
            raise _too_large(limit)
        start = trio.current_time()
        with trio.CancelScope(deadline=start + BODY_START_S) as slow:
            body = await self._gather(limit, start, slow)
        if slow.cancelled_caught:
            raise web.HttpError(408, "the body came too slowly")
        if declared is not None and declared != len(body):
            raise web.HttpError(400, "the body differs from its Content-Length")
        return body

    async def _gather(self, limit: int, start: float, slow: trio.CancelScope) -> bytes:
        pieces: list[bytes] = []
        size = events = 0
        while True:
            message = await self._next()
            if message["type"] != "http.request":
                raise web.HttpError(400, "the body broke off")
            piece = message.get("body", b"")
            size += len(piece)
            events += 1
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
            if not message.get("more_body", False):
                self._body_due = False
                return pieces[0] if events == 1 else b"".join(pieces)
            if events > BODY_FREE_EVENTS + size // BODY_MEAN_EVENT_BYTES:
                raise web.HttpError(400, "the body came in too many pieces")
            slow.deadline = start + min(BODY_START_S + size / BODY_RATE_BYTES_PER_S, BODY_END_S)

    async def _next(self) -> Message:
        if self._gone:  # ASGI promises one disconnect; a host may leave a second question open for ever
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._gone = message["type"] == "http.disconnect"
        return message

    async def begin_stream(self) -> None:
        """Begin an answer of `text/event-stream` from inside of the handler, which then gives back `ANSWERED`.

        Only once the body was read; `send_part` or `end_stream` follows at once: the host may wait for it.
        """
        if self._body_due:
            raise RuntimeError("an event stream needs its request's body read")
        await self._send(start(200, STREAM_FIELDS, held=True))
        self.streaming = True

    async def send_part(self, data: bytes) -> None:
        """Send whole SSE events; nothing happens where the client has left."""
        await self._send(body_part(data, more=True))

    async def end_stream(self) -> None:
        """Send the last chunk."""
        self.streaming = False
        await self._send(body_part(b""))

    async def drain(self) -> None:
        """Read and drop what is left of the body, within DRAIN_BYTES, DRAIN_EVENTS and DRAIN_S."""
        left = DRAIN_BYTES
        with trio.move_on_after(DRAIN_S):
            for _ in range(DRAIN_EVENTS):
                message = await self._next()
                left -= len(message.get("body", b""))
                if left < 0 or not message.get("more_body", False):
                    return

    async def wait_for_disconnect(self) -> None:
        """Return when the client has left, or has closed its sending side, which looks the same."""
        if self._body_due:
            raise RuntimeError("read the body first: its messages would be lost")
        while (await self._next())["type"] != "http.disconnect":
            pass

    @asynccontextmanager
    async def noticing_departure(self, left: Callable[[], None]) -> AsyncIterator[None]:
        """Call `left` when the client leaves while the block runs; only once the body was read.

        Exceptions of the block come out as they are. A byte sent after the request hides a departure until a send
        fails.
        """
        if self._body_due:
            raise RuntimeError("read the body first: its messages would be lost")
        if self._departure is not None:
            with self._departure(left):
                yield
        else:
            async with telling(left, self.wait_for_disconnect):
                yield


def declared_length(request: web.Request) -> int | None:
    """What a request says of its body's size in bytes, None where it does not; raises `web.HttpError` 400."""
    text = request.headers.get("content-length")
    if text is None or request.headers.get("transfer-encoding") is not None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise web.HttpError(400, "Content-Length is no number")
    return int(text)


def _too_large(limit: int) -> web.HttpError:
    return web.HttpError(413, f"send at most {limit} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocket:
    """An answer that goes on as a WebSocket (RFC 6455), in one direction: `run` gets a function that sends text.

    It is cancelled when the client leaves or says anything, at `deadline` (trio's clock, seconds) and when the server
    closes.
    """

    run: Callable[[Callable[[str], Awaitable[None]]], Awaitable[None]]
    deadline: float = float("inf")


class Answered:
    """The handler has sent the whole answer itself."""


ANSWERED = Answered()
ACCEPTED = web.Response(status=202)
"""Something was taken that is not answered."""
Answer: TypeAlias = web.Response | EventStream | WebSocket | Answered
Handler: TypeAlias = Callable[[Exchange], Awaitable[Answer]]
