"""What other processes changed in the store, heard by this one: the command line's revocations, new keys, people.

Whoever decides on something looks first, so that a change counts for every request that comes after its commit. A task
looks as well, for what is under way and asks nothing. While it runs, one look in a round of the event loop is enough:
whatever is decided in a round began to arrive before it, and so before the look.
"""

from collections.abc import Callable, Sequence

import structlog
import trio

from tenantry.server.store.announcements import Announcement, Announcements, Kind
from tenantry.server.store.database import DatabaseError

LOOK_EVERY_S = 0.1

_log = structlog.get_logger()

Tell = Callable[[Sequence[Announcement]], None]


class Feed:
    """Tells subscribers of announcements, each once and in their order; the first look tells of all that is kept."""

    def __init__(self, announcements: Announcements) -> None:
        self._announcements = announcements
        self._version: int | None = None
        self._seen = 0
        self._subscribers: list[tuple[frozenset[Kind], Tell]] = []
        self._round: _Round | None = None

    def subscribe(self, tell: Tell, *kinds: Kind) -> None:
        """Have `tell` called with the announcements of these kinds; it must not wait."""
        self._subscribers.append((frozenset(kinds), tell))

    def look(self) -> None:
        """Hear what was committed until now; what `tell` has heard when this returns is complete."""
        if self._round is None:
            self._hear()
        elif not self._round.looked:
            self._hear()
            self._round.looked = True

    def _hear(self) -> None:
        version = self._announcements.version()
        if version == self._version:
            return
        news = self._announcements.after(self._seen)
        self._version = version
        if news:
            self._seen = news[-1].seq
            for kinds, tell in self._subscribers:
                wanted = [announcement for announcement in news if announcement.kind in kinds]
                if wanted:
                    tell(wanted)

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        self._round = _Round()
        trio.lowlevel.add_instrument(self._round)
        try:
            while True:
                await trio.sleep(LOOK_EVERY_S)
                try:
                    self.look()
                except DatabaseError as error:
                    # Whoever decides fails by it, and lets nobody in; the next look may succeed.
                    _log.error("the store can't be looked into", reason=repr(error))
        finally:
            trio.lowlevel.remove_instrument(self._round)
            self._round = None


class _Round(trio.abc.Instrument):
    """Whether somebody has looked since the sockets were looked at."""

    def __init__(self) -> None:
        self.looked = False

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        self.looked = False
