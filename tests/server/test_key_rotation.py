"""Keys come and go on a running server's data, and no access token that was given stops working."""

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest

from tenantry import web
from tenantry.oauth import access_token
from tenantry.oauth.key_set import OVERLAP_S
from tenantry.server.keys import SigningKeys, new_key
from tenantry.server.store import Store
from tests.oauth.flow import World
from tests.server.test_authentication import minted, verifications


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


async def rotate(world: World, *, lead_s: float = 0) -> str:
    """What the command does, in another process."""
    other = Store.open(world.path)
    key = new_key(signs_from=world.now + lead_s)
    await other.signing_keys.add(key, now=world.now)
    other.close()
    return key.kid


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def published(world: World) -> list[dict[str, Any]]:
    return list(json.loads((await world.send("GET", "/jwks")).body)["keys"])


def refused(world: World, token: str) -> bool:
    try:
        world.principal(token)
    except web.HttpError:
        return True
    return False


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_verifies_until_its_last_token_is_gone(world):
    before = minted(world)
    second = await rotate(world, lead_s=600)
    assert [key["kid"] for key in await published(world)] == [kid_of(before), second]
    assert kid_of(minted(world)) == kid_of(before)
    world.now += 599
    last = minted(world)
    world.now += 1
    after = minted(world)
    assert (kid_of(last), kid_of(after)) == (kid_of(before), second)
    assert not refused(world, last)
    assert not refused(world, after)
    world.now += OVERLAP_S
    assert [key["kid"] for key in await published(world)] == [second]


async def test_what_a_key_signs_after_its_overlap_is_refused(world):
    old = world.keys.now.signing
    await rotate(world)
    world.feed.look()
    assert world.keys.now.signing.kid != old.kid
    world.now += OVERLAP_S - 1

    def forged() -> str:
        return access_token.mint(claims(world), old)

    in_time = forged()
    assert not refused(world, in_time)
    world.now += 1
    assert refused(world, forged())
    assert refused(world, in_time)  # though it was verified and remembered


def claims(world: World) -> access_token.Claims:
    return access_token.Claims(
        issuer=world.config.issuer,
        audience=world.config.resource,
        subject="alice",
        tenant="acme",
        client_id="client",
        scopes=("docs:read",),
        token_id="t",
        family_id="family",
        issued_at=int(world.now),
        expires_at=int(world.now) + 600,
    )


async def test_what_a_key_signs_before_its_time_is_refused(world):
    kid = await rotate(world, lead_s=600)
    world.feed.look()
    key = next(each for each in world.keys._keys if each.kid == kid)
    signing = dataclasses.replace(world.keys.now.signing, kid=kid, private_key=key.private_key)
    assert kid in world.keys.now.published
    assert refused(world, access_token.mint(claims(world), signing))


async def test_a_key_that_is_taken_away_stops_counting_at_once_though_its_tokens_were_remembered(world):
    token = minted(world)
    assert not refused(world, token)
    await rotate(world)
    assert not refused(world, token)
    other = Store.open(world.path)
    await other.signing_keys.retire(kid_of(token), now=world.now)
    other.close()
    assert refused(world, token)
    assert kid_of(token) not in [key["kid"] for key in await published(world)]


async def test_signatures_are_looked_at_again_only_when_the_keys_have_changed(world, monkeypatch):
    seen, token = verifications(monkeypatch), minted(world)
    for _ in range(3):
        world.principal(token)
    assert len(seen) == 1
    await rotate(world)
    for _ in range(3):
        world.principal(token)
    assert len(seen) == 2


async def test_the_key_of_a_store_before_rotation_goes_on(world):
    token = minted(world)
    with closing(sqlite3.connect(world.path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO secret SELECT 'access-token-es256', private, 0 FROM signing_key")
        connection.execute("DELETE FROM signing_key")
    world.restart()
    assert not refused(world, token)
    with closing(sqlite3.connect(world.path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM secret")]
    assert "access-token-es256" not in names


async def test_two_processes_that_start_at_once_have_one_first_key(world):
    other = Store.open(world.path)
    keys = SigningKeys(other, feed=world.feed, clock=lambda: world.now)
    assert keys.now.signing.kid == world.keys.now.signing.kid
    other.close()


async def test_the_key_set_is_cached_by_its_tag_and_holds_nothing_private(world):
    first = await world.send("GET", "/jwks")
    tag = first.headers["etag"]
    for condition in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        same = await world.send("GET", "/jwks", headers={"if-none-match": condition})
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        assert same.headers["cache-control"] == "public, max-age=300"
    await rotate(world)
    changed = await world.send("GET", "/jwks", headers={"if-none-match": tag})
    assert changed.status == 200
    for key in await published(world):
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


async def test_keys_that_stopped_signing_long_ago_are_forgotten_and_the_one_that_signs_never(world):
    world.now += 400 * 86_400
    second = await rotate(world)
    world.feed.look()
    assert len(world.keys._keys) == 2  # the first one signed until now
    world.now += 31 * 86_400
    third = await rotate(world)
    world.feed.look()
    assert [key.kid for key in world.keys._keys] == [second, third]
