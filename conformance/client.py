"""An HTTP/1.1 + SSE + JSON-RPC client of its own, so that it may send nonsense and sees every byte of the answer.

`Modern` and `Legacy` speak the two eras. Each request takes a connection of its own. Whatever the server sends is
checked against the schema of its revision and noted in the `Recorder`, which fails the test.
"""

import base64
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import h11

from conformance.schemas import violations

TIMEOUT_S = 10.0
"""Longer than a server in good order takes for anything that is asked of it here."""
CHUNK = 65536
JSON = "application/json"
EVENTS = "text/event-stream"
META = "io.modelcontextprotocol/"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
CLIENT_INFO = {"name": "conformance", "version": "1"}

Headers = Mapping[str, str | list[str] | None]
"""Header fields over the usual ones: None leaves a field out, a list sends it more than once."""


class Silence(AssertionError):
    """Nothing came in the time allowed."""


class NotApplicable(Exception):
    """The server under test does not offer what the test needs."""


@dataclass
class Recorder:
    """What the server sent in one test, and what of it broke its schema."""

    messages: list[Any] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def note(self, revision: str, message: Any, method: str | None) -> None:
        """Check one message and keep it."""
        self.messages.append(message)
        self.violations += violations(revision, message, method)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an SSE stream, or a block of comments alone; None = the field was not there."""

    data: str | None = None
    id: str | None = None
    event: str | None = None
    retry: str | None = None
    comments: tuple[str, ...] = ()

    @property
    def message(self) -> Any:
        """The JSON in the data."""
        return json.loads(self.data or "null")


def parse_event(block: str) -> Event:
    """Read the lines of one event."""
    fields: dict[str, str] = {}
    data, comments = [], []
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line.startswith(":"):
            comments.append(value)
        elif name == "data":
            data.append(value)
        elif line:
            fields[name] = value
    return Event(
        data="\n".join(data) if data else None,
        id=fields.get("id"),
        event=fields.get("event"),
        retry=fields.get("retry"),
        comments=tuple(comments),
    )


class Wire:
    """One connection with one request on it; the answer is read as far as somebody asks for it."""

    def __init__(self, url: str, method: str, data: bytes, *, timeout: float = TIMEOUT_S) -> None:
        """Connect to the host of `url` and send `data` as it is; `method` only tells how to read the answer."""
        parts = urlsplit(url)
        default = 443 if parts.scheme == "https" else 80
        self._sock: socket.socket = socket.create_connection((parts.hostname or "", parts.port or default), timeout)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._sock = context.wrap_socket(self._sock, server_hostname=parts.hostname)
        self.timeout = timeout
        self._http = h11.Connection(h11.CLIENT)
        # The parser wants to know what was asked; what really goes out is `data`.
        self._http.send(h11.Request(method=method if method.isalpha() else "POST", target="/", headers=[("host", "x")]))
        self._http.send(h11.EndOfMessage())
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.complete = False
        """Whether the answer was read to its proper end."""
        try:
            self._sock.sendall(data)
        except OSError:  # the server may refuse before it has read everything
            self.send_failed = True
        else:
            self.send_failed = False

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Drop the connection, as a client that went away."""
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Send more bytes of the request."""
        self._sock.sendall(data)

    def _next(self, deadline: float) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Silence("the server sent nothing more in the time allowed")
            self._sock.settimeout(left)
            try:
                received = self._sock.recv(CHUNK)
            except TimeoutError:
                raise Silence("the server sent nothing more in the time allowed") from None
            except ConnectionError:
                received = b""
            self._http.receive_data(received)
        return event

    def head(self, timeout: float | None = None) -> Self:
        """Read status and header fields."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.status:
            event = self._next(deadline)
            assert not isinstance(event, h11.ConnectionClosed), "the server closed the connection without an answer"
            if isinstance(event, h11.Response):
                self.status = event.status_code
                self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers]
        return self

    def some(self, timeout: float | None = None) -> bytes:
        """Give the next bytes of the body, b"" at its end; raises Silence and h11.RemoteProtocolError."""
        if self.complete:
            return b""
        event = self._next(time.monotonic() + (self.timeout if timeout is None else timeout))
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self.complete = True
        return b""

    def rest(self) -> bytes:
        """Read the body to its end."""
        return b"".join(iter(self.some, b""))


@dataclass
class Head:
    """Status and header fields of an answer."""

    status: int
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """Every value of a header field."""
        return [value for key, value in self.headers if key == name.lower()]

    def header(self, name: str) -> str | None:
        """The value of a header field; several are joined with a comma."""
        return ", ".join(self.all(name)) or None if self.all(name) else None

    @property
    def content_type(self) -> str:
        """The media type without its parameters."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()


@dataclass
class Answer(Head):
    """A whole answer: the messages come from JSON or from the events of a stream."""

    body: bytes = b""
    messages: list[Any] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    id: Any = None
    """The id of the request that was sent."""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def response(self) -> dict[str, Any]:
        """The one response among the messages."""
        found = [message for message in self.messages if isinstance(message, dict) and "method" not in message]
        assert len(found) == 1, f"not one response but {found} in {self}"
        answered: dict[str, Any] = found[0]
        return answered

    @property
    def result(self) -> Any:
        """The result; fails where the answer is an error."""
        assert "result" in self.response, f"no result: {self}"
        return self.response["result"]

    @property
    def error(self) -> dict[str, Any]:
        """The error; fails where the answer is a result."""
        assert "error" in self.response, f"no error: {self}"
        error: dict[str, Any] = self.response["error"]
        return error

    @property
    def code(self) -> int | None:
        """The code of the error; None where the answer is a result or holds no message."""
        return self.error["code"] if self.messages and "error" in self.response else None

    @property
    def notifications(self) -> list[dict[str, Any]]:
        """The notifications that came before the response."""
        return [m for m in self.messages if isinstance(m, dict) and "method" in m and "id" not in m]


class Stream(Head):
    """An SSE answer that is read event by event."""

    def __init__(self, wire: Wire, note: "Endpoint", method: str | None = None) -> None:
        """Wrap an answer whose head was read."""
        super().__init__(wire.status, wire.headers)
        self.wire = wire
        self._endpoint, self._method = note, method
        self._text = ""
        self._raw = b""
        self.last_id: str | None = None
        """What the client would send as Last-Event-ID."""

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the connection."""
        self.close()

    def close(self) -> None:
        """Drop the connection, as a client that went away."""
        self.wire.close()

    def next(self, timeout: float | None = None) -> Event | None:
        """Give the next event or comment, None at the end of the stream; raises Silence."""
        deadline = time.monotonic() + (self.wire.timeout if timeout is None else timeout)
        while "\n\n" not in self._text:
            received = self.wire.some(max(deadline - time.monotonic(), 0.001))
            if not received:
                return None
            self._raw += received
            text = self._raw.decode("utf-8", "strict") if self._is_whole() else ""
            if text:
                self._raw = b""
                self._text = (self._text + text).replace("\r\n", "\n").replace("\r", "\n")
        block, self._text = self._text.split("\n\n", 1)
        event = parse_event(block)
        if event.id is not None:
            self.last_id = event.id
        if event.data:
            self._endpoint.received(event.data.encode(), self._method)
        return event

    def _is_whole(self) -> bool:
        """Whether the bytes end at a character and not amid CR LF."""
        if self._raw.endswith(b"\r"):
            return False
        try:
            self._raw.decode()
        except UnicodeDecodeError as error:
            return error.reason != "unexpected end of data"
        return True

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Give every event until the stream ends."""
        while (event := self.next(timeout)) is not None:
            yield event

    def messages(self, timeout: float | None = None) -> Iterator[Any]:
        """Give every JSON-RPC message until the stream ends."""
        yield from (event.message for event in self.events(timeout) if event.data)

    def message(self, timeout: float | None = None) -> Any:
        """Give the next JSON-RPC message; fails where the stream ends before it."""
        found = next(self.messages(timeout), None)
        assert found is not None, "the stream ended"
        return found

    def quiet(self, seconds: float = 0.3) -> bool:
        """Whether no message comes for a while; keep-alive comments and events without data are none."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                event = self.next(left)
                if event is None:
                    return True
                if event.data:
                    return False
        except Silence:
            pass
        return True


def key_of(value: Any) -> str:
    """Give a key for an id, in which 1 and "1" and true differ."""
    return json.dumps(value)


class Endpoint:
    """One client of one MCP endpoint. The base of the two eras; alone it sends what it is told and no more."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        revision: str = "2025-11-25",
        *,
        recorder: Recorder | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Name the endpoint; nothing is sent yet."""
        self.url, self.token, self.revision, self.timeout = url, token, revision, timeout
        self.recorder = Recorder() if recorder is None else recorder
        self._asked: dict[str, str] = {}
        self._last_id = 0

    # What goes out

    def usual_headers(self, _message: Any) -> dict[str, str]:
        """The header fields that a client in good order sends with a message."""
        return {}

    def next_id(self) -> int:
        """A request id that was not used yet."""
        self._last_id += 1
        return self._last_id

    def raw(self, data: bytes, method: str = "POST", *, timeout: float | None = None) -> Wire:
        """Send bytes as they are and give the connection."""
        return Wire(self.url, method, data, timeout=self.timeout if timeout is None else timeout)

    def wire(
        self,
        method: str,
        body: bytes = b"",
        headers: Headers | None = None,
        *,
        usual: Mapping[str, str] | None = None,
        target: str | None = None,
        timeout: float | None = None,
    ) -> Wire:
        """Send one HTTP request and give the connection, its head read."""
        parts = urlsplit(self.url)
        lines: dict[str, str | list[str] | None] = {"host": parts.netloc}
        if self.token is not None:
            lines["authorization"] = f"Bearer {self.token}"
        lines |= dict(usual or {})
        if body or method == "POST":
            lines["content-length"] = str(len(body))
        lines |= {name.lower(): value for name, value in (headers or {}).items()}
        target = target or (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        text = f"{method} {target} HTTP/1.1\r\n"
        for name, value in lines.items():
            values = [] if value is None else value if isinstance(value, list) else [value]
            text += "".join(f"{name}: {each}\r\n" for each in values)
        wire = self.raw(text.encode("utf-8") + b"\r\n" + body, method, timeout=timeout)
        try:
            return wire.head()
        except BaseException:
            wire.close()
            raise

    def http(self, method: str, body: bytes = b"", headers: Headers | None = None, **more: Any) -> Answer:
        """Send one HTTP request and read the whole answer, whatever it is: messages in it are not looked for."""
        with self.wire(method, body, headers, **more) as wire:
            return Answer(wire.status, wire.headers, wire.rest())

    def post(self, message: Any, headers: Headers | None = None, *, timeout: float | None = None) -> Answer:
        """POST a message (bytes go as they are, anything else as JSON) and read the whole answer."""
        wire, method, sent_id = self._posted(message, headers, timeout)
        with wire:
            return self._whole(wire, method, sent_id)

    def stream(self, message: Any, headers: Headers | None = None, *, timeout: float | None = None) -> Stream:
        """POST a message and give the answer as a stream; fails where the answer is none."""
        wire, method, _ = self._posted(message, headers, timeout)
        return self._streamed(wire, method)

    def _streamed(self, wire: Wire, method: str | None) -> Stream:
        stream = Stream(wire, self, method)
        if stream.content_type != EVENTS:
            with wire:
                raise AssertionError(f"no event stream: {wire.status} {wire.headers} {wire.rest()!r}")
        return stream

    def _posted(self, message: Any, headers: Headers | None, timeout: float | None) -> tuple[Wire, str | None, Any]:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        method, sent_id = None, None
        if isinstance(message, dict):
            method, sent_id = message.get("method"), message.get("id")
        for each in message if isinstance(message, list) else [message]:
            if isinstance(each, dict) and "id" in each and isinstance(each.get("method"), str):
                self._asked[key_of(each["id"])] = each["method"]
        usual = self.usual_headers(message)
        method = method if isinstance(method, str) else None
        return self.wire("POST", body, headers, usual=usual, timeout=timeout), method, sent_id

    # What comes in

    def _whole(self, wire: Wire, method: str | None, sent_id: Any) -> Answer:
        answer = Answer(wire.status, wire.headers, id=sent_id)
        if answer.content_type == EVENTS:
            stream = Stream(wire, self, method)
            answer.events = list(stream.events())
            answer.messages = [event.message for event in answer.events if event.data]
            return answer
        answer.body = wire.rest()
        # A refusal before the protocol (401, 403, 405 ...) may carry any JSON; a message is known by its member.
        if answer.content_type == JSON and (b'"jsonrpc"' in answer.body or answer.status == 200):
            message = self.received(answer.body, method)
            answer.messages = message if isinstance(message, list) else [message]
        return answer

    def received(self, data: bytes, method: str | None) -> Any:
        """Check one message from the server; `method` counts where its id says nothing."""
        try:
            message = json.loads(data.decode("utf-8"))
        except ValueError as error:
            self.recorder.violations.append(f"no JSON ({error}): {data[:200]!r}")
            return None
        for each in message if isinstance(message, list) else [message]:
            asked = self._asked.get(key_of(each.get("id"))) if isinstance(each, dict) else None
            self.recorder.note(self.revision, each, asked or method)
        if isinstance(message, list) and self.revision != "2025-03-26":
            self.recorder.note(self.revision, message, None)
        return message


class Modern(Endpoint):
    """A client of the era without sessions: each request carries its metadata."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        revision: str = "2026-07-28",
        *,
        capabilities: Mapping[str, Any] | None = None,
        recorder: Recorder | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Name the endpoint and what this client says it can do."""
        super().__init__(url, token, revision, recorder=recorder, timeout=timeout)
        self.capabilities = dict(capabilities or {})

    def usual_headers(self, message: Any) -> dict[str, str]:
        """The fields of a POST in this era; they repeat what the body says."""
        headers = {"content-type": JSON, "accept": f"{JSON}, {EVENTS}", "mcp-protocol-version": self.revision}
        if isinstance(message, dict) and isinstance(message.get("method"), str):
            headers["mcp-method"] = message["method"]
            params = message.get("params")
            name = params.get(NAMED.get(message["method"], "")) if isinstance(params, dict) else None
            if isinstance(name, str):
                headers["mcp-name"] = header_value(name)
        return headers

    def meta(self, **more: Any) -> dict[str, Any]:
        """The metadata of a request; keywords are put over it, and None leaves a member out."""
        meta = {
            f"{META}protocolVersion": self.revision,
            f"{META}clientInfo": CLIENT_INFO,
            f"{META}clientCapabilities": self.capabilities,
        }
        over = {key if "/" in key or key == "progressToken" else META + key: value for key, value in more.items()}
        return {key: value for key, value in (meta | over).items() if value is not None}

    def message(
        self, method: str, params: Mapping[str, Any] | None = None, *, id: Any = ..., meta: Any = ...
    ) -> dict[str, Any]:
        """Make a request; `meta` in place of the usual metadata, None for none."""
        full = dict(params or {})
        metadata = self.meta() | full.get("_meta", {}) if meta is ... else meta
        if metadata is not None:
            full["_meta"] = metadata
        return {"jsonrpc": "2.0", "id": self.next_id() if id is ... else id, "method": method, "params": full}

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Headers | None = None,
        id: Any = ...,
        meta: Any = ...,
        timeout: float | None = None,
    ) -> Answer:
        """Send a request and read the whole answer."""
        return self.post(self.message(method, params, id=id, meta=meta), headers, timeout=timeout)

    def open(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Headers | None = None,
        id: Any = ...,
        meta: Any = ...,
    ) -> Stream:
        """Send a request and read its answer event by event; fails where it is no stream."""
        return self.stream(self.message(method, params, id=id, meta=meta), headers)

    def notify(self, method: str, params: Mapping[str, Any] | None = None, *, headers: Headers | None = None) -> Answer:
        """Send a notification."""
        message = self.message(method, params, id=None)
        del message["id"]
        return self.post(message, headers)

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """Call a tool."""
        return self.request("tools/call", {"name": tool, "arguments": dict(arguments or {})}, **more)


class Legacy(Endpoint):
    """A client of the era that begins with `initialize`, in a session where the server gives one."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        revision: str = "2025-11-25",
        *,
        capabilities: Mapping[str, Any] | None = None,
        recorder: Recorder | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Name the endpoint; `initialize` does the handshake."""
        super().__init__(url, token, revision, recorder=recorder, timeout=timeout)
        self.capabilities = dict(capabilities or {})
        self.session: str | None = None
        self.negotiated: str | None = None
        self.initialized: dict[str, Any] = {}
        """The result of the handshake."""

    def usual_headers(self, message: Any) -> dict[str, str]:
        """The fields of a POST in this era."""
        return {"content-type": JSON, "accept": f"{JSON}, {EVENTS}", **self.session_headers()}

    def session_headers(self) -> dict[str, str]:
        """The fields that every request after the handshake has."""
        headers = {} if self.session is None else {"mcp-session-id": self.session}
        if self.negotiated is not None and self.negotiated >= "2025-06-18":
            headers["mcp-protocol-version"] = self.negotiated
        return headers

    def handshake(self, revision: str | None = None, **more: Any) -> dict[str, Any]:
        """Make the params of `initialize`."""
        params = {"protocolVersion": revision or self.revision, "capabilities": self.capabilities}
        return {**params, "clientInfo": CLIENT_INFO, **more}

    def initialize(self, revision: str | None = None, *, confirm: bool = True) -> Answer:
        """Do the handshake and keep session and revision; `confirm` sends `notifications/initialized` too."""
        answer = self.request("initialize", self.handshake(revision))
        if answer.status == 200 and answer.messages and "result" in answer.response:
            self.initialized = answer.result
            self.session = answer.header("mcp-session-id")
            self.negotiated = self.initialized.get("protocolVersion")
            if confirm:
                self.notify("notifications/initialized")
        return answer

    def message(
        self, method: str, params: Mapping[str, Any] | None = None, *, id: Any = ..., meta: Any = None
    ) -> dict[str, Any]:
        """Make a request; `params` None leaves the member out."""
        message = {"jsonrpc": "2.0", "id": self.next_id() if id is ... else id, "method": method}
        if meta is not None:
            params = {**(params or {}), "_meta": meta}
        return message if params is None else {**message, "params": dict(params)}

    def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Headers | None = None,
        id: Any = ...,
        meta: Any = None,
        timeout: float | None = None,
    ) -> Answer:
        """Send a request and read the whole answer."""
        return self.post(self.message(method, params, id=id, meta=meta), headers, timeout=timeout)

    def open(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        headers: Headers | None = None,
        id: Any = ...,
        meta: Any = None,
    ) -> Stream:
        """Send a request and read its answer event by event; fails where it is no stream."""
        return self.stream(self.message(method, params, id=id, meta=meta), headers)

    def notify(self, method: str, params: Mapping[str, Any] | None = None, *, headers: Headers | None = None) -> Answer:
        """Send a notification."""
        message = self.message(method, params, id=None)
        del message["id"]
        return self.post(message, headers)

    def respond(self, request: Mapping[str, Any], result: Any) -> Answer:
        """Answer a request of the server."""
        return self.post({"jsonrpc": "2.0", "id": request["id"], "result": result})

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """Call a tool."""
        return self.request("tools/call", {"name": tool, "arguments": dict(arguments or {})}, **more)

    def get(self, headers: Headers | None = None, *, last_event_id: str | None = None) -> Answer:
        """GET the endpoint where no stream is expected, and read the whole answer."""
        with self._got(headers, last_event_id) as wire:
            return self._whole(wire, None, None)

    def listen(self, headers: Headers | None = None, *, last_event_id: str | None = None) -> Stream:
        """Open the standalone stream, or resume one; fails where the answer is no stream."""
        return self._streamed(self._got(headers, last_event_id), None)

    def _got(self, headers: Headers | None, last_event_id: str | None) -> Wire:
        usual = {"accept": EVENTS, **self.session_headers()}
        if last_event_id is not None:
            usual["last-event-id"] = last_event_id
        return self.wire("GET", b"", headers, usual=usual)

    def delete(self, headers: Headers | None = None) -> Answer:
        """End the session."""
        with self.wire("DELETE", b"", headers, usual=self.session_headers()) as wire:
            return self._whole(wire, None, None)


def header_value(text: str) -> str:
    """Give `text` as the value of an Mcp-* field: what a field can't carry goes in the base64 form."""
    plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?base64?")
    return text if plain else f"=?base64?{base64.b64encode(text.encode()).decode()}?="
