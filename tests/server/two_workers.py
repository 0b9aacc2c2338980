"""Two ends of a bus in one process, as two workers have them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from tenantry.server.bus import Bus, Link


@asynccontextmanager
async def two_workers() -> AsyncIterator[tuple[Bus, Bus]]:
    """Give the buses of two workers; `wait_all_tasks_blocked` lets what was published arrive."""
    one, two = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        buses = Bus("one", Link(one)), Bus("two", Link(two))
        for bus in buses:
            nursery.start_soon(bus.run)
        yield buses
        nursery.cancel_scope.cancel()
