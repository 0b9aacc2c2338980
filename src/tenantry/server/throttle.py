"""Counters of what happened lately, in bounded memory."""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

# Keys come from strangers. The one that was quiet longest goes first.
MAX_KEYS = 10_000


class Throttle:
    """A sliding window a key: at most `limit` attempts within `window_s` seconds."""

    def __init__(self, *, limit: int, window_s: float, clock: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._max_keys = max_keys
        self._attempts: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait_s(self, key: Hashable) -> float:
        """Seconds until the next attempt is free; 0 if it is now."""
        attempts = self._attempts.get(key)
        if attempts is None:
            return 0.0
        oldest_that_counts = self._clock() - self._window_s
        while attempts and attempts[0] <= oldest_that_counts:
            attempts.popleft()
        if len(attempts) < self._limit:
            return 0.0
        return attempts[0] - oldest_that_counts

    def count(self, key: Hashable) -> None:
        """Count an attempt, before its outcome is known, so that attempts at once count too."""
        attempts = self._attempts.setdefault(key, deque(maxlen=self._limit))
        attempts.append(self._clock())
        self._attempts.move_to_end(key)
        if len(self._attempts) > self._max_keys:
            self._attempts.popitem(last=False)

    def forgive(self, key: Hashable) -> None:
        """Take the latest attempt back: it was a good one."""
        attempts = self._attempts.get(key)
        if attempts:
            attempts.pop()
            if not attempts:
                del self._attempts[key]

    def __len__(self) -> int:
        return len(self._attempts)
