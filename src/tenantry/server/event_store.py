"""What was sent on the streams of legacy sessions: kept for a client that was cut off and comes back.

A stream that this process still writes is live, and whoever resumes it waits for more. One whose process is gone
and whose call did not end is closed with an error, so that its client does not wait for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from tenantry import jsonrpc, sse
from tenantry.jsonrpc import Code, Id
from tenantry.server.store import Store

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
    finished: bool = False
    more: trio.Event = field(default_factory=trio.Event)
    """Set, and replaced, whenever something was added."""

    @property
    def last_id(self) -> str:
        """The id of its last event."""
        return sse.event_id(self.name, self.last)


class EventStore:
    """The events of all sessions; the store keeps them, memory knows which streams are live."""

    def __init__(self, store: Store, *, fresh: Callable[[], str]) -> None:
        self._store = store
        self._fresh = fresh
        self._live: dict[tuple[bytes, str], StreamRecord] = {}

    async def open(self, session: bytes, request_id: Id | None) -> StreamRecord:
        """Begin the record of a request's stream, or with None go on with the session's standalone one."""
        name = STANDALONE if request_id is None else self._fresh()[:16]
        last = await self._store.streams.open(session, name, request_id)
        return self._live.setdefault((session, name), StreamRecord(session=session, name=name, last=last))

    async def append(self, record: StreamRecord, message: bytes, *, final: bool = False) -> str:
        """Keep one message durably and give its event id; `final` is the response that ends the stream."""
        record.last += 1
        await self._store.streams.add_event(
            record.session, record.name, record.last, message, final=final, keep=EVENTS_PER_SESSION
        )
        if final:
            record.finished = True
            self._live.pop((record.session, record.name), None)
        self._wake(record)
        return record.last_id

    async def close(self, record: StreamRecord) -> None:
        """End a stream that gets no response."""
        record.finished = True
        self._live.pop((record.session, record.name), None)
        await self._store.streams.finish(record.session, record.name)
        self._wake(record)

    async def resume(self, session: bytes, last_event_id: str) -> "Resumed | None":
        """Find the stream that a `Last-Event-ID` names; None where the session has no such stream."""
        place = sse.parse_event_id(last_event_id)
        if place is None:
            return None
        name, number = place
        stream = await self._store.streams.find(session, name)
        if stream is None:
            return None
        live = self._live.get((session, name))
        if name != STANDALONE and live is None and not stream.finished:
            await self._end_orphan(session, name, stream.request_id)
        return Resumed(self, session, name, number)

    async def read(self, session: bytes, name: str, after: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Give the events behind `after`, and whether the stream's last one is among or before them."""
        return await self._store.streams.read_events(session, name, after)

    def live(self, session: bytes, name: str) -> StreamRecord | None:
        """The record of a stream that this process writes."""
        return self._live.get((session, name))

    def forget(self, session: bytes) -> None:
        """The session is over; the store drops its events with it."""
        for key in [key for key in self._live if key[0] == session]:
            self._wake(self._live.pop(key))

    async def _end_orphan(self, session: bytes, name: str, request_id: Id | None) -> None:
        events, _ = await self.read(session, name, 0)
        error = jsonrpc.error(Code.INTERNAL_ERROR, "the server stopped before the call ended", id_=request_id)
        number = events[-1][0] + 1 if events else 1
        await self._store.streams.add_event(
            session, name, number, jsonrpc.encode(error), final=True, keep=EVENTS_PER_SESSION
        )

    def _wake(self, record: StreamRecord) -> None:
        record.more.set()
        record.more = trio.Event()


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
            record = self.events.live(self.session, self.name)
            more = None if record is None else record.more
            found, ended = await self.events.read(self.session, self.name, self.after)
            if found or ended or more is None:
                self.after = found[-1][0] if found else self.after
                return [(sse.event_id(self.name, number), message) for number, message in found], ended or more is None
            await more.wait()
