"""HTTP/1.1 in one task a connection: the application runs where the bytes are read, and reads on by itself.

hypercorn starts a task and a queue for each request, so that somebody reads while the application runs. Here
`receive` is that reader: whoever waits for the body, or for the client to leave, reads from the connection, and where
nobody waits nobody needs to. An answer goes from the application to h11 without hypercorn's stream between them; the
connection, its errors and its WebSockets are hypercorn's.

A request whose head is that of the one before, and whose body came with it, is not told to h11 at all, as long as its
answer is a whole one: h11 hears of it as soon as there is more to it than that.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Any, cast
from urllib.parse import unquote

import h11
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.typing import H11SendableEvent

from tenantry.server.asgi import ANSWER, BODY, HELD, KNOWN, LENGTHLESS, ASGIApp, Fields, Message
from tenantry.server.host import heads, websocket
from tenantry.server.host.heads import Head
from tenantry.server.host.http1 import Http1
from tenantry.server.host.tasks import Tasks

# What a client sends ahead while its request is answered; more of it waits in the kernel.
AHEAD_BYTES = 64 * 1024
# A body in more pieces than this is left to the application's own bounds.
BODY_EVENTS = 8
_BUSY, _IDLE = Updated(idle=False), Updated(idle=True)
_END: Message = {"type": "http.request", "body": b"", "more_body": False}
_DISCONNECT: Message = {"type": "http.disconnect"}
_ASGI = {"spec_version": "2.1", "version": "3.0"}


class _Answer(Enum):
    """How far the answer to the present request is."""

    DUE = auto()
    BEGUN = auto()
    SENT = auto()


class LeanHttp1(Http1):
    """HTTP/1.1 whose application pulls.

    `pull` gives the connection's next bytes, `b""` at its end; `answer` writes a whole answer; `read_all` hands in what
    comes until the connection ends; `turn` is waited for between requests that came together; `extensions` stand in
    the scope of each request.
    """

    pulls = True

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401
        pull: Callable[[], Awaitable[bytes]],
        answer: Callable[[bytes], Awaitable[None]],
        read_all: Callable[[], Awaitable[None]],
        turn: Callable[[], Awaitable[None]],
        extensions: Message,
    ) -> None:
        super().__init__(*arguments)
        self._pull = pull
        self._answer = answer
        self._read_all = read_all
        self._turn = turn
        self._extensions = {**extensions, ANSWER: {}}
        self._came: deque[Message] = deque()
        self._gone = False
        self._held = b""
        self._answered = _Answer.DUE
        self._without_body = False
        self._packet = b""
        self._known: Head | None = None
        self._unheard = b""

    @property
    def header_begun(self) -> bool:
        """Whether a part of the next request has come already; behind a known head there was nothing but its body."""
        return self._known is None and super().header_begun

    async def handle(self, event: Event) -> None:
        """Take what came from the connection."""
        known, self._known = self._known, None
        data = event.data if type(event) is RawData else b""
        body = None if known is None else known.body(data)
        if known is not None and body is not None:
            self._known, self._unheard = known, data
            scope = known.scope
            scope["extensions"][BODY] = body
            del event, data, known, body
            await self.send(_BUSY)
            self._begin()
            await self._serve(scope)
            return
        del known, body
        self._packet = b"" if self.header_begun else data
        await super().handle(event)

    async def _serve(self, scope: Message) -> None:
        await cast("ASGIApp", self.app)(scope, self._receive, self._send)
        if self._answered is _Answer.DUE:
            self._hear()
            await self._send_error_response(500)
        await self._begin_again()

    def _hear(self) -> None:
        """Do as always: there is more to this request than an answer in one piece."""
        self._known = None
        self._tell()

    def _tell(self) -> None:
        """Tell h11 of the request, if it has not heard of it."""
        packet, self._unheard = self._unheard, b""
        if packet:
            self.connection.receive_data(packet)
            self.connection.next_event()  # the request, read as it was before
            self._body_that_came()

    async def _handle_events(self) -> None:
        """Serve the requests that came whole or in part, one after the other."""
        if isinstance(self.connection, H11WSConnection):
            await super()._handle_events()
            return
        while (request := await self._next_request()) is not None:
            await self.send(_BUSY)
            fields = list(request.headers)  # once: h11's sequence makes each pair anew
            self._check_head(request, fields)
            if websocket.is_wanted(request):
                await self._serve_websocket(request)
                return
            scope = self._scope(request, fields)
            del request, fields  # a stream that is open for hours holds no header
            await self._serve(scope)
            if self.header_begun:  # whoever sends ahead gives way too
                await trio.lowlevel.checkpoint()
                await self._turn()

    async def _serve_websocket(self, request: h11.Request) -> None:
        """Serve until it closes; both sides talk when they like, so the application has a task of its own."""
        async with Tasks(cast("ASGIApp", self.app)) as tasks:
            await self._open_websocket(request, tasks)
            await super()._handle_events()
            await self._read_all()
            await self.handle(Closed())

    async def _next_request(self) -> h11.Request | None:
        try:
            event = self.connection.next_event()
        except h11.RemoteProtocolError as error:
            await self._give_up(error)
            return None
        return event if isinstance(event, h11.Request) else None

    def _scope(self, request: h11.Request, fields: Fields) -> Message:
        """Say what is asked (ASGI, HTTP connection scope); a body that is there already stands in it, unannounced."""
        self._begin(without_body=request.method == b"HEAD")
        packet, self._packet = self._packet, b""
        body = self._body_that_came()
        path, _, query = request.target.partition(b"?")
        scope: Message = {
            "type": "http",
            "http_version": request.http_version.decode(),
            "asgi": _ASGI,
            "method": request.method.decode(),
            "scheme": "https" if self.ssl else "http",
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": fields,
            "client": self.client,
            "server": self.server,
        }
        scope["extensions"] = more = dict(self._extensions)
        if body is not None:
            more[BODY] = body
            scope["headers"] = [field for field in fields if field[0] != b"content-length"]
            self._known = Head.of(packet, body, fields, scope)
            if self._known is not None:
                more[KNOWN] = self._known.known
        return scope

    def _begin(self, *, without_body: bool = False) -> None:
        self._came.clear()
        self._answered = _Answer.DUE
        self._without_body = without_body

    def _body_that_came(self) -> bytes | None:
        """The whole body, None where more of it is to come; costs no memory that the connection has not used."""
        with suppress(h11.RemoteProtocolError):  # raised again when the application asks
            for _ in range(BODY_EVENTS):
                event = self.connection.next_event()
                if isinstance(event, h11.Data):
                    self._came.append({"type": "http.request", "body": bytes(event.data), "more_body": True})
                elif isinstance(event, h11.EndOfMessage):
                    body = b"".join(message["body"] for message in self._came)
                    self._came.append(_END)
                    return body
                else:
                    break
        return None

    async def _receive(self) -> Message:
        self._hear()
        if self._came:
            return self._came.popleft()
        if self.connection.they_are_waiting_for_100_continue:
            interim = h11.InformationalResponse(status_code=100, headers=[])
            await self._send_h11_event(interim)
        while not self._gone:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._give_up(error)
                break
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                return _END
            await self._read_on()
        return _DISCONNECT

    async def _read_on(self) -> None:
        if len(self.connection.trailing_data[0]) > AHEAD_BYTES:
            await trio.sleep_forever()  # until the request is answered
        data = await self._pull()
        self.connection.receive_data(data)
        self._gone = not data

    async def _give_up(self, error: h11.RemoteProtocolError) -> None:
        self._gone = True
        if self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send_error_response(error.error_status_hint)
        await self.send(Closed())

    async def _send(self, message: Message) -> None:
        if message["type"] == ANSWER and self._answered is _Answer.DUE:
            await self._send_whole(message["status"], message["headers"], message["body"])
            return
        self._hear()
        if message["type"] == "http.response.start" and self._answered is _Answer.DUE:
            await self._begin_answer(message["status"], message.get("headers", []), held=message.get(HELD, False))
        elif message["type"] == "http.response.body" and self._answered is _Answer.BEGUN:
            await self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} has no place after an answer that is {self._answered.name}")

    async def _send_whole(self, status: int, fields: Fields, body: bytes) -> None:
        """Send an answer in one piece: to a request that h11 has not heard of, it need not hear of that either."""
        if self._unheard and status not in LENGTHLESS and not self.context.terminated.is_set():
            head = heads.of_answer(status, (*fields, *self.config.response_headers("h11")))
            if head.length == len(body):
                self._answered = _Answer.SENT
                await self._answer(head.written + body)
                return
        self._tell()
        await self._begin_answer(status, fields)
        await self._go_on(body, more=False)

    async def _begin_answer(self, status: int, fields: Fields, *, held: bool = False) -> None:
        self._answered = _Answer.BEGUN
        self._without_body = self._without_body or status in LENGTHLESS
        fields = [*fields, *self.config.response_headers("h11")]
        if self.context.terminated.is_set():
            fields.append((b"connection", b"close"))
        head = heads.of_answer(status, tuple(fields))
        await self._send_h11_event(head.response, waits=held or head.length is not None)

    async def _go_on(self, data: bytes, *, more: bool) -> None:
        if data and not self._without_body:
            await self._send_h11_event(h11.Data(data=data), waits=not more)
        if not more:
            self._answered = _Answer.SENT
            await self._send_h11_event(h11.EndOfMessage())

    async def _begin_again(self) -> None:
        """Be ready for the next request, or close where this one or its answer did not come to its end."""
        if self._unheard:
            self._unheard = b""
            await self.send(Closed() if self.context.terminated.is_set() else _IDLE)
            return
        if self.connection.their_state is h11.SEND_BODY:  # nobody asked for the body of a request without one
            with suppress(h11.RemoteProtocolError):
                self.connection.next_event()
        ended = self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE
        if not ended or self.context.terminated.is_set():
            await self.send(Closed())
            return
        self.connection.start_next_cycle()
        await self.send(_IDLE)

    async def _send_h11_event(self, event: H11SendableEvent, *, waits: bool = False) -> None:
        """Send; what `waits` leaves in one write with what comes next."""
        try:
            data = self._held + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if waits:
            self._held = data
            return
        whole = bool(self._held)
        self._held = b""
        if whole:
            await self._answer(data)
        elif data:
            await self.send(RawData(data))
