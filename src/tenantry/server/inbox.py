"""What legacy clients post about what is under way: responses to questions, cancellations, the end of a handshake."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tenantry.jsonrpc import Id, Object, Response
from tenantry.mcp.interaction import BadAnswer
from tenantry.server.bus import Bus
from tenantry.server.cut import Cut

HANDSHAKE_TIMEOUT_S = 5.0


class Waiting:
    """One question that waits for its response."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self._come = trio.Event()
        self._response: Response | None = None

    def resolve(self, response: Response) -> None:
        """Take the response; a second one changes nothing."""
        if self._response is None:
            self._response = response
            self._come.set()

    async def result(self) -> Object:
        """Wait for the response and give its result; raises `BadAnswer` where it is an error."""
        await self._come.wait()
        if self._response is None or self._response.result is None:
            raise BadAnswer("the client answered with an error")
        return self._response.result


class Inbox:
    """All questions that wait, by session: an id alone names nothing, because every client counts from 0.

    What a client posts may reach another worker than the one that waits for it; the bus takes it there.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[tuple[bytes, str], Waiting] = {}
        self._numbers = itertools.count(1)
        self._handshakes: dict[bytes, trio.Event] = {}
        self._running: dict[tuple[bytes, Id], Cut] = {}
        self._open = bus.telling("session_open", lambda body: self._open_here(_session(body)))
        bus.subscribe("request_cancelled", lambda body: self._cancel_here(_session(body), body["id"]))
        bus.subscribe("response", lambda body: self._deliver_here(_session(body), _response(body)))

    def begin(self, session: bytes) -> None:
        """A session was opened, whose client has yet to send `notifications/initialized`."""
        self._handshakes[session] = trio.Event()

    def open(self, session: bytes) -> None:
        """The client has finished its handshake, or the session is over."""
        self._open({"session": session.hex()})

    def _open_here(self, session: bytes) -> None:
        handshake = self._handshakes.pop(session, None)
        if handshake is not None:
            handshake.set()

    async def opened(self, session: bytes) -> None:
        """Wait until the client may be asked (MCP, lifecycle: nothing but pings before that).

        Raises `BadAnswer` where it does not come to that.
        """
        handshake = self._handshakes.get(session)
        with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
            if handshake is not None:
                await handshake.wait()
            return
        raise BadAnswer("the client did not finish its handshake")

    def running(self, session: bytes, id_: Id, cut: Cut) -> "_Running":
        """Let the client cancel a request while the block runs."""
        return _Running(self._running, (session, id_), cut)

    def cancel(self, session: bytes, id_: object) -> None:
        """The client no longer wants the answer to a request; an unknown one is let be (MCP, cancellation)."""
        if isinstance(id_, int | str) and not self._cancel_here(session, id_):
            self._bus.publish("request_cancelled", {"session": session.hex(), "id": id_})

    def _cancel_here(self, session: bytes, id_: Id) -> bool:
        cut = self._running.get((session, id_))
        if cut is not None:
            cut.cancel()
        return cut is not None

    @contextmanager
    def expect(self, session: bytes) -> Iterator[Waiting]:
        """Wait for a response inside of the block; the id is one that was never used before."""
        # Another worker counts too, and a response must not be taken for that to another question.
        waiting = Waiting(f"{self._bus.own[:8]}-{next(self._numbers)}")
        self._waiting[session, waiting.id] = waiting
        try:
            yield waiting
        finally:
            del self._waiting[session, waiting.id]

    def deliver(self, session: bytes, response: Response) -> None:
        """Hand a posted response over; one that nobody waits for is dropped."""
        if not self._deliver_here(session, response):
            body = {"id": response.id, "result": response.result, "error": response.error}
            self._bus.publish("response", {"session": session.hex(), **body})

    def _deliver_here(self, session: bytes, response: Response) -> bool:
        waiting = self._waiting.get((session, str(response.id)))
        if waiting is not None:
            waiting.resolve(response)
        return waiting is not None


class _Running:
    """What `running` gives: a class, because every call enters one, and a generator takes three times as long."""

    __slots__ = ("_cut", "_named", "_running")

    def __init__(self, running: dict[tuple[bytes, Id], Cut], named: tuple[bytes, Id], cut: Cut) -> None:
        self._running = running
        self._named = named
        self._cut = cut

    def __enter__(self) -> None:
        self._running[self._named] = self._cut

    def __exit__(self, *_: object) -> None:
        if self._running.get(self._named) is self._cut:
            del self._running[self._named]


def _session(body: Object) -> bytes:
    return bytes.fromhex(body["session"])


def _response(body: Object) -> Response:
    return Response(id=body["id"], result=body["result"], error=body["error"])
