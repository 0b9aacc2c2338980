"""Whose work the event loop does next, where several tenants want it.

Everything that is ready runs in one round of the loop, however much that is; a tenant with a hundred connections
would make each round a hundred requests long, for everybody. So a request takes a turn before it is parsed, and one
more when its record is durable and its answer is to be written. A round gives a tenant one turn, in fair order, and no
more than a few in all: whoever comes next waits for those, however much others want.
"""

import math
from collections.abc import Callable

import trio

from tenantry.fairness import FairQueue

# Tenants share the server while requests of two came within this.
TOGETHER_S = 0.25
# A round is a millisecond long, then. More turns in one gain little: a round costs as much as half a call.
TURNS_A_ROUND = 4


class Line:
    """Where a connection's work waits: with its tenant's, once a request has said whose it is."""

    __slots__ = ("_notice", "tenant")

    def __init__(self, notice: Callable[[str], None]) -> None:
        """`notice` is told whose it is."""
        self._notice = notice
        self.tenant: str | None = None
        """None until it is known; `""` where the requests say nothing of a tenant."""

    def belongs_to(self, tenant: str) -> None:
        """Say whose it is."""
        if tenant != self.tenant:
            self.tenant = tenant
            self._notice(tenant)


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

    def notice(self, tenant: str) -> None:
        """Take notice of a request of the tenant's."""
        if self._latest not in (None, tenant):
            self._together_until = self._clock() + TOGETHER_S
            self._together = True
        self._latest = tenant

    async def take(self, tenant: str | None) -> None:
        """Return when it is the tenant's turn; at once, without a checkpoint, where nobody shares the server.

        None stands for whom nobody knows yet, who gives way to others: most are one of those who are here already.
        """
        if tenant != self._latest and tenant is not None:
            self.notice(tenant)
        self._together = self._together and self._clock() < self._together_until
        if not self._together:
            return
        tenant = tenant or ""
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

    async def pause(self) -> None:
        """Let the others of this round get as far, unless tenants take turns: then nobody else is in it.

        The code and data of a whole request are more than a core's cache holds, those of half a request are not. Where
        many go half of their way one after the other, and then the other half, each finds what the one before it left
        there: two misses for three, worth more than the round that it takes.
        """
        if not self._together:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def run(self) -> None:
        """Give turns, until cancelled."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            while turns := self._queue.pop_round(TURNS_A_ROUND):
                for turn in turns:
                    turn.set()
                await trio.lowlevel.checkpoint()
