"""A small HTTP/2 client over the h2 library, which may also send what no client should."""

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h2.events as ev
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection

PATIENCE_S = 5.0


@dataclass
class Answer:
    """What came on one stream."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    """The error code of the server's reset."""

    @property
    def status(self) -> int:
        return int(self.headers[b":status"])


class Http2Client:
    """One connection; `closed` once the server has ended it, `goodbye` is the code it gave."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        settings = H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.connection = H2Connection(config=settings)
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self.closed = False
        self._sending = trio.Lock()
        self.goodbye: int | None = None

    async def request(
        self, path: str | bytes, *headers: tuple[bytes, bytes], method: bytes = b"GET", ended: bool = True
    ) -> int:
        """Send a request's header, which ends the request unless a body is to come; gives the stream's id."""
        id_ = self.connection.get_next_available_stream_id()
        raw = path if isinstance(path, bytes) else path.encode()
        pseudo = [(b":method", method), (b":authority", b"h")]
        if method != b"CONNECT":
            pseudo += [(b":scheme", b"https"), (b":path", raw)]
        self.connection.send_headers(id_, [*pseudo, *headers], end_stream=ended)
        await self.flush()
        return id_

    async def post(self, path: str, body: bytes, *headers: tuple[bytes, bytes]) -> int:
        """Send a request with a body; gives the stream's id."""
        id_ = await self.request(path, *headers, method=b"POST", ended=False)
        self.connection.send_data(id_, body, end_stream=True)
        await self.flush()
        return id_

    async def flush(self) -> None:
        """Send what the connection has to say."""
        if data := self.connection.data_to_send():
            await self.send(data)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; a server that has closed is noticed when it is read from."""
        try:
            async with self._sending:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.closed = True

    async def receive(self) -> None:
        """Take what comes next."""
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self.connection.receive_data(bytes(data)):
            self._take(event)
        await self.flush()

    def _take(self, event: ev.Event) -> None:
        if isinstance(event, ev.ResponseReceived):
            self.answers[event.stream_id].headers = dict(event.headers or [])
        elif isinstance(event, ev.DataReceived):
            self.answers[event.stream_id].body += event.data or b""
            self.connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, ev.StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, ev.StreamReset):
            self.answers[event.stream_id].reset = int(event.error_code or 0)
        elif isinstance(event, ev.ConnectionTerminated):
            self.goodbye = int(event.error_code or 0)

    async def answer(self, id_: int) -> Answer:
        """Wait for the end of one answer."""
        with trio.fail_after(PATIENCE_S):
            while not self.answers[id_].ended and self.answers[id_].reset is None:
                assert not self.closed, self.goodbye
                await self.receive()
        return self.answers[id_]

    async def end(self) -> int | None:
        """Wait until the server closes; gives the code of its goodbye, None where it said none."""
        with trio.fail_after(PATIENCE_S):
            while not self.closed:
                await self.receive()
        return self.goodbye


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext) -> AsyncIterator[Http2Client]:
    """Connect by HTTP/2; the context must offer h2."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
        tls = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        await tls.do_handshake()
        assert tls.selected_alpn_protocol() == "h2"
        client = Http2Client(tls)
        client.connection.initiate_connection()
        await client.flush()
        yield client
