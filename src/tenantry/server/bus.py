"""What the worker processes of one server tell each other while they run.

Nothing of it is durable: what must survive stands in the store, and a message only hands over what somebody waits
for at this moment. Each worker has one socket to its supervisor, which passes messages on to all others.
"""

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress

import structlog
import trio

from tenantry import jsonrpc
from tenantry.jsonrpc import Object

Handler = Callable[[Object], object]
# What waits to be sent; a supervisor that reads nothing for so long is about to be restarted with everything.
QUEUE_MAX = 10_000
RECEIVE_BYTES = 64 * 1024
WORKERS = "workers"
"""Sent by the supervisor: the lives that run now, as `{"alive": [...]}`."""

_log = structlog.get_logger()


class Link:
    """One end of the socket between a worker and its supervisor."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._entrance, self._exit = trio.open_memory_channel[bytes](QUEUE_MAX)

    def send(self, kind: str, body: Object) -> None:
        """Queue a message; never waits. One for somebody who is gone, or who reads nothing for long, is dropped."""
        try:
            self._entrance.send_nowait(jsonrpc.encode({"kind": kind, "body": body}) + b"\n")
        except trio.WouldBlock:
            _log.error("a message between workers was dropped", kind=kind)
        except trio.BrokenResourceError:
            return

    async def run(self, deliver: Callable[[str, Object], None]) -> None:
        """Send what is queued and hand what comes to `deliver`, which must not wait, until the other side is gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            async for line in lines(self._stream):
                message = json.loads(line)
                deliver(message["kind"], message["body"])
            nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        with self._exit, suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for line in self._exit:
                await self._stream.send_all(line)


class Bus:
    """Messages to and from the other workers; `own` names this life of this process and is never used again.

    Without a link there are no others: messages go nowhere.
    """

    def __init__(self, own: str, link: Link | None = None, *, alive: Iterable[str] = ()) -> None:
        self.own = own
        self._link = link
        self._alive = frozenset({own, *alive})
        self._handlers: defaultdict[str, list[Handler]] = defaultdict(list)
        self.subscribe(WORKERS, self._counted)

    def alive(self, life: str) -> bool:
        """Whether that process runs: this one, or another worker."""
        return life in self._alive

    def subscribe(self, kind: str, handler: Handler) -> None:
        """Hand the body of each message of that kind to `handler`, which must not wait."""
        self._handlers[kind].append(handler)

    def publish(self, kind: str, body: Object) -> None:
        """Tell all other workers; never waits."""
        if self._link is not None:
            self._link.send(kind, body)

    def telling(self, kind: str, handler: Handler) -> Callable[[Object], None]:
        """Give a function that hands a body to `handler` in every worker, this one first."""
        self.subscribe(kind, handler)

        def tell(body: Object) -> None:
            handler(body)
            self.publish(kind, body)

        return tell

    async def run(self) -> None:
        """Send and receive until the supervisor is gone; for ever where there is none."""
        if self._link is None:
            await trio.sleep_forever()
        else:
            await self._link.run(self._deliver)

    def _deliver(self, kind: str, body: Object) -> None:
        for handler in self._handlers[kind]:
            handler(body)

    def _counted(self, body: Object) -> None:
        self._alive = frozenset({self.own, *body["alive"]})


async def lines(stream: trio.abc.ReceiveStream) -> AsyncGenerator[bytes]:
    """The lines of a stream until its end, without their ends."""
    buffer = bytearray()
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await stream.receive_some(RECEIVE_BYTES):
            buffer += data
            *whole, rest = buffer.split(b"\n")
            for line in whole:
                yield bytes(line)
            buffer = rest
