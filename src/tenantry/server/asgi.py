"""The application's side of HTTP: ASGI messages in and out, `web` values between them.

Names: ASGI 3.0, HTTP message format. Everything a client can do to a request that is under way is answered here:
a body that is too long, too slow, or cut into dust, an answer before the body's end, and leaving early.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

import structlog
import trio

from tenantry import web
from tenantry.forwarded import Contradiction, Proxies, Sender
from tenantry.server.turns import Line

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Fields: TypeAlias = list[tuple[bytes, bytes]]
BODY = "tenantry.body"
"""The extension of a scope that holds the whole body, from a host that had it already; no field announces it then."""
KNOWN = "tenantry.known"
"""The extension of a scope whose head may come again: a `Known` that comes again with it."""
ANSWER = "tenantry.answer"
"""The extension of a scope whose host takes a whole answer as one message of this type: status, headers and body."""
HELD = "tenantry.held"
"""In the beginning of an answer: its first bytes follow at once, and a host may send both together."""
Departure: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]
LINE = "tenantry.line"
"""The extension of a scope that is told whose connection it is (`turns.Line`)."""
DEPARTURE = "tenantry.departure"
"""The extension of a scope whose host calls what it is given, within a block, when the client leaves."""
SendBytes: TypeAlias = Callable[[bytes], Awaitable[None]]

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
# Shorter than the idle timeouts of common proxies (30 s and 60 s), and how soon a client that left unseen is noticed.
KEEP_ALIVE_S = 15.0
KEEP_ALIVE_COMMENT = b":\n\n"
FIELDS_REMEMBERED = 256
BODILESS = frozenset({202, 204, 304})
# RFC 9110 section 8.6: 204 must not have a Content-Length, and that of a 304 would be the omitted body's.
LENGTHLESS = frozenset({204, 304})

_log = structlog.get_logger()


def _never() -> float:
    return float("inf")


class Known:
    """What was made of a request's head."""

    __slots__ = ("request",)

    def __init__(self) -> None:
        self.request: web.Request | None = None


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
            self._line.tenant = tenant

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
        await self._send(_start(200, _STREAM_FIELDS, held=True))
        self.streaming = True

    async def send_part(self, data: bytes) -> None:
        """Send whole SSE events; nothing happens where the client has left."""
        await self._send(_body(data, more=True))

    async def end_stream(self) -> None:
        """Send the last chunk."""
        self.streaming = False
        await self._send(_body(b""))

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
            async with _telling(left, self.wait_for_disconnect):
                yield


@asynccontextmanager
async def cancelled_by(*waits: Callable[[], Awaitable[None]]) -> AsyncIterator[trio.CancelScope]:
    """Run a block that is cancelled when the first of `waits` returns; its exceptions come out unwrapped."""
    block = trio.CancelScope()
    async with _telling(block.cancel, *waits):
        with block:
            yield block


@asynccontextmanager
async def _telling(tell: Callable[[], None], *waits: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def watch(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        tell()

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        for wait in waits:
            nursery.start_soon(watch, wait)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery that would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """An answer of `text/event-stream`, written by `run` until it returns or is cancelled.

    `run` gets a function that sends bytes (whole SSE events); it is cancelled when the client leaves, at
    `deadline` (trio's clock, seconds) and when the server closes. Unless the client has left, the stream then ends
    with its last chunk. Quiet for KEEP_ALIVE_S, it carries a comment.
    """

    run: Callable[[SendBytes], Awaitable[None]]
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: float = float("inf")
    outlives_closing: bool = False
    """For the stream that answers one call: a stop lets it finish within the host's grace."""
    speaks_first: bool = False
    """Whether `run` sends something at once: the answer's head then goes with it."""
    farewell: bytes = b""
    """Sent last where the stream did not end because its client left."""


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
Answer: TypeAlias = web.Response | EventStream | WebSocket | Answered
Handler: TypeAlias = Callable[[Exchange], Awaitable[Answer]]


_TRUSTING_NOBODY = Proxies()


def application(
    handle: Handler, *, closing: trio.Event, proxies: Proxies = _TRUSTING_NOBODY, https_for_good: bool = False
) -> ASGIApp:
    """Build the ASGI application that answers every request by `handle`.

    `handle` translates its own exceptions; whatever still comes out of it is logged and becomes a bare 500. A
    doubled single-valued header is answered 400 before `handle` sees it. Open event streams end when `closing` is
    set. The lifespan is not served: nothing that must live may live there.

    Behind `proxies`, a request's peer and scheme are those of the client that they name. With `https_for_good` every
    answer over https says so (RFC 6797 section 7.1).
    """

    streams = _Closing(closing)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _over_websocket(handle, {**scope, "method": "GET"}, receive, send, closing=closing, proxies=proxies)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"scope {scope['type']} is not served")
        more = scope.get("extensions", {})
        request, refusal = _known_request(scope, proxies, more.get(KNOWN))
        if https_for_good and request.scheme == "https":
            send = _telling_so(send)
        body = more.pop(BODY, None)  # whoever keeps the scope keeps no body
        exchange = Exchange(
            request,
            receive,
            send,
            body_due=body is None and _announces_body(scope),
            body=body,
            departure=more.get(DEPARTURE),
            line=more.get(LINE),
        )
        answer, fields = await _answer(handle, exchange, refusal)
        if isinstance(answer, WebSocket):  # RFC 9110 section 15.5.22
            answer = web.Response(status=426, headers={"upgrade": "websocket", "connection": "upgrade"})
            fields = _fields(answer)
        if isinstance(answer, Answered):
            return
        if isinstance(answer, EventStream):
            await send(_start(200, fields, held=answer.speaks_first))
            # Open for hours, it needs nothing of its request.
            scope["headers"], scope["extensions"] = [], {}
            exchange.request = replace(request, headers=_NO_HEADERS, notes={})
            del request, more, body
            await _run_stream(answer, exchange, send, streams)
        elif exchange.body_due and scope.get("http_version") != "2":  # where the host can refuse the rest by a reset
            await _send_early(_start(answer.status, [*fields, _CLOSE]), _payload(answer), exchange, send)
        elif ANSWER in more:
            await send({"type": ANSWER, "status": answer.status, "headers": fields, "body": _payload(answer)})
        else:
            await send(_start(answer.status, fields))
            await send(_body(_payload(answer)))

    return app


async def _over_websocket(
    handle: Handler, scope: Message, receive: Receive, send: Send, *, closing: trio.Event, proxies: Proxies
) -> None:
    request, refusal = _request(scope, proxies)
    answer, fields = await _answer(handle, Exchange(request, receive, send, body_due=False), refusal)
    if isinstance(answer, web.Response):
        await send({"type": "websocket.http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": _payload(answer)})
        return
    if not isinstance(answer, WebSocket):
        raise NotImplementedError("a WebSocket is answered by one, or by a refusal")
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})

    async def send_text(text: str) -> None:
        await send({"type": "websocket.send", "text": text})

    async def client() -> None:
        await receive()  # whatever it is: a disconnect, or words where none are wanted

    async with cancelled_by(client, closing.wait) as block:
        block.deadline = answer.deadline
        await answer.run(send_text)
    await send({"type": "websocket.close", "code": 1001 if closing.is_set() else 1000})


async def _answer(handle: Handler, exchange: Exchange, refusal: web.Response | None) -> tuple[Answer, Fields]:
    if refusal is not None:
        return refusal, _fields(refusal)
    try:
        answer = await handle(exchange)
        if isinstance(answer, EventStream) and exchange.body_due:
            raise RuntimeError("an event stream needs its request's body read")  # noqa: TRY301
        return answer, _fields(answer)
    except Exception:  # noqa: BLE001 - the last place; the client gets nothing of it
        _log.error("request_failed", path=exchange.request.path, exc_info=True)
        failure = web.Response(status=500)
        return failure, _fields(failure)


async def _send_early(start: Message, payload: bytes, exchange: Exchange, send: Send) -> None:
    """Answer before the body's end, reading on meanwhile: a client that is still writing would not read."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.drain)
        await send(start)
        await send(_body(payload, more=True))
    await send(_body(b""))


async def _run_stream(stream: EventStream, exchange: Exchange, send: Send, closing: "_Closing") -> None:
    outlet = _Outlet(send, exchange.wait_for_disconnect)
    try:
        async with cancelled_by(outlet.attend) as scope:
            scope.deadline = stream.deadline
            with nullcontext() if stream.outlives_closing else closing.ending(scope):
                await stream.run(outlet.send)
    except Exception:  # noqa: BLE001 - the answer has begun, so the missing last chunk must tell
        _log.error("stream_failed", path=exchange.request.path, exc_info=True)
        return
    if not outlet.deserted:
        await send(_body(stream.farewell))


class _Outlet:
    """The way out of one stream, and a comment when nobody wrote for long."""

    def __init__(self, send: Send, left: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._left = left
        self._last = trio.current_time()
        self.deserted = False
        """Whether the client has left."""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # a host shields its writes
        self._last = trio.current_time()
        await self._send(_body(data, more=True))

    async def attend(self) -> None:
        """Send a comment whenever KEEP_ALIVE_S were quiet; return when the client has left."""
        while True:
            with trio.CancelScope(deadline=self._last + KEEP_ALIVE_S):
                await self._left()
                self.deserted = True
                return
            if trio.current_time() >= self._last + KEEP_ALIVE_S:
                await self.send(KEEP_ALIVE_COMMENT)


class _Closing:
    """Ends the open streams of an application when it closes: one task for all of them, while there are any."""

    def __init__(self, closing: trio.Event) -> None:
        self._closing = closing
        self._streams: set[trio.CancelScope] = set()
        self._waiting = trio.CancelScope()

    @contextmanager
    def ending(self, stream: trio.CancelScope) -> Iterator[None]:
        """Cancel `stream` at the closing, unless the block ends before."""
        if self._closing.is_set():
            stream.cancel()
        if not self._streams:
            self._waiting = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._wait, self._waiting)
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._waiting.cancel()

    async def _wait(self, waiting: trio.CancelScope) -> None:
        with waiting:
            await self._closing.wait()
            for stream in self._streams:
                stream.cancel()


_NO_HEADERS = web.Headers(())
_UNSENDABLE = frozenset("\r\n\0")
_CLOSE = (b"connection", b"close")
_HTTPS_FOR_GOOD = (b"strict-transport-security", b"max-age=31536000")  # a year
_STREAM_FIELDS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def _known_request(scope: Message, proxies: Proxies, known: Known | None) -> tuple[web.Request, web.Response | None]:
    if known is None:
        return _request(scope, proxies)
    if known.request is not None:
        return known.request, None
    request, refusal = _request(scope, proxies)
    if refusal is None:
        known.request = request
    return request, refusal


def _request(scope: Message, proxies: Proxies) -> tuple[web.Request, web.Response | None]:
    """The request, and the answer to one whose fields contradict each other."""
    client = scope.get("client")
    headers = web.Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    sender = Sender(address=client[0] if client else "", scheme=scope["scheme"])
    doubled = headers.first_double()
    problem = None if doubled is None else f"the header {doubled} came twice"
    try:
        sender = proxies.sender(sender.address, sender.scheme, headers.get)
    except Contradiction as error:
        problem = str(error)
    request = web.Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        scheme=sender.scheme,
        peer=sender.address,
    )
    return request, None if problem is None else web.Response(status=400, body=f"{problem}\n".encode())


def _announces_body(scope: Message) -> bool:
    fields = dict(scope["headers"])
    length = fields.get(b"content-length")
    # RFC 9113 section 8.1.1: in HTTP/2 a body needs no announcement; our host writes a length of 0 where there is none.
    return (
        length != b"0"
        if scope.get("http_version") == "2"
        else length not in (None, b"0") or b"transfer-encoding" in fields
    )


def _telling_so(send: Send) -> Send:
    async def telling(message: Message) -> None:
        if message["type"] in ("http.response.start", ANSWER):
            message = {**message, "headers": [*message["headers"], _HTTPS_FOR_GOOD]}
        await send(message)

    return telling


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


def _payload(answer: web.Response) -> bytes:
    return b"" if answer.status in BODILESS else answer.body


def _fields(answer: Answer) -> Fields:
    if isinstance(answer, (Answered, WebSocket)):
        return []
    fields = [_field(name, value) for name, value in answer.headers.items()]
    if isinstance(answer, EventStream):
        return _STREAM_FIELDS + fields
    fields.extend(_encoded("set-cookie", cookie) for cookie in answer.cookies)
    if answer.status not in LENGTHLESS:
        fields.append((b"content-length", b"%d" % len(_payload(answer))))
    return fields


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    if not _UNSENDABLE.isdisjoint(value):
        raise ValueError(f"the value of {name} would break the header")
    return name.lower().encode("latin-1"), value.encode("latin-1")


_field = lru_cache(FIELDS_REMEMBERED)(_encoded)
"""For what is said again and again; cookies are not."""


def _start(status: int, fields: Fields, *, held: bool = False) -> Message:
    return {"type": "http.response.start", "status": status, "headers": fields, HELD: held}


def _body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
