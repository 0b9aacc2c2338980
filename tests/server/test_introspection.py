"""What is said of tokens, to whom, and that nothing else can be learnt."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry import web
from tests.oauth.flow import World, config, error_of
from tests.server.test_confidential_clients import SECRET, ask, basic, confidential, service

INACTIVE = {"active": False}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


async def introspect(world: World, asker: tuple[str, str], token: str) -> dict[str, Any]:
    answer = await world.post_form("/introspect", {"token": token}, headers=basic(*asker))
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store"), answer.body
    return dict(json.loads(answer.body))


async def own(world: World) -> tuple[tuple[str, str], dict[str, Any]]:
    """A client with a secret that somebody signed in to, and its tokens."""
    client = await confidential(world)
    asker = (client["client_id"], client["client_secret"])
    answer: web.Response = await world.redeem(asker[0], await world.code(asker[0]), client_secret=asker[1])
    return asker, json.loads(answer.body)


async def test_a_service_account_learns_what_an_access_token_of_its_tenant_is_good_for(world):
    tokens = await world.tokens(await world.register())
    principal = world.principal(tokens["access_token"])
    found = await introspect(world, (await service(world), SECRET), tokens["access_token"])
    assert found == {
        "active": True,
        "token_type": "Bearer",
        "scope": "docs:export docs:read",
        "client_id": principal.client_id,
        "sub": "alice",
        "tenant": "acme",
        "iss": world.config.issuer,
        "aud": world.config.resource,
        "exp": int(world.now) + 600,
        "jti": principal.token_id,
    }


async def test_a_client_learns_of_its_own_tokens_of_either_kind(world):
    asker, tokens = await own(world)
    assert (await introspect(world, asker, tokens["access_token"]))["sub"] == "alice"
    refresh = await introspect(world, asker, tokens["refresh_token"])
    assert refresh == {
        "active": True,
        "scope": "docs:export docs:read",
        "client_id": asker[0],
        "sub": "alice",
        "tenant": "acme",
        "iss": world.config.issuer,
    }


async def test_what_is_unknown_expired_revoked_or_anothers_is_inactive_and_nothing_more(world):
    asker, tokens = await own(world)
    stranger, foreign = await own(world)
    account = (await service(world, "globex", "docs:read"), SECRET)
    for one, token in (
        (asker, "unknown"),
        (asker, foreign["access_token"]),
        (asker, foreign["refresh_token"]),
        (stranger, tokens["refresh_token"]),
        (account, tokens["access_token"]),
        (account, tokens["refresh_token"]),
        (asker, tokens["access_token"] + "x"),
    ):
        assert await introspect(world, one, token) == INACTIVE
    form = {"token": tokens["access_token"]}
    await world.post_form("/revoke", form, headers=basic(*asker))
    for token in tokens["access_token"], tokens["refresh_token"]:
        assert await introspect(world, asker, token) == INACTIVE
    world.now += 606
    assert await introspect(world, stranger, foreign["access_token"]) == INACTIVE
    assert (await introspect(world, stranger, foreign["refresh_token"]))["active"]


async def test_a_rotated_refresh_token_is_inactive_after_its_grace_and_asking_revokes_nothing(world):
    asker, tokens = await own(world)
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    successor = json.loads((await world.post_form("/token", form, headers=basic(*asker))).body)["refresh_token"]
    assert (await introspect(world, asker, tokens["refresh_token"]))["active"]
    world.now += 120
    assert await introspect(world, asker, tokens["refresh_token"]) == INACTIVE
    assert (await introspect(world, asker, successor))["active"]


async def test_who_is_gone_has_no_active_token(world):
    asker, tokens = await own(world)
    people = {name: user for name, user in world.config.users.items() if name != "alice"}
    world.config = world.config.model_copy(update={"users": people})
    for token in tokens["access_token"], tokens["refresh_token"]:
        assert await introspect(world, asker, token) == INACTIVE


async def test_one_that_the_configuration_trusts_may_ask_about_every_access_token(tmp_path):
    world = World(tmp_path / "state.db", config(clients={"introspecting": ["service~1"]}))
    token = json.loads((await ask(world, await service(world, "globex", "docs:read"))).body)["access_token"]
    tokens = await world.tokens(await world.register())
    assert (await introspect(world, ("service~1", SECRET), tokens["access_token"]))["tenant"] == "acme"
    assert (await introspect(world, ("service~1", SECRET), token))["tenant"] == "globex"
    assert await introspect(world, ("service~1", SECRET), tokens["refresh_token"]) == INACTIVE


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("public", (401, "invalid_client")),
        ("nobody", (400, "invalid_request")),
        ("wrong secret", (401, "invalid_client")),
        ("bearer", (401, "invalid_client")),
    ],
)
async def test_who_proves_nothing_is_told_nothing(world, how, expected):
    client_id = await world.register()
    tokens = await world.tokens(client_id)
    form = {"token": tokens["access_token"]}
    headers: dict[str, str] = {}
    if how == "public":
        form["client_id"] = client_id
    elif how == "wrong secret":
        headers = basic((await confidential(world))["client_id"], "wrong")
    elif how == "bearer":
        headers = {"authorization": f"Bearer {tokens['access_token']}"}
    answer = await world.post_form("/introspect", form, headers=headers)
    assert error_of(answer) == expected
    assert answer.headers["cache-control"] == "no-store"


async def test_a_token_is_needed(world):
    answer = await world.post_form("/introspect", {}, headers=basic(await service(world), SECRET))
    assert error_of(answer) == (400, "invalid_request")
