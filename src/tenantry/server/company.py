"""Whether a record had better wait for others: one flush is for all that are there when it begins.

Waiting is worth it where others come, and those of a tenant that calls without a break wait for each other. A tenant
that calls seldom waits for nobody's, and neither does whoever is alone.

Callers whose answers leave together come again together. Where one commit takes some of them and the next the others,
nothing brings them together again by itself, and there are several commits where one would do: so as many as came of
late are waited for a moment longer.
"""

import math

from tenantry.server.beside import Patience

# A tenant calls seldom of whom nothing came for so long: others' turns may keep one that calls all the time from it.
SELDOM_S = 0.02
# And no two are in a hurry within that: a thousand tenants that call seldom are many, together.
HURRY_S = 0.01
# Others were waited for in vain for so many rounds of the loop: where tenants take turns, each round brings one's.
EMPTY_ROUNDS = 2
# And for so long, where fewer came than of late: an answer's way to its client, and the next call's way back.
MISSING_S = 0.0003
# But nobody waits longer than that for others to come: some sixty calls.
GATHER_S = 0.02


class Company:
    """Decides for each record, and learns from what came."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._latest: dict[str, float] = {}
        self._hurry_from = -math.inf
        self._usual = 0

    def is_urgent(self, tenant: str, now: float, *, first: bool) -> bool:
        """Take notice of a record, the `first` of a batch or not; tell whether it had better be written at once.

        `now` is trio's clock, seconds.
        """
        seldom = now - self._latest.get(tenant, -math.inf) >= SELDOM_S
        self._latest[tenant] = now
        if first and not self._patience.has():
            return True
        if not seldom or now < self._hurry_from:
            return False
        self._hurry_from = now + HURRY_S
        return True

    def wait(self, now: float) -> "Wait":
        """Begin to wait for others, at `now`."""
        return Wait(self._usual, now)

    def learn(self, came: int) -> None:
        """So many were in a batch that others were waited for: that is tried ever more seldom where it is in vain."""
        self._usual = max(came, (self._usual + came) // 2)
        if came > 1:
            self._patience.kept()
        else:
            self._patience.lost()


class Wait:
    """The wait for others, one round of the loop after the other."""

    __slots__ = ("_came", "_empty", "_latest", "_until", "_usual")

    def __init__(self, usual: int, now: float) -> None:
        """As many as `usual` came of late; `now` is trio's clock, seconds."""
        self._usual = usual
        self._latest = now
        self._until = now + GATHER_S
        self._came = self._empty = 0

    def is_over(self, came: int, now: float) -> bool:
        """Tell after a round whether it had better end; `came` is how many there are now."""
        if came > self._came:
            self._came, self._latest, self._empty = came, now, 0
        else:
            self._empty += 1
        if now >= self._until:
            return True
        return self._empty >= EMPTY_ROUNDS and (came >= self._usual or now - self._latest >= MISSING_S)
