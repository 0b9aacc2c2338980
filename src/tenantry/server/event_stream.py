"""An answer of `text/event-stream`: how it is written, kept alive, and ended."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
import trio

from tenantry.server.asgi import Send, body_part
from tenantry.server.cancelled_by import cancelled_by

SendBytes: TypeAlias = Callable[[bytes], Awaitable[None]]
# Shorter than the idle timeouts of common proxies (30 s and 60 s), and how soon a client that left unseen is noticed.
KEEP_ALIVE_S = 15.0
KEEP_ALIVE_COMMENT = b":\n\n"
STREAM_FIELDS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """An answer of `text/event-stream`, written by `run` until it returns or is cancelled.

    `run` gets a function that sends bytes (whole SSE events); it is cancelled when the client leaves, at
    `deadline` (trio's clock, seconds) and when the server closes. Unless the client has left, the stream then ends
    with its last chunk. Quiet for KEEP_ALIVE_S, it carries a comment.
    """

    run: Callable[[SendBytes], Awaitable[None]]
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: float = float("inf")
    outlives_closing: bool = False
    """For the stream that answers one call: a stop lets it finish within the host's grace."""
    speaks_first: bool = False
    """Whether `run` sends something at once: the answer's head then goes with it."""
    farewell: bytes = b""
    """Sent last where the stream did not end because its client left."""


async def run_stream(
    stream: EventStream, send: Send, *, left: Callable[[], Awaitable[None]], closing: "Closing", path: str
) -> None:
    """Write a stream whose head was sent, up to its end; `left` waits for the client to leave."""
    outlet = _Outlet(send, left)
    try:
        async with cancelled_by(outlet.attend) as scope:
            scope.deadline = stream.deadline
            with nullcontext() if stream.outlives_closing else closing.ending(scope):
                await stream.run(outlet.send)
    except Exception:  # noqa: BLE001 - the answer has begun, so the missing last chunk must tell
        _log.error("stream_failed", path=path, exc_info=True)
        return
    if not outlet.deserted:
        await send(body_part(stream.farewell))


class _Outlet:
    """The way out of one stream, and a comment when nobody wrote for long."""

    def __init__(self, send: Send, left: Callable[[], Awaitable[None]]) -> None:
        self._send = send
        self._left = left
        self._last = trio.current_time()
        self.deserted = False
        """Whether the client has left."""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()  # a host shields its writes
        self._last = trio.current_time()
        await self._send(body_part(data, more=True))

    async def attend(self) -> None:
        """Send a comment whenever KEEP_ALIVE_S were quiet; return when the client has left."""
        while True:
            with trio.CancelScope(deadline=self._last + KEEP_ALIVE_S):
                await self._left()
                self.deserted = True
                return
            if trio.current_time() >= self._last + KEEP_ALIVE_S:
                await self.send(KEEP_ALIVE_COMMENT)


class Closing:
    """Ends the open streams of an application when it closes: one task for all of them, while there are any."""

    def __init__(self, closing: trio.Event) -> None:
        self._closing = closing
        self._streams: set[trio.CancelScope] = set()
        self._waiting = trio.CancelScope()

    @contextmanager
    def ending(self, stream: trio.CancelScope) -> Iterator[None]:
        """Cancel `stream` at the closing, unless the block ends before."""
        if self._closing.is_set():
            stream.cancel()
        if not self._streams:
            self._waiting = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._wait, self._waiting)
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._waiting.cancel()

    async def _wait(self, waiting: trio.CancelScope) -> None:
        with waiting:
            await self._closing.wait()
            for stream in self._streams:
                stream.cancel()
