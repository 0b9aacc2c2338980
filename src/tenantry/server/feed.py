"""What other processes changed in the store, heard by this one: the command line's revocations, new keys, people.

Whoever decides on something looks first, which costs a few microseconds, so that a change counts for every request
that comes after its commit. A task looks as well, for what is under way and asks nothing.
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

    def subscribe(self, tell: Tell, *kinds: Kind) -> None:
        """Have `tell` called with the announcements of these kinds; it must not wait."""
        self._subscribers.append((frozenset(kinds), tell))

    def look(self) -> None:
        """Hear what was committed until now; what `tell` has heard when this returns is complete."""
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
        while True:
            await trio.sleep(LOOK_EVERY_S)
            try:
                self.look()
            except DatabaseError as error:
                # Whoever decides fails by it, and lets nobody in; the next look may succeed.
                _log.error("the store can't be looked into", reason=repr(error))
