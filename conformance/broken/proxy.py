"""A proxy between the suite and a good server: it passes everything on and lets one fault spoil what passes."""

import http.client
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30
EVENTS = "text/event-stream"
JSON = "application/json"
# They speak of one connection and are made anew on the other.
HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})

Headers = list[tuple[str, str]]


def without(headers: Headers, name: str) -> Headers:
    """Give the fields but those of one name."""
    return [(key, value) for key, value in headers if key.lower() != name]


def value_of(headers: Headers, name: str) -> str | None:
    """Give the first value of a field."""
    return next((value for key, value in headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True)
class Request:
    """What the suite sent."""

    method: str
    path: str
    headers: Headers
    body: bytes

    @property
    def message(self) -> Any:
        """The JSON in the body; None where there is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def asks(self) -> str | None:
        """The JSON-RPC method."""
        found = self.message.get("method") if isinstance(self.message, dict) else None
        return found if isinstance(found, str) else None

    def header(self, name: str) -> str | None:
        """The first value of a header field."""
        return value_of(self.headers, name)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered: a body, or the blocks of an event stream as they come."""

    status: int
    headers: Headers
    body: bytes = b""
    blocks: Iterator[str] | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header field."""
        return value_of(self.headers, name)


Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. What is not given stays as it is."""

    clauses: tuple[str, ...]
    """The rows whose tests must notice."""
    does: str
    revision: str = "2026-07-28"
    mode: str = "dual"
    request: Callable[[Request], Request] = field(default=lambda request: request)
    """Spoils what the server gets to see."""
    message: Callable[[Request, Message], Any] = field(default=lambda _request, message: message)
    """Spoils each JSON-RPC message that the server sends."""
    reply: Callable[[Request, Reply], Reply] = field(default=lambda _request, reply: reply)
    """Spoils status, header fields and body; comes after `message`."""


HONEST = Fault(clauses=(), does="nothing: all is passed on as it is")


class Proxy(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    daemon_threads = True

    def __init__(self, upstream: str, fault: Fault) -> None:
        """Name the good server's endpoint and what is to go wrong."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urlsplit(upstream)
        self.fault = fault

    def handle_error(self, *_: object) -> None:
        """Say nothing of a connection that the suite dropped; what it needs it will miss by itself."""

    @property
    def authority(self) -> str:
        """Host and port under which the suite knows this proxy."""
        return f"{self.upstream.hostname}:{self.server_port}"

    @property
    def url(self) -> str:
        """The endpoint of the spoilt server."""
        return f"http://{self.authority}{self.upstream.path}"


@contextmanager
def spoilt_server(upstream: str, fault: Fault) -> Iterator[Proxy]:
    """Serve a proxy in a thread of its own; its `fault` may be changed between two requests."""
    with Proxy(upstream, fault) as proxy, ThreadPoolExecutor(1) as pool:
        pool.submit(proxy.serve_forever, 0.05)
        try:
            yield proxy
        finally:
            proxy.shutdown()


class Handler(BaseHTTPRequestHandler):
    """One connection of the suite."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Treat every HTTP method alike."""
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _pass_on(self) -> None:
        fault = self.server.fault
        length = int(self.headers.get("content-length") or 0)
        request = Request(self.command, self.path, list(self.headers.items()), self.rfile.read(length))
        upstream = http.client.HTTPConnection(self.server.upstream.netloc, timeout=TIMEOUT_S)
        try:
            answered = fetched(upstream, fault.request(self._readdressed(request)))
            self._send(fault.reply(request, spoilt(fault, request, answered)))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the suite went away, so the server is left as well
        finally:
            upstream.close()

    def _readdressed(self, request: Request) -> Request:
        """Give Host and Origin as the good server knows itself where they name this proxy, foreign ones as they are."""
        ours, theirs = self.server.authority, self.server.upstream.netloc
        addressed = [
            (name, value.replace(ours, theirs) if name.lower() in {"host", "origin"} else value)
            for name, value in request.headers
        ]
        return replace(request, headers=addressed)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in without(reply.headers, "content-length"):
            self.send_header(name, value)
        if reply.blocks is None:
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else reply.body)
            return
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for block in reply.blocks:
            self.wfile.write(f"{block}\n\n".encode())


def fetched(upstream: http.client.HTTPConnection, request: Request) -> Reply:
    """Ask the good server."""
    upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers:
        if name.lower() not in HOP:
            upstream.putheader(name, value.encode("latin-1"))
    if request.body or request.method == "POST":
        upstream.putheader("content-length", str(len(request.body)))
    upstream.endheaders(request.body or None)
    answer = upstream.getresponse()
    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP]
    if (answer.getheader("content-type") or "").startswith(EVENTS):
        return Reply(answer.status, headers, blocks=blocks_of(answer))
    return Reply(answer.status, headers, answer.read())


def blocks_of(answer: http.client.HTTPResponse) -> Iterator[str]:
    """Give each event of a stream as soon as it is whole, without the empty line behind it."""
    lines: list[str] = []
    for line in iter(answer.readline, b""):
        text = line.decode().rstrip("\r\n")
        if text:
            lines.append(text)
        elif lines:
            yield "\n".join(lines)
            lines = []


def spoilt(fault: Fault, request: Request, reply: Reply) -> Reply:
    """Let the fault at every message of an answer."""
    if reply.blocks is not None:
        return replace(reply, blocks=(spoilt_block(fault, request, block) for block in reply.blocks))
    if not reply.body.startswith(b"{") or b'"jsonrpc"' not in reply.body:
        return reply
    return replace(reply, body=json.dumps(fault.message(request, json.loads(reply.body))).encode())


def spoilt_block(fault: Fault, request: Request, block: str) -> str:
    """Let the fault at the message of one event; data of this server is always one line."""
    lines = block.split("\n")
    for place, line in enumerate(lines):
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data:
            lines[place] = "data: " + json.dumps(fault.message(request, json.loads(data)))
    return "\n".join(lines)
