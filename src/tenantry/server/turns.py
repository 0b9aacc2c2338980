"""Whose work the event loop does next, where several tenants want it.

Everything that is ready runs in one round of the loop, however much that is; a tenant with a hundred connections
would make each round a hundred requests long, for everybody. So a request takes a turn before it is parsed, and one
more when its record is durable and its answer is to be written; one turn is given in a round, in fair order.
"""

import math
from collections.abc import Callable

import trio

from tenantry.fairness import FairQueue

# Tenants share the server while requests of two came within this.
TOGETHER_S = 0.25


class Line:
    """Where a connection's work waits: with its tenant's, once a request has said whose it is."""

    __slots__ = ("tenant",)

    def __init__(self) -> None:
        self.tenant = ""


class Turns:
    """Gives turns while tenants share the server; one that has it to itself waits for none. `run` must be running."""

    def __init__(
        self, *, weight: Callable[[str], float] = lambda _: 1.0, clock: Callable[[], float] = trio.current_time
    ) -> None:
        """`weight` says what share of the turns a tenant gets, beside those of others."""
        self._weight = weight
        self._clock = clock
        self._queue: FairQueue[trio.Event] = FairQueue()
        self._some = trio.Event()
        self._latest: str | None = None
        self._together_until = -math.inf
        self._together = False

    async def take(self, tenant: str) -> None:
        """Return when it is the tenant's turn; at once, without a checkpoint, where nobody shares the server."""
        if tenant == self._latest and not self._together:
            return
        now = self._clock()
        if tenant != self._latest:
            if self._latest is not None:
                self._together_until = now + TOGETHER_S
            self._latest = tenant
        self._together = now < self._together_until
        if not self._together:
            return
        weight = self._weight(tenant)
        if self._queue.passes(tenant, weight=weight):
            return
        turn = trio.Event()
        self._queue.push(tenant, turn, weight=weight)
        self._some.set()
        try:
            await turn.wait()
        except trio.Cancelled:
            self._queue.remove(tenant, turn)
            raise

    async def run(self) -> None:
        """Give turns, until cancelled."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            while (turn := self._queue.pop()) is not None:
                turn.set()
                await trio.lowlevel.checkpoint()
