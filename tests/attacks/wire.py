"""HTTP as an attacker writes it: every byte of a request is the test's own."""

import http.client
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

PATIENCE_S = 20.0
Fields = Mapping[str, str | None] | Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """One answer; field names in lower case, none merged."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first field of that name."""
        return next((value for key, value in self.fields if key == name), None)

    def all(self, name: str) -> list[str]:
        """Every field of that name."""
        return [value for key, value in self.fields if key == name]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str | None]:
        """Status and OAuth error code."""
        return self.status, self.json.get("error")

    @property
    def message(self) -> Any:
        """The JSON-RPC message that answers: the body, or the last event of a stream."""
        if self.header("content-type") != "text/event-stream":
            return self.json
        return [json.loads(data) for data in data_of(self.body)][-1]

    @property
    def code(self) -> int | None:
        """The JSON-RPC error code."""
        code: int | None = self.message.get("error", {}).get("code")
        return code


def data_of(body: bytes) -> list[bytes]:
    """The data of all events that have any."""
    return [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")]


def request_bytes(method: str, target: str, fields: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """Write a request just so; nothing is added."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def connect(port: int, source: str | None = None) -> socket.socket:
    """Connect to a server on this machine, from another loopback address where one is named."""
    origin = (source, 0) if source is not None else None
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S, source_address=origin)


def read_reply(sock: socket.socket, method: str = "GET") -> Reply:
    """Read one whole answer."""
    response = http.client.HTTPResponse(sock, method=method)
    response.begin()
    fields = [(name.lower(), value) for name, value in response.headers.items()]
    return Reply(response.status, fields, response.read())


def read_all(sock: socket.socket) -> bytes:
    """Read until the other side closes or resets."""
    received = b""
    try:
        while data := sock.recv(65536):
            received += data
    except ConnectionError:
        pass
    return received


def status_of(received: bytes) -> int:
    """The status of the first answer among raw bytes; 0 where there is none."""
    return int(received[9:12]) if received.startswith(b"HTTP/1.1 ") else 0


@dataclass
class Stream:
    """An answer of `text/event-stream` that is read event by event."""

    sock: socket.socket
    response: http.client.HTTPResponse
    seen: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def open(cls, port: int, packet: bytes, method: str = "GET") -> Self:
        """Send a request and read the head of its answer."""
        sock = connect(port)
        sock.sendall(packet)
        response = http.client.HTTPResponse(sock, method=method)
        response.begin()
        return cls(sock, response)

    @property
    def status(self) -> int:
        return self.response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word."""
        self.response.close()
        self.sock.close()

    def event(self, *, within_s: float = PATIENCE_S) -> dict[str, str] | None:
        """The next event's fields; None once the stream has ended. Raises TimeoutError where neither comes.

        Comments that keep a quiet stream alive are no events: they make nobody wait longer.
        """
        end = time.monotonic() + within_s
        found: dict[str, str] = {}
        while line := self._line(end):
            text = line.decode().rstrip("\n")
            if not text and found:
                self.seen.append(found)
                return found
            if text and not text.startswith(":"):
                name, _, value = text.partition(":")
                found[name] = value.removeprefix(" ")
        return None

    def _line(self, end: float) -> bytes:
        left_s = end - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no event came, and the stream did not end")
        self.sock.settimeout(left_s)
        return self.response.readline()

    def rest(self, *, within_s: float = PATIENCE_S) -> Iterator[dict[str, str]]:
        """All events until the end of the stream."""
        while (event := self.event(within_s=within_s)) is not None:
            yield event

    def raw_rest(self) -> bytes:
        """All bytes until the server closes, chunks and all."""
        data: bytes = self.response.fp.read()
        return data

    def message(self, *, within_s: float = PATIENCE_S) -> Any:
        """The next event that carries a message."""
        while (event := self.event(within_s=within_s)) is not None:
            if event.get("data"):
                return json.loads(event["data"])
        return None


def eventually(condition: Any, *, within_s: float = PATIENCE_S) -> bool:
    """Look until the condition holds or the time is over."""
    end = time.monotonic() + within_s
    while not (held := bool(condition())) and time.monotonic() < end:
        time.sleep(0.01)
    return held
