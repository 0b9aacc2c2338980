"""Handlers that end when their client leaves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tenantry.server.exchange import Exchange


@asynccontextmanager
async def until_left(exchange: Exchange) -> AsyncIterator[trio.CancelScope]:
    """Run a block that is cancelled when the client leaves; the scope's `cancelled_caught` tells whether it was."""
    with trio.CancelScope() as scope:
        async with exchange.noticing_departure(scope.cancel):
            yield scope
