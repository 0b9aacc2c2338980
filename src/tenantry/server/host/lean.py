"""HTTP/1.1 in one task a connection: the application runs where the bytes are read, and reads on by itself.

hypercorn starts a task and a queue for each request, so that somebody reads while the application runs. Here
`receive` is that reader: whoever waits for the body, or for the client to leave, reads from the connection, and where
nobody waits nobody needs to. What remains of the parser, the states and the messages is hypercorn's.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, H11SendableEvent, Scope

from tenantry.server.asgi import BODY, ASGIApp, Message
from tenantry.server.host import websocket
from tenantry.server.host.http1 import Http1
from tenantry.server.host.tasks import Tasks

# What a client sends ahead while its request is answered; more of it waits in the kernel.
AHEAD_BYTES = 64 * 1024
# A body in more pieces than this is left to the application's own bounds.
BODY_EVENTS = 8
_END: Message = {"type": "http.request", "body": b"", "more_body": False}
_DISCONNECT: Message = {"type": "http.disconnect"}


class LeanHttp1(Http1):
    """HTTP/1.1 whose application pulls.

    `pull` gives the connection's next bytes, `b""` at its end; `answer` writes a whole answer; `read_all` hands in what
    comes until the connection ends.
    """

    pulls = True

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401
        pull: Callable[[], Awaitable[bytes]],
        answer: Callable[[bytes], Awaitable[None]],
        read_all: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(*arguments)
        self.task_group = self  # type: ignore[assignment]  # of which hypercorn's stream asks `spawn_app` alone
        self._pull = pull
        self._answer = answer
        self._read_all = read_all
        self._came: deque[Message] = deque()
        self._gone = False
        self._held = b""
        self._begun: tuple[Message, Callable[[ASGISendEvent | None], Awaitable[None]]]

    async def _handle_events(self) -> None:
        """Serve the requests that came whole or in part, one after the other."""
        if isinstance(self.connection, H11WSConnection):
            await super()._handle_events()
            return
        while (request := await self._next_request()) is not None:
            await self.send(Updated(idle=False))
            await self._check_protocol(request)
            if websocket.is_wanted(request):
                await self._serve_websocket(request)
                return
            await self._create_stream(request)
            del request  # a stream that is open for hours holds no header
            scope, send = self._begun
            run = cast("ASGIApp", self.app)
            await run(scope, self._receive, cast("Callable[[Message], Awaitable[None]]", send))
            await send(None)

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

    async def spawn_app(
        self,
        app: AppWrapper,  # noqa: ARG002
        config: Config,  # noqa: ARG002
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Have the application run when hypercorn is through; a body that is there already stands in the scope too."""
        request = cast("Message", scope)
        self._came.clear()
        body = self._body_that_came()
        if body is not None:
            request["extensions"][BODY] = body
        self._begun = request, send
        return _nowhere

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

    async def _maybe_recycle(self) -> None:
        if self.connection.their_state is h11.SEND_BODY:  # nobody asked for the body of a request without one
            with suppress(h11.RemoteProtocolError):
                self.connection.next_event()
        await super()._maybe_recycle()

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Send; the head of an answer whose length is declared waits for the body, to leave with it in one write."""
        try:
            data = self._held + (self.connection.send(event) or b"")
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response) and any(name == b"content-length" for name, _ in event.headers):
            self._held = data
            return
        whole = bool(self._held)
        self._held = b""
        if whole:
            await self._answer(data)
        elif data:
            await self.send(RawData(data))


async def _nowhere(_: ASGIReceiveEvent) -> None:
    """Take what hypercorn would queue: a disconnect, which whoever waits for it reads from the connection."""
