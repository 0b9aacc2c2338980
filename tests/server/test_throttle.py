"""Counting in a window, in bounded memory."""

import pytest

from tenantry.server.throttle import Throttle


class World:
    now = 1000.0


@pytest.fixture
def world() -> World:
    return World()


def throttle(world: World, *, limit: int = 2, max_keys: int = 10) -> Throttle:
    return Throttle(limit=limit, window_s=60, clock=lambda: world.now, max_keys=max_keys)


def test_the_window_slides(world: World):
    counted = throttle(world)
    counted.count("key")
    world.now += 20
    assert counted.wait_s("key") == 0
    counted.count("key")
    assert counted.wait_s("key") == 40
    assert counted.wait_s("other") == 0
    world.now += 40
    assert counted.wait_s("key") == 0
    counted.count("key")
    assert counted.wait_s("key") == 20


def test_a_good_attempt_is_taken_back(world: World):
    counted = throttle(world)
    counted.count("key")
    counted.count("key")
    counted.forgive("key")
    assert counted.wait_s("key") == 0
    counted.forgive("key")
    counted.forgive("key")
    assert len(counted) == 0


def test_memory_is_bounded_and_the_quietest_key_goes_first(world: World):
    counted = throttle(world, limit=1, max_keys=2)
    for key in ("a", "b", "a", "c"):
        counted.count(key)
    assert len(counted) == 2
    assert counted.wait_s("b") == 0
    assert counted.wait_s("a") > 0
    assert counted.wait_s("c") > 0
