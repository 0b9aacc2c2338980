"""HTTP/2 by hypercorn's own class, over TLS alone. Sections without a name are those of RFC 9113."""

from contextlib import suppress
from typing import Any, cast

import trio
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.events import Event as H2Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from h2.settings import Settings as H2Settings
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol

from tenantry.server.host.frames import Flood, FrameGate
from tenantry.server.host.limits import HostLimits
from tenantry.server.host.settings import Settings

_Header = tuple[bytes, bytes]


class _Connection(H2Connection):
    # Late frames for a stream that ended are forgiven while it is remembered; each costs some 100 bytes.
    MAX_CLOSED_STREAMS = 1000


class Http2(H2Protocol):
    """HTTP/2 without push, tunnels, WebSockets and priorities, and with an end to what one connection may cost."""

    pulls = False
    header_begun = False
    """Pings and windows come on an idle connection too."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - hypercorn's own
        super().__init__(*arguments)
        self._limits: HostLimits = cast("Settings", self.config).limits
        self._gate = FrameGate(header_bytes=self._limits.header_bytes)
        self._receiving: set[int] = set()
        self.connection = _Connection(config=H2Configuration(client_side=False, header_encoding=None))
        self.connection.local_settings = H2Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self._limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: self._limits.header_bytes,
            },
        )
        self.connection.decoder.max_header_list_size = self._limits.header_bytes

    async def handle(self, event: Event) -> None:
        """Take what came from the connection."""
        try:
            if isinstance(event, RawData):
                self._gate.feed(event.data, trio.current_time())
            elif isinstance(event, Closed):
                await self._say_goodbye(ErrorCodes.NO_ERROR)
                for buffer in self.stream_buffers.values():  # nobody sends from them any more
                    await buffer.close()
            await super().handle(event)
        except Flood:
            await self._say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
            await self.send(Closed())

    async def _say_goodbye(self, code: ErrorCodes) -> None:
        if self.connection.state_machine.state is not ConnectionState.CLOSED:
            self.connection.close_connection(error_code=code)
            await self._flush()

    async def _handle_events(self, events: list[H2Event]) -> None:
        for event in events:
            if isinstance(event, RequestReceived):
                self._receiving.add(event.stream_id)
            elif isinstance(event, StreamEnded | StreamReset):
                self._receiving.discard(event.stream_id)
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:  # answered before its end
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                await super()._handle_events([event])
            if isinstance(event, StreamReset) and not event.remote_reset:
                self._gate.count_reset(trio.current_time())
            if isinstance(event, RequestReceived):  # hypercorn takes a refused one for under way
                await self._settle()
        await self._flush()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is still to be sent."""
        return not self.streams and not self.stream_buffers

    async def _settle(self) -> None:
        await self.send(Updated(idle=self.idle))
        if self.idle and self.context.terminated.is_set():
            await self.send(Closed())

    async def _create_stream(self, request: RequestReceived) -> None:
        status = _refusal(request.headers, self._limits)
        if status is not None:
            await self._refuse(request.stream_id, status)
            return
        if request.stream_ended is not None and all(name != b"content-length" for name, _ in request.headers):
            request.headers.append((b"content-length", b"0"))  # what the application can't see: there is no body
        await super()._create_stream(request)

    async def _refuse(self, stream_id: int, status: int) -> None:
        headers = [(b":status", b"%d" % status), (b"content-length", b"0")]
        with suppress(ProtocolError):  # its client has reset it already
            self.connection.send_headers(stream_id, headers, end_stream=True)
        self._stop_receiving(stream_id)
        await self._flush()

    def _stop_receiving(self, stream_id: int) -> None:
        # Section 8.1: an answer before the end of its request, then a reset that is no error.
        if stream_id in self._receiving:
            self._receiving.discard(stream_id)
            with suppress(ProtocolError):
                self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)

    async def _priority_updated(self, event: Any) -> None:  # noqa: ANN401
        """Do nothing: section 5.3.2 has deprecated priorities, and their tree is costly to tend."""

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        if stream_id not in self.stream_buffers:
            self._stop_receiving(stream_id)
            await self._flush()
            await self._settle()

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application says; a stream whose client grants no window for it is reset."""
        if isinstance(event, StreamClosed):  # hypercorn would say goodbye before the last frame is sent
            await self._close_stream(event.stream_id)
            await self._settle()
            return
        with trio.CancelScope() as patience:
            if isinstance(event, Body | EndBody):
                patience.deadline = trio.current_time() + self._limits.send_timeout_s
            await super().stream_send(event)
        if patience.cancelled_caught:
            await self._abandon(event.stream_id)

    async def _abandon(self, stream_id: int) -> None:
        with suppress(ProtocolError):
            self.connection.reset_stream(stream_id, ErrorCodes.CANCEL)
            await self._flush()
        await self._close_stream(stream_id)
        await self._window_updated(stream_id)  # wakes the sender, which then lets go of the stream


def _refusal(headers: list[_Header], limits: HostLimits) -> int | None:
    """The status for a request that the application is not to see."""
    method = path = b""
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b":method":
            method = value
        elif name == b":path":
            path = value
    if size > limits.header_bytes or len(headers) > limits.header_count:
        return 431
    if method == b"CONNECT":
        return 405
    # hypercorn writes methods in upper case, but they are case-sensitive (RFC 9110 section 9.1).
    return None if path.isascii() and path and method.isupper() and method.isascii() else 400
