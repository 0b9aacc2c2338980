"""What is under way, and on whose behalf: a call, a stream, a task. It ends when the grant behind it ends."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from tenantry.identity import Principal
from tenantry.server.feed import Feed
from tenantry.server.revocations import ENDINGS, Ended
from tenantry.server.store.announcements import Announcement


class Ongoing:
    """Ends what is under way for a principal who has lost the right to it."""

    def __init__(self, feed: Feed, *, stands: Callable[[Principal], bool]) -> None:
        self.stands = stands
        """Tell whether the right of a principal still counts."""
        self._under_way: dict[Callable[[], None], Principal] = {}
        feed.subscribe(self._hear, *ENDINGS)

    def _hear(self, news: Sequence[Announcement]) -> None:
        ended = Ended.of(news)
        for end, principal in self._under_way.items():
            if ended.covers(principal.binding, principal.family_id):
                end()

    def ending(self, principal: Principal, end: Callable[[], None]) -> "_Ending":
        """Call `end` where the principal's grant is gone by now, or ends while the block runs."""
        return _Ending(self._under_way, self.stands, principal, end)

    @contextmanager
    def of(self, principal: Principal) -> Iterator[trio.CancelScope]:
        """Run a block on behalf of `principal`; the scope's `cancelled_caught` tells whether it was cut."""
        with trio.CancelScope() as scope, self.ending(principal, scope.cancel):
            yield scope


class _Ending:
    """What `ending` gives: a class, because every call enters one, and a generator takes three times as long."""

    __slots__ = ("_end", "_principal", "_stands", "_under_way")

    def __init__(
        self,
        under_way: dict[Callable[[], None], Principal],
        stands: Callable[[Principal], bool],
        principal: Principal,
        end: Callable[[], None],
    ) -> None:
        self._under_way = under_way
        self._stands = stands
        self._principal = principal
        self._end = end

    def __enter__(self) -> None:
        if not self._stands(self._principal):
            self._end()
        self._under_way[self._end] = self._principal

    def __exit__(self, *_: object) -> None:
        del self._under_way[self._end]
