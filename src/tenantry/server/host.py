"""hypercorn on trio, made safe to face strangers: the only file that touches hypercorn's classes.

hypercorn's `H11Protocol` and `HTTPStream` turn bytes into ASGI messages and back. Its listener, its connection and
its queue to the application are replaced here, because in them one packet can end the process, a stalled reader
can't be cut, a full queue blocks for ever, and nothing is counted. HTTP/2 and WebSockets are never switched to.
Sections without a name are those of RFC 9112.
"""

import errno
import ipaddress
import math
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from typing import cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, ConnectionState, Scope
from hypercorn.utils import parse_socket_addr

from tenantry.server.asgi import ASGIApp, Message

BACKLOG = 512
RECEIVE_BYTES = 64 * 1024
# Chunks between a connection's reader and the application: enough to keep both busy, small enough to hold.
INBOX_EVENTS = 10
# A peer that vanished without a word acknowledges nothing; Linux would go on trying for some 15 minutes.
VANISHED_PEER_MS = 30_000
# Closing while the peer still sends resets the connection and takes our last answer with it (section 9.6).
LINGER_S = 1.0
LINGER_BYTES = 1024 * 1024
ACCEPT_RETRY_S = 0.1
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Descriptors for the database, logs, listeners and the interpreter; the rest of `ulimit -n` may be connections.
RESERVED_DESCRIPTORS = 64
# What a stranger can cause at will is logged once a minute.
QUIET_S = 60.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """What one server, one peer and one connection may take; times in seconds."""

    max_connections: int = 4096
    max_connections_per_peer: int | None = 512
    """None behind a proxy, where all connections have its address."""
    header_bytes: int = 16 * 1024
    header_count: int = 100
    header_timeout_s: float = 10.0
    """From the first byte of a request (or from the connection's start) to the end of its header."""
    keep_alive_s: float = 60.0
    send_timeout_s: float = 20.0
    """For one write of at most a response's body; a reader that stalls for longer is cut."""
    stop_grace_s: float = 10.0
    """How long requests in flight may take after the shutdown event."""


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Bind a TCP socket to `host` and `port`, 0 for any free one; `serve` makes it listen. Raises `OSError`.

    Where `shared`, other processes of the same person may bind the port too; connections go to all that listen.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted connections inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_PEER_MS)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


async def serve(
    app: ASGIApp,
    *,
    sockets: list[socket.socket],
    shutdown: trio.Event,
    limits: HostLimits | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` over HTTP/1.1 on bound `sockets`, which it closes, until `shutdown` is set.

    Then idle connections close at once, requests in flight have `stop_grace_s` to be answered, and what is left is
    cut. Event streams end through the application's own closing event. No fault of one connection is raised here.
    """
    host = _Host(app, limits or HostLimits())
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as accepting:
                for sock in sockets:
                    sock.listen(BACKLOG)
                    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                    accepting.start_soon(host.accept, listener, connections)
                task_status.started()
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            with trio.move_on_after(host.limits.stop_grace_s):
                await host.finish()
        finally:
            host.cut()
            connections.cancel_scope.cancel()


class _Host:
    """The connections of one `serve`, counted in total and by peer."""

    def __init__(self, app: ASGIApp, limits: HostLimits) -> None:
        self.app = app
        self.limits = limits
        self.config = _Config(limits)
        self.context = WorkerContext(None)
        self._room = min(limits.max_connections, _descriptors_free())
        self._connections: set[_Connection] = set()
        self._by_peer: Counter[str] = Counter()
        self._empty = trio.Event()
        self._complain = _Rarely()
        if self._room < limits.max_connections:
            _log.warning("connections_limited_by_ulimit", room=self._room, wanted=limits.max_connections)

    async def accept(self, listener: trio.abc.Listener[trio.SocketStream], nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in OUT_OF_RESOURCES:
                        raise
                    self._complain("accept_failed", error=repr(error))
                    await trio.sleep(ACCEPT_RETRY_S)
                else:
                    self._admit(stream, nursery)

    def _admit(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            connection = _Connection(self, stream)
        except OSError:  # gone before it was looked at
            stream.socket.close()
            return
        most = self.limits.max_connections_per_peer
        if len(self._connections) >= self._room or (most is not None and self._by_peer[connection.peer] >= most):
            self._complain("connection_refused", peer=connection.peer, open=len(self._connections))
            connection.cut()
            return
        self._connections.add(connection)
        self._by_peer[connection.peer] += 1
        nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: "_Connection") -> None:
        try:
            await connection.run()
        except* Exception as group:  # noqa: BLE001 - whatever it is, it must not reach the other connections
            _log.error("connection_failed", peer=connection.peer, errors=[repr(e) for e in _leaves(group)])
        finally:
            connection.cut()
            self._forget(connection)

    def _forget(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        self._by_peer[connection.peer] -= 1
        if not self._by_peer[connection.peer]:
            del self._by_peer[connection.peer]
        if not self._connections:
            self._empty.set()

    async def finish(self) -> None:
        """Close what is idle and wait for the rest; no connection is admitted any more."""
        await self.context.terminated.set()
        for connection in self._connections:
            connection.close_if_idle()
        while self._connections:
            self._empty = trio.Event()
            await self._empty.wait()

    def cut(self) -> None:
        """Close every socket: sends are shielded from cancellation, and only this ends one that is stuck."""
        for connection in self._connections:
            connection.cut()


class _Connection:
    """One TCP connection: the reader, one writer at a time, and the deadline for the next request's header."""

    def __init__(self, host: _Host, stream: trio.SocketStream) -> None:
        sock = stream.socket
        self._client = parse_socket_addr(sock.family, sock.getpeername())
        self._server = parse_socket_addr(sock.family, sock.getsockname())
        self.peer = _peer_key(self._client)
        self._host = host
        self._stream = stream
        self._sending = trio.Lock()
        self._reading = trio.CancelScope()
        self._idle = True
        self._header_begun = False
        self._lingers = False
        self._protocol: _Protocol

    async def run(self) -> None:
        """Serve requests until either side closes; only then may the socket be closed."""
        async with _Tasks(self._host.app) as tasks:
            self._protocol = self._new_protocol(tasks)
            self._expect_header(begun=True)
            with self._reading:
                await self._read()
            await self._protocol.handle(Closed())
        if self._lingers:
            await self._linger()

    def _new_protocol(self, tasks: TaskGroup) -> "_Protocol":
        return _Protocol(
            cast("AppWrapper", self._host.app),
            self._host.config,
            self._host.context,
            tasks,
            ConnectionState({}),
            False,  # noqa: FBT003 - no TLS
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
            if self._idle and not self._header_begun:
                self._expect_header(begun=True)
            await self._protocol.handle(RawData(bytes(data)))
            if not data:
                return

    async def _handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated):
            self._idle = event.idle
            if event.idle:  # the next header may have come while the last answer was sent
                self._expect_header(begun=bool(self._protocol.connection.trailing_data[0]))
            else:
                self._reading.deadline = math.inf

    def _expect_header(self, *, begun: bool) -> None:
        limits = self._host.limits
        self._header_begun = begun
        self._reading.deadline = trio.current_time() + (limits.header_timeout_s if begun else limits.keep_alive_s)

    async def _send(self, data: bytes) -> None:
        await self._write(partial(self._stream.send_all, data))

    async def _end(self) -> None:
        """Say that nothing more comes, and stop reading requests."""
        self._lingers = True
        await self._write(self._stream.send_eof)
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
            while left > 0 and (data := await self._stream.receive_some(RECEIVE_BYTES)):
                left -= len(data)

    def close_if_idle(self) -> None:
        if self._idle:
            self._reading.cancel()

    def cut(self) -> None:
        """Close the socket whoever is using it, and wake the reader wherever it waits."""
        self._stream.socket.close()
        self._reading.cancel()


class _Tasks(TaskGroup):
    """A connection's tasks, with a queue to the application that never keeps the connection from closing.

    A disconnect overtakes nothing but waits for no room either, and what comes for an application that has
    returned is dropped.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def spawn_app(
        self,
        app: AppWrapper,  # noqa: ARG002 - hypercorn's wrapper is left out
        config: Config,  # noqa: ARG002
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        entrance, exit_ = trio.open_memory_channel[Message](INBOX_EVENTS)

        async def put(event: ASGIReceiveEvent) -> None:
            if event["type"] == "http.disconnect":
                entrance.close()
                return
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await entrance.send(cast("Message", event))

        async def receive() -> Message:
            try:
                return await exit_.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        async def run() -> None:
            with exit_:
                await self._app(cast("Message", scope), receive, cast("Callable[[Message], Awaitable[None]]", send))
            await send(None)

        self.spawn(run)
        return put


class _Protocol(H11Protocol):
    """HTTP/1.1 and nothing else: no h2c, no prior knowledge, no CONNECT, no doubtful framing."""

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except _Refused as refusal:
            await self._refuse(refusal)

    async def _refuse(self, refusal: "_Refused") -> None:
        fields = [(b"content-length", b"0"), (b"connection", b"close")]
        if refusal.status == 405:
            fields.append((b"allow", b""))  # RFC 9110 section 10.2.1: this target has no methods
        await self._send_h11_event(h11.Response(status_code=refusal.status, headers=fields))
        await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and self.context.terminated.is_set():
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        _check_head(event, cast("_Config", self.config).limits)

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(_without_upgrade(request))


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _check_head(request: h11.Request, limits: HostLimits) -> None:
    size = len(request.target)
    framings = set()
    for name, value in request.headers:
        size += len(name) + len(value)
        if name in _FRAMING:
            framings.add(name)
    # h11 bounds only a header that came in pieces; one packet can hold four times its bound.
    if size > limits.header_bytes or len(request.headers) > limits.header_count:
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


class _Config(Config):
    """hypercorn's settings, of which only those that its h11 protocol reads have a meaning here."""

    def __init__(self, limits: HostLimits) -> None:
        self.limits = limits
        self.h11_max_incomplete_size = limits.header_bytes
        self.keep_alive_max_requests = sys.maxsize
        self.accesslog = None
        self.errorlog = None
        self._date = (0, [(b"date", b"")])

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:  # noqa: ARG002
        """Give the Date field (RFC 9110 section 6.6.1), written once a second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, [(b"date", formatdate(now, usegmt=True).encode())])
        return self._date[1]


class _Rarely:
    """Logs each event at most once in QUIET_S, with the number of times it kept silent."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._silent: Counter[str] = Counter()

    def __call__(self, event: str, **fields: object) -> None:
        now = trio.current_time()
        if now < self._next.get(event, -math.inf):
            self._silent[event] += 1
            return
        self._next[event] = now + QUIET_S
        _log.warning(event, silent_times=self._silent.pop(event, 0), **fields)


_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_VERSIONS = frozenset({b"1.0", b"1.1"})


def _descriptors_free() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(soft - RESERVED_DESCRIPTORS, 1)


def _peer_key(client: tuple[str, int] | None) -> str:
    """Name the peer that connections are counted by; in IPv6 one site has a whole /64 of addresses."""
    if client is None or ":" not in client[0]:
        return client[0] if client else ""
    return str(ipaddress.IPv6Network((client[0].partition("%")[0], 64), strict=False))


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]
