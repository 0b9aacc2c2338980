"""One connection: its handshake, its reader, one writer at a time, and its deadlines."""

import ipaddress
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from tenantry.server.host.http1 import Http1
from tenantry.server.host.http2 import Http2
from tenantry.server.host.tasks import Tasks
from tenantry.server.host.tls import HTTP2

if TYPE_CHECKING:
    from tenantry.server.host.listener import Host

RECEIVE_BYTES = 64 * 1024
# Closing while the peer still sends resets the connection and takes our last answer with it (RFC 9112 section 9.6).
LINGER_S = 1.0
LINGER_BYTES = 1024 * 1024
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Connection:
    """Serves the requests of one TCP connection."""

    def __init__(self, host: "Host", stream: trio.SocketStream) -> None:
        sock = stream.socket
        self._client = parse_socket_addr(sock.family, sock.getpeername())
        self._server = parse_socket_addr(sock.family, sock.getsockname())
        self.address = self._client[0] if self._client else ""
        self.peer = peer_key(self.address)
        self._host = host
        self._tcp = stream
        self._tls = None if host.tls is None else trio.SSLStream(stream, host.tls, server_side=True)
        self._stream: trio.abc.Stream = self._tls or stream
        self._sending = trio.Lock()
        self._reading = trio.CancelScope()
        self._idle = True
        self._header_begun = False
        self._lingers = False
        self._protocol: Http1 | Http2

    async def run(self) -> None:
        """Serve requests until either side closes; only then may the socket be closed."""
        if self._tls is None or await self._shake_hands(self._tls):
            await self._talk()

    async def _shake_hands(self, tls: trio.SSLStream[trio.SocketStream]) -> bool:
        self._reading.deadline = trio.current_time() + self._host.limits.handshake_timeout_s
        with self._reading as waiting:
            try:
                await tls.do_handshake()
            except _GONE:
                self._host.complain("tls_handshake_failed", peer=self.peer)
                return False
        self._reading = trio.CancelScope()
        return not waiting.cancel_called

    async def _talk(self) -> None:
        async with Tasks(self._host.app) as tasks:
            self._protocol = self._new_protocol(tasks)
            self._expect_header(begun=True)
            with self._reading:
                await self._protocol.initiate()
                await self._read()
            await self._protocol.handle(Closed())
            if self._lingers or self._tls is not None:
                await self._linger()

    def _new_protocol(self, tasks: TaskGroup) -> Http1 | Http2:
        is_http2 = self._tls is not None and self._tls.selected_alpn_protocol() == HTTP2
        return (Http2 if is_http2 else Http1)(
            cast("AppWrapper", self._host.app),
            self._host.settings,
            self._host.context,
            tasks,
            ConnectionState({}),
            self._tls is not None,
            self._client,
            self._server,
            self._handle,
        )

    async def _read(self) -> None:
        while True:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except _GONE:
                return
            if self._idle and not self._header_begun and self._protocol.bytes_begin_a_header:
                self._expect_header(begun=True)
            await self._protocol.handle(RawData(bytes(data)))
            if not data:
                return

    async def _handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(partial(self._stream.send_all, event.data))
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated):
            self._idle = event.idle
            if event.idle:  # the next header may have come while the last answer was sent
                self._expect_header(begun=self._protocol.header_begun)
            else:
                self._reading.deadline = math.inf

    def _expect_header(self, *, begun: bool) -> None:
        limits = self._host.limits
        self._header_begun = begun
        self._reading.deadline = trio.current_time() + (limits.header_timeout_s if begun else limits.keep_alive_s)

    async def _end(self) -> None:
        """Say that nothing more comes, and stop reading requests."""
        self._lingers = True
        if self._tls is None:
            await self._write(self._tcp.send_eof)
        self._reading.cancel()

    async def _write(self, operation: Callable[[], Awaitable[None]]) -> None:
        """Write all or cut: half a write would put the next one's bytes in the wrong place."""
        deadline = trio.current_time() + self._host.limits.send_timeout_s
        with trio.CancelScope(shield=True, deadline=deadline), suppress(*_GONE):
            async with self._sending:
                await operation()
                return
        self.cut()

    async def _linger(self) -> None:
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_S), suppress(*_GONE):
            if self._tls is not None:
                # RFC 8446 section 6.1: our alert, then the peer's; one that goes on sending gets no more than this.
                with suppress(trio.BrokenResourceError):
                    async with self._sending:
                        await self._tls.unwrap()
            while left > 0 and (data := await self._tcp.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if self._idle:
            self._reading.cancel()

    def cut(self) -> None:
        """Close the socket whoever is using it, and wake the reader wherever it waits."""
        self._tcp.socket.close()
        self._reading.cancel()


def peer_key(address: str) -> str:
    """Name the peer that connections are counted by; in IPv6 one site has a whole /64 of addresses."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
