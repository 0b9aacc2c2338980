"""HTTP/1.1 by hypercorn's own classes. Sections without a name are those of RFC 9112."""

from dataclasses import replace
from typing import Any, cast

import h11
from hypercorn.events import Closed, Event
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Request, Response
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.typing import TaskGroup
from wsproto.utilities import LocalProtocolError

from tenantry.server.asgi import Fields
from tenantry.server.host import websocket
from tenantry.server.host.limits import HostLimits
from tenantry.server.host.settings import Settings

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_VERSIONS = frozenset({b"1.0", b"1.1"})


class Http1(H11Protocol):
    """HTTP/1.1 and nothing else: no h2c, no prior knowledge, no CONNECT, no doubtful framing."""

    pulls = False
    """Whether the connection is read by the application while a request is under way, and not all the time."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - hypercorn's own
        super().__init__(*arguments)

    @property
    def header_begun(self) -> bool:
        """Whether a part of the next request has come already."""
        return bool(self.connection.trailing_data[0])

    async def handle(self, event: Event) -> None:
        """Take what came from the connection."""
        try:
            await super().handle(event)
        except _Refused as refusal:
            await self._refuse(refusal)
        except LocalProtocolError:  # bytes on a WebSocket that is closed
            await self.send(Closed())

    async def _refuse(self, refusal: "_Refused") -> None:
        fields = [(b"content-length", b"0"), (b"connection", b"close")]
        if refusal.status == 405:
            fields.append((b"allow", b""))  # RFC 9110 section 10.2.1: this target has no methods
        await self._send_h11_event(h11.Response(status_code=refusal.status, headers=fields))
        await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application says; the last answer before a stop closes the connection."""
        if isinstance(event, Response) and self.context.terminated.is_set():
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        self._check_head(event, list(event.headers))

    def _check_head(self, request: h11.Request, fields: Fields) -> None:
        _check_head(request, fields, cast("Settings", self.config).limits)

    async def _create_stream(self, request: h11.Request) -> None:
        if websocket.is_wanted(request):
            await self._open_websocket(request, self.task_group)
        else:
            await super()._create_stream(_without_upgrade(request))

    async def _open_websocket(self, request: h11.Request, tasks: TaskGroup) -> None:
        stream = websocket.Socket(
            self.app,
            self.config,
            self.context,
            tasks,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        self.stream = stream
        self.connection = H11WSConnection(cast("h11.Connection", self.connection))
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=websocket.fields(request),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _check_head(request: h11.Request, fields: Fields, limits: HostLimits) -> None:
    size = len(request.target)
    framings = set()
    for name, value in fields:
        size += len(name) + len(value)
        if name in _FRAMING:
            framings.add(name)
    # h11 bounds only a header that came in pieces; one packet can hold four times its bound.
    if size > limits.header_bytes or len(fields) > limits.header_count:
        raise _Refused(431)
    if request.http_version not in _VERSIONS:
        raise _Refused(505)
    if request.method == b"CONNECT":
        raise _Refused(405)
    # Section 6.3: both together are how requests are smuggled; section 6.1: 1.0 knows no transfer coding.
    # hypercorn writes methods in upper case, but they are case-sensitive (RFC 9110 section 9.1).
    if (
        len(framings) == 2
        or (request.http_version == b"1.0" and b"transfer-encoding" in framings)
        or not request.method.isupper()
    ):
        raise _Refused(400)


def _without_upgrade(request: h11.Request) -> h11.Request:
    """Ignore a wish to switch protocols, as RFC 9110 section 7.8 allows: some clients wish for h2c every time."""
    kept = [(name, value) for name, value in request.headers if name != b"upgrade"]
    if len(kept) == len(request.headers):
        return request
    return h11.Request(method=request.method, target=request.target, headers=kept, http_version=request.http_version)
