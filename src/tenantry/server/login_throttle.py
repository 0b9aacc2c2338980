"""How often somebody may guess, without locking out those who are guessed at.

Failures count for the name, for the name at one network, and for the network. A browser in which the person has
logged in before counts by itself instead: whatever others try against the name or from the same office, it gets its
own few attempts. Unknown names count as known ones do.
"""

import hmac
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from tenantry import web
from tenantry.config import Config
from tenantry.server.browser import Cookie, Seals
from tenantry.server.throttle import Throttle

# The limit is for one name at one network. A network may be a whole office; a name is guessed at from few.
NETWORK_FACTOR = 10
NAME_FACTOR = 4
# How much of an IPv4 address is a network; of IPv6 it is 64 bits.
IPV4_BITS = 24
KNOWN_S = 400 * 86_400
_SIGNATURE_LENGTH = 43


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to log in, by all that it counts for."""

    counted: tuple[tuple[Throttle, Hashable], ...]
    network: str

    @property
    def wait_s(self) -> float:
        """Seconds until it may be made; 0 if it may be made now."""
        return max(throttle.wait_s(key) for throttle, key in self.counted)

    def count(self) -> None:
        """Count it, before its outcome is known."""
        for throttle, key in self.counted:
            throttle.count(key)

    def forgive(self) -> None:
        """Take it back: it was a good one."""
        for throttle, key in self.counted:
            throttle.forgive(key)


class LoginThrottle:
    """Counts attempts to log in; `clock` gives seconds."""

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        limit, window_s = config.limits.failed_logins, config.limits.failed_logins_window_s
        self._by_browser = Throttle(limit=limit, window_s=window_s, clock=clock)
        self._by_name_and_network = Throttle(limit=limit, window_s=window_s, clock=clock)
        self._by_name = Throttle(limit=limit * NAME_FACTOR, window_s=window_s, clock=clock)
        self._by_network = Throttle(limit=limit * NETWORK_FACTOR, window_s=window_s, clock=clock)

    def attempt(self, user: str, peer: str, known_browser: str | None) -> Attempt:
        """An attempt for the name `user` from the address `peer`; `known_browser` as `KnownBrowsers.read` gives it."""
        network = web.network(peer, ipv4_bits=IPV4_BITS)
        if known_browser is not None:
            return Attempt(((self._by_browser, known_browser),), network)
        return Attempt(
            (
                (self._by_name_and_network, (user, network)),
                (self._by_name, user),
                (self._by_network, network),
            ),
            network,
        )


class KnownBrowsers:
    """A cookie that says that somebody has logged in with this browser before, and nothing else.

    It is signed for the name and its password hash, so that another password makes all browsers strange again.
    """

    def __init__(self, config: Config, *, seals: Seals, fresh: Callable[[], str]) -> None:
        self._cookie = Cookie("tenantry_known", config)
        self._seals = seals
        self._fresh = fresh

    def read(self, request: web.Request, user: str, password_hash: str) -> str | None:
        """A name for the browser, if that person has logged in with it before."""
        value = self._cookie.read(request) or ""
        name, signature = value[:-_SIGNATURE_LENGTH], value[-_SIGNATURE_LENGTH:]
        right = self._seals.sign("known browser", name, user, password_hash)
        return name if name and hmac.compare_digest(signature, right) else None

    def remember(self, user: str, password_hash: str) -> str:
        """The `Set-Cookie` value after a good login."""
        name = self._fresh()
        return self._cookie.set(name + self._seals.sign("known browser", name, user, password_hash), max_age_s=KNOWN_S)
