"""What was sent on the streams of legacy sessions: kept for a client that was cut off and comes back.

A stream is live while the process that writes it is: this one, or another worker, which tells of each event over
the bus. Whoever resumes a live stream waits for more. One whose process is gone and whose call did not end is closed
with an error, so that its client does not wait for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from tenantry import jsonrpc, sse
from tenantry.jsonrpc import Code, Id
from tenantry.server.bus import WORKERS, Bus
from tenantry.server.store import Store
from tenantry.server.store.streams import StoredStream

# The oldest events of a session give way: a client that is behind by more has lost its place.
EVENTS_PER_SESSION = 500
STANDALONE = "standalone"


@dataclass(slots=True, kw_only=True)
class StreamRecord:
    """One stream that is being written."""

    session: bytes
    name: str
    last: int = 0
    """The number of its last event; 0 is the priming one."""

    @property
    def last_id(self) -> str:
        """The id of its last event."""
        return sse.event_id(self.name, self.last)


class EventStore:
    """The events of all sessions; the store keeps them, memory knows what this process writes and who waits."""

    def __init__(self, store: Store, *, bus: Bus, fresh: Callable[[], str]) -> None:
        self._store = store
        self._bus = bus
        self._fresh = fresh
        self._live: dict[tuple[bytes, str], StreamRecord] = {}
        self._waiting: dict[tuple[bytes, str], trio.Event] = {}
        self._tell = bus.telling("stream_grew", lambda body: self._wake(bytes.fromhex(body["session"]), body["name"]))
        bus.subscribe(WORKERS, lambda _: self._wake_all())

    async def open(self, session: bytes, request_id: Id | None) -> StreamRecord:
        """Begin the record of a request's stream, or with None go on with the session's standalone one."""
        name = STANDALONE if request_id is None else self._fresh()[:16]
        last = await self._store.streams.open(session, name, request_id, writer=self._bus.own)
        record = StreamRecord(session=session, name=name, last=last)
        self._live[session, name] = record
        return record

    async def append(self, record: StreamRecord, message: bytes, *, final: bool = False) -> str:
        """Keep one message durably and give its event id; `final` is the response that ends the stream."""
        record.last = await self._add(record.session, record.name, message, final=final)
        return record.last_id

    async def close(self, record: StreamRecord) -> None:
        """End a stream that gets no response."""
        await self._store.streams.finish(record.session, record.name)
        self._live.pop((record.session, record.name), None)
        self._grew(record.session, record.name)

    async def resume(self, session: bytes, last_event_id: str) -> "Resumed | None":
        """Find the stream that a `Last-Event-ID` names; None where the session has no such stream."""
        place = sse.parse_event_id(last_event_id)
        if place is None:
            return None
        name, number = place
        found = await self._store.streams.find(session, name)
        return None if found is None else Resumed(self, session, name, number)

    async def read(self, session: bytes, name: str, after: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Give the events behind `after`, and whether the stream's last one is among or before them.

        The stream of a request whose process is gone ends here.
        """
        found, ended = await self._store.streams.read_events(session, name, after)
        if found or ended or name == STANDALONE:
            return found, ended
        stream = await self._store.streams.find(session, name)
        if stream is None or stream.finished or self._is_written(session, name, stream):
            return found, ended
        error = jsonrpc.error(Code.INTERNAL_ERROR, "the server stopped before the call ended", id_=stream.request_id)
        await self._add(session, name, jsonrpc.encode(error), final=True)
        return await self._store.streams.read_events(session, name, after)

    def growing(self, session: bytes, name: str) -> trio.Event:
        """Give the event that is set when a stream grows, ends, or loses its process."""
        return self._waiting.setdefault((session, name), trio.Event())

    def forget(self, session: bytes) -> None:
        """The session is over; the store drops its events with it."""
        for key in [key for key in self._live if key[0] == session]:
            del self._live[key]
        for key in [key for key in self._waiting if key[0] == session]:
            self._wake(*key)

    def _is_written(self, session: bytes, name: str, stream: StoredStream) -> bool:
        if stream.writer == self._bus.own:
            return (session, name) in self._live
        return self._bus.alive(stream.writer)

    async def _add(self, session: bytes, name: str, message: bytes, *, final: bool) -> int:
        number = await self._store.streams.add_event(session, name, message, final=final, keep=EVENTS_PER_SESSION)
        if final:
            self._live.pop((session, name), None)
        self._grew(session, name)
        return number

    def _grew(self, session: bytes, name: str) -> None:
        self._tell({"session": session.hex(), "name": name})

    def _wake(self, session: bytes, name: str) -> None:
        waiting = self._waiting.pop((session, name), None)
        if waiting is not None:
            waiting.set()

    def _wake_all(self) -> None:
        for key in list(self._waiting):
            self._wake(*key)


@dataclass(slots=True)
class Resumed:
    """The reading end of a stream from one event on."""

    events: EventStore
    session: bytes
    name: str
    after: int

    async def next(self) -> tuple[list[tuple[str, bytes]], bool]:
        """Wait for what follows: events with their ids, and whether the stream has ended with them."""
        while True:
            growing = self.events.growing(self.session, self.name)
            found, ended = await self.events.read(self.session, self.name, self.after)
            if found or ended:
                self.after = found[-1][0] if found else self.after
                return [(sse.event_id(self.name, number), message) for number, message in found], ended
            await growing.wait()
