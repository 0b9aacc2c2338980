"""Whether a record had better wait for others: one flush is for all that are there when it begins.

Waiting is worth it where others come, and those of a tenant that calls without a break wait for each other. A tenant
that calls seldom waits for nobody's, and neither does whoever is alone.
"""

import math

from tenantry.server.beside import Patience

# A tenant calls seldom of whom nothing came for so long: others' turns may keep one that calls all the time from it.
SELDOM_S = 0.02
# And no two are in a hurry within that: a thousand tenants that call seldom are many, together.
HURRY_S = 0.01


class Company:
    """Decides for each record, and learns from what came."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._latest: dict[str, float] = {}
        self._hurry_from = -math.inf

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

    def learn(self, *, came: bool) -> None:
        """Others were waited for, and came or not: that is tried ever more seldom where they do not."""
        if came:
            self._patience.kept()
        else:
            self._patience.lost()
