"""A loopback proxy that signs each request: the official runner can't send an Authorization header.

It changes the head of a request alone, and of that only what it must; everything else passes as the bytes that came,
so that the runner judges the server and not the proxy.
"""

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

HEAD_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From the proxy's own authority to the server's, and the token for the way."""

    own: str
    server: str
    token: Callable[[], str]

    def head(self, head: bytes) -> bytes:
        """Sign the head of a request; Host and Origin become the server's only where they name the proxy itself.

        Every connection carries one request, so that each head is seen.
        """
        request_line, *fields = head.split(b"\r\n")
        kept = [self._field(line) for line in fields if _name(line) not in (b"authorization", b"connection")]
        added = [f"authorization: Bearer {self.token()}".encode(), b"connection: close"]
        return b"\r\n".join([request_line, *kept, *added, b"", b""])

    def _field(self, line: bytes) -> bytes:
        value = line.partition(b":")[2].strip().decode("latin-1").lower()
        if _name(line) == b"host" and value == self.own:
            return f"host: {self.server}".encode()
        if _name(line) == b"origin" and value == f"http://{self.own}":
            return f"origin: http://{self.server}".encode()
        return line


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    read = b""
    while b"\r\n\r\n" not in read and len(read) < HEAD_MAX:
        more = client.recv(HEAD_MAX)
        if not more:
            break
        read += more
    head, _, rest = read.partition(b"\r\n\r\n")
    return head, rest


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on bytes until one side ends, and tell the other of it."""
    with suppress(OSError):
        while part := source.recv(64 * 1024):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # a stream may stay open for as long as its client likes
    request_queue_size = 128
    route: Route

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is no fault of ours."""


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Pass one request on, and its answer back as it comes."""
        client: socket.socket = self.request
        head, rest = _read_head(client)
        if not head:
            return
        host, _, port = self.server.route.server.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            upstream.sendall(self.server.route.head(head) + rest)
            threading.Thread(target=_copy, args=(client, upstream), daemon=True).start()
            _copy(upstream, client)


@contextmanager
def running_proxy(server: str, token: Callable[[], str]) -> Iterator[str]:
    """Listen on a free port of this machine and give the URL there of the MCP endpoint of `server` (host:port)."""
    with _Server(("127.0.0.1", 0), _Handler) as proxy:
        own = f"localhost:{proxy.server_address[1]}"
        proxy.route = Route(own=own, server=server, token=token)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://{own}/mcp"
        finally:
            proxy.shutdown()
            thread.join()
