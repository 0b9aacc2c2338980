"""A block that runs while something is waited for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def cancelled_by(*waits: Callable[[], Awaitable[None]]) -> AsyncIterator[trio.CancelScope]:
    """Run a block that is cancelled when the first of `waits` returns; its exceptions come out unwrapped."""
    block = trio.CancelScope()
    async with telling(block.cancel, *waits):
        with block:
            yield block


@asynccontextmanager
async def telling(tell: Callable[[], None], *waits: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Call `tell` whenever one of `waits` returns while the block runs; its exceptions come out unwrapped."""

    async def watch(wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        tell()

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        for wait in waits:
            nursery.start_soon(watch, wait)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery that would wrap it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
