from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial, wraps

import pytest
import trio
import trio.lowlevel

from tenantry.mcp.functions import Function


@asynccontextmanager
async def opened() -> AsyncIterator[None]:
    yield


async def numbers() -> AsyncIterator[int]:
    yield 1


async def nothing() -> int:
    return sum(number * number for number in range(3))


async def awaiting() -> None:
    await trio.lowlevel.checkpoint()


async def entering() -> None:
    async with opened():
        pass


async def iterating() -> None:
    async for _ in numbers():
        pass


async def comprehending() -> list[int]:
    return [number async for number in numbers()]


def blocking() -> None:
    pass


@wraps(nothing)
async def wrapped() -> int:
    await trio.lowlevel.checkpoint()
    return await nothing()


@pytest.mark.parametrize(
    ("function", "waits"),
    [
        (nothing, False),
        (awaiting, True),
        (entering, True),
        (iterating, True),
        (comprehending, True),
        (blocking, True),
        (wrapped, True),
    ],
)
def test_a_function_waits_unless_it_is_async_and_awaits_nothing(function, waits):
    assert Function.of(function).waits is waits


def test_of_what_has_no_code_of_its_own_nothing_is_known():
    assert Function.of(wraps(nothing)(partial(nothing))).waits
