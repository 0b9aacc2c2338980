"""The listening sockets, and the connections that they admit."""

import errno
import math
import resource
import select
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable

import structlog
import trio
from hypercorn.trio.worker_context import WorkerContext

from tenantry.server.asgi import ASGIApp
from tenantry.server.host.connection import Connection
from tenantry.server.host.limits import HostLimits
from tenantry.server.host.settings import Settings
from tenantry.server.turns import Turns

BACKLOG = 512
# A peer that vanished without a word acknowledges nothing; Linux would go on trying for some 15 minutes.
VANISHED_PEER_MS = 30_000
ACCEPT_RETRY_S = 0.1
# The event of a socket whose peer has left; where the system has none, the application reads on to find out.
DEPARTED: int = getattr(select, "POLLRDHUP", 0)
# How late a connection may be closed for being late, and a departure be seen: one look at all of them costs less than
# a timer and a task a request.
LATE_S = 0.25
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# Descriptors for the database, logs, listeners and the interpreter; the rest of `ulimit -n` may be connections.
RESERVED_DESCRIPTORS = 64
# What a stranger can cause at will is logged once a minute.
QUIET_S = 60.0

_log = structlog.get_logger()


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


def _nobody(_address: str) -> bool:
    return False


async def serve(
    app: ASGIApp,
    *,
    sockets: list[socket.socket],
    shutdown: trio.Event,
    limits: HostLimits | None = None,
    lean: bool = True,
    tls: ssl.SSLContext | None = None,
    is_proxy: Callable[[str], bool] = _nobody,
    turns: Turns | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on bound `sockets`, which it closes, until `shutdown` is set.

    Without `tls` by HTTP/1.1; with it by HTTP/1.1 or HTTP/2, as the client chooses in the handshake. `is_proxy` tells
    of an address whether it is a trusted proxy's, which may have any number of connections. `lean` chooses how HTTP/1.1
    is spoken: in one task a connection, or by hypercorn's own stream classes with a task a request.

    On shutdown idle connections close at once, requests in flight have `stop_grace_s` to be answered, and what is
    left is cut. Event streams end through the application's own closing event. No fault of one connection is raised
    here.
    """
    host = Host(app, limits or HostLimits(), lean=lean, tls=tls, is_proxy=is_proxy, turns=turns)
    async with trio.open_nursery() as connections:
        connections.start_soon(host.keep_time)
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


class Host:
    """The connections of one `serve`, counted in total and by peer."""

    def __init__(
        self,
        app: ASGIApp,
        limits: HostLimits,
        *,
        lean: bool = True,
        tls: ssl.SSLContext | None = None,
        is_proxy: Callable[[str], bool] = _nobody,
        turns: Turns | None = None,
    ) -> None:
        self.app = app
        self.limits = limits
        self.lean = lean
        self.tls = tls
        self.settings = Settings(limits)
        self.context = WorkerContext(None)
        self.turns = turns or Turns()
        self.complain = Rarely()
        self.notices_departures = bool(DEPARTED)
        self._is_proxy = is_proxy
        self._room = min(limits.max_connections, _descriptors_free())
        self._connections: set[Connection] = set()
        self._by_peer: Counter[str] = Counter()
        self._empty = trio.Event()
        if self._room < limits.max_connections:
            _log.warning("connections_limited_by_ulimit", room=self._room, wanted=limits.max_connections)

    async def accept(self, listener: trio.abc.Listener[trio.SocketStream], nursery: trio.Nursery) -> None:
        """Admit connections until cancelled; being out of descriptors or memory is waited out."""
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in OUT_OF_RESOURCES:
                        raise
                    self.complain("accept_failed", error=repr(error))
                    await trio.sleep(ACCEPT_RETRY_S)
                else:
                    self._admit(stream, nursery)

    def _admit(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            connection = Connection(self, stream)
        except OSError:  # gone before it was looked at
            stream.socket.close()
            return
        if len(self._connections) >= self._room or self._has_enough(connection):
            self.complain("connection_refused", peer=connection.peer, open=len(self._connections))
            connection.cut()
            return
        self._connections.add(connection)
        self._by_peer[connection.peer] += 1
        nursery.start_soon(self._serve, connection)

    def _has_enough(self, connection: Connection) -> bool:
        most = self.limits.max_connections_per_peer
        return most is not None and self._by_peer[connection.peer] >= most and not self._is_proxy(connection.address)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        except* Exception as group:  # noqa: BLE001 - whatever it is, it must not reach the other connections
            _log.error("connection_failed", peer=connection.peer, errors=[repr(e) for e in _leaves(group)])
        finally:
            connection.cut()
            connection.let_go()
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._by_peer[connection.peer] -= 1
        if not self._by_peer[connection.peer]:
            del self._by_peer[connection.peer]
        if not self._connections:
            self._empty.set()

    async def keep_time(self) -> None:
        """Close connections on which something is overdue and end what is done for peers that left, until cancelled."""
        while True:
            await trio.sleep(LATE_S)
            now = trio.current_time()
            for connection in self._connections:
                connection.end_if_due(now)
            self._look_for_departures()

    def _look_for_departures(self) -> None:
        departing = [pair for connection in self._connections if (pair := connection.departing) is not None]
        if departing:
            poll = select.poll()
            for descriptor, _ in departing:
                poll.register(descriptor, DEPARTED)
            departed = {descriptor for descriptor, _ in poll.poll(0)}
            for descriptor, left in departing:
                if descriptor in departed:
                    left()

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


class Rarely:
    """Logs each event at most once in QUIET_S, with the number of times it kept silent."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._silent: Counter[str] = Counter()

    def __call__(self, event: str, **fields: object) -> None:
        """Log the event, or count it."""
        now = trio.current_time()
        if now < self._next.get(event, -math.inf):
            self._silent[event] += 1
            return
        self._next[event] = now + QUIET_S
        _log.warning(event, silent_times=self._silent.pop(event, 0), **fields)


def _descriptors_free() -> int:
    """How many connections the process may hold, once its limit of descriptors is as high as it may set it itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return sys.maxsize if hard == resource.RLIM_INFINITY else max(hard - RESERVED_DESCRIPTORS, 1)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]
