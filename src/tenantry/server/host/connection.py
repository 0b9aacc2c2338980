"""One connection: its handshake, its reader, one writer at a time, and its deadlines."""

import ipaddress
import math
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from tenantry.server.asgi import DEPARTURE, LINE, Message
from tenantry.server.host.http1 import Http1
from tenantry.server.host.http2 import Http2
from tenantry.server.host.lean import LeanHttp1
from tenantry.server.host.tasks import Tasks
from tenantry.server.host.tls import HTTP2
from tenantry.server.turns import Line

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
        self._line = Line(host.turns.notice)
        self._left: Callable[[], None] | None = None
        self._due = math.inf
        self._over = False
        self._deserted = False
        self._idle = True
        self._header_begun = False
        self._lingers = False
        self._protocol: Http1 | Http2

    async def run(self) -> None:
        """Serve requests until either side closes; only then may the socket be closed."""
        if self._tls is None or await self._shake_hands(self._tls):
            await self._talk()

    async def _shake_hands(self, tls: trio.SSLStream[trio.SocketStream]) -> bool:
        with trio.move_on_after(self._host.limits.handshake_timeout_s) as self._reading:
            try:
                await tls.do_handshake()
            except _GONE:
                self._host.complain("tls_handshake_failed", peer=self.peer)
                return False
        return not self._reading.cancel_called

    async def _talk(self) -> None:
        if self._tls is not None and self._tls.selected_alpn_protocol() == HTTP2:
            await self._talk_with_tasks(Http2)
        elif self._host.lean:
            self._protocol = LeanHttp1(
                *self._arguments(None),
                pull=self._pull,
                answer=self._answer,
                read_all=self._read_all,
                turn=self._turn,
                extensions=self._extensions(),
            )
            self._expect_header(begun=True)
            await self._read_between_requests()
            await self._close()
        else:
            await self._talk_with_tasks(Http1)

    def _extensions(self) -> Message:
        noticed = self._tls is None and self._host.notices_departures
        return {LINE: self._line, **({DEPARTURE: self._departure} if noticed else {})}

    async def _turn(self) -> None:
        await self._host.turns.take(self._line.tenant)

    async def _talk_with_tasks(self, protocol: type[Http1 | Http2]) -> None:
        async with Tasks(self._host.app) as tasks:
            self._protocol = protocol(*self._arguments(tasks))
            self._expect_header(begun=True)
            await self._read_all()
            await self._close()

    async def _close(self) -> None:
        await self._protocol.handle(Closed())
        if self._lingers or self._tls is not None:
            await self._linger()

    def _arguments(self, tasks: TaskGroup | None) -> tuple[object, ...]:
        """What hypercorn makes a protocol of."""
        return (
            self._host.app,
            self._host.settings,
            self._host.context,
            tasks,
            ConnectionState({}),
            self._tls is not None,
            self._client,
            self._server,
            self._handle,
        )

    async def _read_all(self) -> None:
        """Read all the time; what is asked runs in tasks of its own."""
        data = b"-"
        with trio.CancelScope() as self._reading:
            await self._protocol.initiate()
            while data and not self._over:
                data = await self._pull()
                await self._protocol.handle(RawData(data))
                self._expect_the_rest()

    async def _read_between_requests(self) -> None:
        """Read the next request's beginning; the request runs in this task, where nothing cuts it short."""
        data = b"-"
        while data and not self._over:
            data = await (self._pull() if self._tls is None else self._pull_while_idle())
            await self._turn()
            if not self._over:
                await self._protocol.handle(RawData(data))
                self._expect_the_rest()
            if data and self._line.tenant is None:  # whoever opens a connection for each request is somebody, too
                self._line.belongs_to("")

    async def _pull_while_idle(self) -> bytes:
        with trio.CancelScope() as self._reading:  # between two requests it ends nothing but the waiting
            return await self._pull()
        return b""

    async def _pull(self) -> bytes:
        try:
            if self._tls is not None:
                return bytes(await self._tls.receive_some(RECEIVE_BYTES))
            while (descriptor := self._tcp.socket.fileno()) >= 0:
                await trio.lowlevel.wait_readable(descriptor)
                try:
                    data = os.read(descriptor, RECEIVE_BYTES)
                except BlockingIOError:
                    continue
                self._deserted = not data and not self._over
                return data
        except (*_GONE, OSError):
            pass
        return b""

    def _expect_the_rest(self) -> None:
        if self._idle and not self._header_begun and self._protocol.header_begun:
            self._expect_header(begun=True)

    async def _handle(self, event: Event) -> None:
        if type(event) is Updated:  # asked this way and first: each request is begun and ended by one
            self._idle = event.idle
            if event.idle:  # the next header may have come while the last answer was sent
                self._expect_header(begun=self._protocol.header_begun)
            else:
                self._due = math.inf
        elif isinstance(event, RawData):
            await self._answer(event.data)
            await trio.lowlevel.cancel_shielded_checkpoint()
        elif isinstance(event, Closed):
            await self._end()

    def _expect_header(self, *, begun: bool) -> None:
        limits = self._host.limits
        self._header_begun = begun
        self._due = trio.current_time() + (limits.header_timeout_s if begun else limits.keep_alive_s)

    def end_if_due(self, now: float) -> None:
        """Close where the peer has taken too long for what is expected of it; `now` is trio's clock, seconds."""
        if now >= self._due:
            self._due = math.inf
            self._stop_reading()

    @contextmanager
    def _departure(self, left: Callable[[], None]) -> Iterator[None]:
        """Call `left` once the peer has left while the block runs, which the host notices."""
        self._left = left
        try:
            yield
        finally:
            self._left = None

    @property
    def departing(self) -> tuple[int, Callable[[], None]] | None:
        """The socket's descriptor, and what is to be called once the peer has left; None where nothing is."""
        return None if self._left is None or self._over else (self._tcp.socket.fileno(), self._left)

    def _stop_reading(self) -> None:
        self._over = True
        if self._host.lean and self._tls is None:
            with suppress(OSError):
                self._tcp.socket.shutdown(socket.SHUT_RD)  # whoever reads is at the end, and nothing is cancelled
        else:
            self._reading.cancel()

    async def _answer(self, data: bytes) -> None:
        """Write a whole answer: at once where the kernel has room for it, as it nearly always has.

        That needs no deadline, no lock and no turn of the other tasks; a task that only wrote like this would give
        them none.
        """
        written = 0
        if self._tls is None and not self._sending.locked():
            try:
                written = os.write(self._tcp.socket.fileno(), data)
            except BlockingIOError:
                pass
            except OSError:
                self.cut()
                return
        if written < len(data):
            await self._write(partial(self._stream.send_all, data[written:]))

    async def _end(self) -> None:
        """Say that nothing more comes, and stop reading requests; a peer that has left is told by the socket's end."""
        self._over = True
        if self._deserted:
            return
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
                async with self._sending:
                    with suppress(trio.BrokenResourceError):
                        await self._tls.unwrap()
                    await self._tcp.send_eof()  # where the peer still sends, our alert may not have left
            while left > 0 and (data := await self._tcp.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    def let_go(self) -> None:
        """Part from the protocol, once nothing runs: the two hold each other, and collections are rare."""
        self.__dict__.pop("_protocol", None)

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if self._idle:
            self._stop_reading()

    def cut(self) -> None:
        """Close the socket whoever is using it, and wake the reader wherever it waits."""
        self._over = True
        self._tcp.socket.close()
        self._reading.cancel()


def peer_key(address: str) -> str:
    """Name the peer that connections are counted by; in IPv6 one site has a whole /64 of addresses."""
    if ":" not in address:
        return address
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
