"""The live MCP sessions: found by id, bound to their principal, capped, ended when idle, kept over a restart.

Memory holds what was used lately; the store holds all, for all workers, which tell each other of changes. When a
request was last seen is written back in batches: losing half a minute of that in a crash harms nobody.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog
import trio

from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.jsonrpc import Object
from tenantry.machine import step
from tenantry.mcp.session import TRANSITIONS, Event, Session, State
from tenantry.server.bus import Bus
from tenantry.server.feed import Feed
from tenantry.server.revocations import ENDINGS, Ended
from tenantry.server.store import Store
from tenantry.server.store.announcements import Announcement
from tenantry.server.store.database import StoreUnavailable

WRITE_BACK_EVERY_S = 30.0
# Some half a KiB each; what is not in memory is found in the store.
IN_MEMORY_MAX = 10_000
# One person's forgotten sessions must not push out those of colleagues.
PER_PERSON_SHARE = 10

_log = structlog.get_logger()


class UnknownSession(Exception):
    """There is no such session for this principal; `foreign` where it exists but is somebody else's."""

    def __init__(self, *, foreign: bool) -> None:
        super().__init__("unknown session")
        self.foreign = foreign


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(
        self,
        *,
        store: Store,
        feed: Feed,
        bus: Bus,
        config: Config,
        clock: Callable[[], float],
        fresh: Callable[[], str],
    ) -> None:
        self._store = store
        self._bus = bus
        self._idle_s = config.lifetimes.mcp_session_idle_s
        self._per_tenant = config.limits.sessions_per_tenant
        self._clock = clock
        self._fresh = fresh
        # The one that was used last comes last.
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._written_back_at = -math.inf
        self.streams: dict[bytes, trio.Event] = {}
        self.on_end: Callable[[bytes], None] = lambda _: None
        """Told the digest of each session that is forgotten."""
        feed.subscribe(self._hear, *ENDINGS)
        self._tell_end = bus.telling("session_ended", lambda body: self._forget(bytes.fromhex(body["session"])))
        bus.subscribe("session_saved", self._take)
        bus.subscribe("stream_attached", lambda body: self._end_stream(bytes.fromhex(body["session"])))

    def _hear(self, news: Sequence[Announcement]) -> None:
        # What ended the grants has taken their sessions out of the store already.
        ended = Ended.of(news)
        for session in list(self._sessions.values()):
            if ended.covers(session.binding, session.family):
                self._forget(session.digest)

    def __len__(self) -> int:
        return len(self._sessions)

    async def open(self, principal: Principal, revision: str, capabilities: Object) -> str:
        """Open a session and give its id, which only the client keeps.

        Where the tenant or the person has too many, those unheard of for longest end.
        """
        session_id = self._fresh()
        session = Session(
            digest=digest_of(session_id),
            binding=principal.binding,
            revision=revision,
            state=State.INITIALIZING,
            last_seen=int(self._clock()),
            family=principal.family_id,
            capabilities=capabilities,
        )
        evicted = await self._store.mcp_sessions.add(
            session, per_tenant=self._per_tenant, per_person=max(1, self._per_tenant // PER_PERSON_SHARE)
        )
        for digest in evicted:
            self._tell_end({"session": digest.hex()})
        self._remember(session)
        return session_id

    def at_hand(self, digest: bytes, principal: Principal) -> Session | None:
        """Do as `find` where that takes no waiting, as for nearly every request; None says nothing."""
        session = self._sessions.get(digest)
        if session is None or session.family != principal.family_id or not session.belongs_to(principal):
            return None
        now = self._clock()
        if session.idle(now, limit_s=self._idle_s):
            return None
        session.last_seen = int(now)
        self._sessions.move_to_end(digest)
        return session

    async def find(self, digest: bytes, principal: Principal) -> Session:
        """Give the session whose id has that digest, and note that it was used.

        Raises `UnknownSession`: never opened, ended, expired, or another principal's.
        """
        session = self._sessions.get(digest) or await self._store.mcp_sessions.find(digest)
        now = self._clock()
        if session is None or session.idle(now, limit_s=self._idle_s):
            raise UnknownSession(foreign=False)
        if not session.belongs_to(principal):
            raise UnknownSession(foreign=True)
        session.last_seen = int(now)
        self._remember(session)
        if session.family != principal.family_id:
            session.family = principal.family_id
            await self.changed(session)
        return session

    async def initialized(self, session: Session) -> None:
        """The client has finished its side of the handshake."""
        session.state = step(TRANSITIONS, session.state, Event.INITIALIZED)
        await self.changed(session)

    async def changed(self, session: Session) -> None:
        """Something of the session has changed; when this returns, a restart keeps it."""
        await self._store.mcp_sessions.save(session)
        self._bus.publish(
            "session_saved",
            {
                "session": session.digest.hex(),
                "state": session.state.value,
                "family": session.family,
                "log_level": session.log_level,
                "subscriptions": sorted(session.subscriptions),
            },
        )

    def _take(self, body: Object) -> None:
        session = self._sessions.get(bytes.fromhex(body["session"]))
        if session is not None:
            session.state = State(body["state"])
            session.family = body["family"]
            session.log_level = body["log_level"]
            session.subscriptions = set(body["subscriptions"])

    async def end(self, session: Session) -> None:
        """The client ends its session, and with it its stream."""
        await self._store.mcp_sessions.end(session.digest)
        if session.state is not State.ENDED:  # by another request, meanwhile
            session.state = step(TRANSITIONS, session.state, Event.DELETE)
        self._tell_end({"session": session.digest.hex()})

    def attach_stream(self, session: Session) -> trio.Event:
        """Give the event that ends the session's standalone stream.

        A stream that is attached already ends: its client has most likely lost it without a word.
        """
        self._end_stream(session.digest)
        self._bus.publish("stream_attached", {"session": session.digest.hex()})
        ending = self.streams[session.digest] = trio.Event()
        return ending

    def detach_stream(self, session: Session, ending: trio.Event) -> None:
        """The stream that was given `ending` is over."""
        if self.streams.get(session.digest) is ending:
            del self.streams[session.digest]

    async def run(self) -> None:
        """Write back and expire from time to time, until cancelled."""
        while True:
            await trio.sleep(WRITE_BACK_EVERY_S)
            await self.write_back()

    async def write_back(self) -> None:
        """Bring the store up to date and drop what has been idle for too long.

        Where the store can't be written to, the next time does it: nobody waits for this, and nothing ends by it.
        """
        now = int(self._clock())
        try:
            await self._write_back([session for session in self._sessions.values() if self._is_ahead(session)])
        except StoreUnavailable as error:
            _log.error("sessions can't be written back", reason=str(error))
        else:
            self._written_back_at = now

    def _is_ahead(self, session: Session) -> bool:
        """Whether memory may know of a later use than the store."""
        return session.last_seen >= self._written_back_at

    async def _write_back(self, touched: Sequence[Session]) -> None:
        if touched:
            await self._store.mcp_sessions.touch(touched)
        for digest in await self._store.mcp_sessions.expire(int(self._clock()) - self._idle_s):
            self._tell_end({"session": digest.hex()})

    def _remember(self, session: Session) -> None:
        self._sessions[session.digest] = session
        self._sessions.move_to_end(session.digest)
        while len(self._sessions) > IN_MEMORY_MAX and not self._is_ahead(next(iter(self._sessions.values()))):
            self._sessions.popitem(last=False)

    def _forget(self, digest: bytes) -> None:
        self._sessions.pop(digest, None)
        self._end_stream(digest)
        self.on_end(digest)

    def _end_stream(self, digest: bytes) -> None:
        ending = self.streams.pop(digest, None)
        if ending is not None:
            ending.set()


def digest_of(session_id: str) -> bytes:
    """What a session is kept under: SHA-256 of its id."""
    return hashlib.sha256(session_id.encode()).digest()
