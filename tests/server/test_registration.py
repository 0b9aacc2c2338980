"""Who may register a client, how often, and what an identical registration gets."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry import web
from tests.oauth.flow import REDIRECT, Browser, World, authorization_url, config, error_of

TOKEN = "an-initial-access-token"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


def policy(tmp_path: Path, **clients: object) -> World:
    return World(tmp_path / "state.db", config(clients=clients))


async def register(
    world: World, *, peer: str = "192.0.2.1", token: str | None = None, **metadata: object
) -> web.Response:
    headers = {"content-type": "application/json"} | ({} if token is None else {"authorization": token})
    body = json.dumps({"redirect_uris": [REDIRECT], **metadata}).encode()
    return await world.send("POST", "/register", body=body, headers=headers, peer=peer)


def document(answer: web.Response) -> dict[str, Any]:
    assert answer.status == 201, answer.body
    return dict(json.loads(answer.body))


async def metadata(world: World) -> dict[str, Any]:
    answer = await world.send("GET", "/.well-known/oauth-authorization-server")
    return dict(json.loads(answer.body))


# --- the policy ---


async def test_where_registration_is_closed_there_is_no_endpoint_and_none_is_named(tmp_path: Path):
    world = policy(tmp_path, registration="closed")
    assert (await register(world)).status == 404
    assert "registration_endpoint" not in await metadata(world)
    world.store.close()


async def test_an_initial_access_token_admits_where_one_is_asked_for(tmp_path: Path):
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    world = policy(tmp_path, registration="initial_access_token", initial_access_tokens=["0" * 64, digest])
    assert "registration_endpoint" in await metadata(world)
    assert (await register(world, token=f"Bearer {TOKEN}")).status == 201
    for token, challenge in (
        (None, 'Bearer realm="registration"'),
        (f"Basic {TOKEN}", 'Bearer realm="registration"'),
        ("Bearer wrong", 'Bearer realm="registration", error="invalid_token"'),
        (f"Bearer {digest}", 'Bearer realm="registration", error="invalid_token"'),
        ('Bearer "quoted"', 'Bearer realm="registration", error="invalid_token"'),
    ):
        refused = await register(world, token=token)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, challenge)
    assert error_of(await register(world, token="Bearer two tokens")) == (400, "invalid_request")
    assert world.audit.kinds() == ["client_registered"]
    assert TOKEN not in json.dumps(world.audit.rows)
    world.store.close()


async def test_an_open_registration_needs_no_token_and_minds_none(world: World):
    assert (await register(world, token="Bearer anything")).status == 201


# --- identical registrations ---


async def test_an_identical_registration_gets_the_same_id_until_somebody_consents(world: World):
    first = document(await register(world, client_name="Same"))
    world.now += 5
    assert document(await register(world, client_name="Same")) == first
    assert world.audit.kinds() == ["client_registered"]
    await world.code(first["client_id"])
    anew = document(await register(world, client_name="Same"))
    assert anew["client_id"] != first["client_id"]
    assert anew["client_id_issued_at"] == int(world.now)


async def test_what_differs_in_anything_or_comes_from_elsewhere_is_another_client(world: World):
    answers = [
        await register(world, client_name="Same"),
        await register(world, client_name="same"),
        await register(world, client_name="Same", grant_types=["authorization_code"]),
        await register(world, client_name="Same", redirect_uris=[f"{REDIRECT}/other"]),
        await register(world, client_name="Same", peer="192.0.2.2"),
        await register(world, client_name="Same", peer="2001:db8:0:1::1"),
    ]
    assert len({document(answer)["client_id"] for answer in answers}) == len(answers)
    alike = [
        await register(world, client_name="Same", unknown=1),
        await register(world, client_name="Same", peer="::ffff:192.0.2.1"),
    ]
    assert {document(answer)["client_id"] for answer in alike} == {document(answers[0])["client_id"]}
    neighbour = await register(world, client_name="Same", peer="2001:db8:0:1::2")
    assert document(neighbour) == document(answers[5])


# --- how long, how many ---


async def test_a_registration_that_nobody_uses_is_forgotten_after_an_hour(world: World):
    unused, used = await world.register(client_name="unused"), await world.register(client_name="used")
    await world.code(used)
    world.now += 3600
    await world.register(client_name="another")
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    assert error_of(await world.post_form("/token", {**form, "client_id": unused})) == (401, "invalid_client")
    assert error_of(await world.post_form("/token", {**form, "client_id": used})) == (400, "invalid_grant")


async def test_registrations_are_bounded_for_a_network_and_in_all(tmp_path: Path):
    limits = {"registrations_per_minute": 2, "registrations_per_minute_in_all": 5}
    world = World(tmp_path / "state.db", config(limits=limits))
    statuses = [(await register(world, peer=f"2001:db8::{number}")).status for number in range(3)]
    assert statuses == [201, 201, 429]
    statuses = [(await register(world, peer=f"192.0.2.{number}")).status for number in range(4)]
    assert statuses == [201, 201, 201, 429]
    world.now += 60
    assert (await register(world)).status == 201
    world.store.close()


async def test_clients_in_use_neither_give_way_nor_shut_others_out(tmp_path: Path):
    world = World(tmp_path / "state.db", config(limits={"unused_clients": 1}))
    used = []
    for _ in range(3):
        used.append(await world.register())
        await world.tokens(used[-1])
    late = [await world.register() for _ in range(3)]
    known = [client_id for client_id in used + late if await world.store.clients.find(client_id)]
    assert known == [*used, late[-1]]
    world.store.close()


async def test_a_private_scheme_is_refused_unless_configured_and_always_asked_for(tmp_path: Path):
    uri = "cursor://app/callback"
    for schemes, status in ([], 400), (["cursor"], 201):
        world = World(tmp_path / f"{status}.db", config(clients={"private_schemes": schemes}))
        assert (await register(world, redirect_uris=[uri])).status == status
        if schemes:
            client_id = await world.register(redirect_uris=[uri])
            browser = Browser(world)
            url = authorization_url(client_id, redirect_uri=uri)
            assert (await browser.consent(url)).headers["location"].startswith(f"{uri}?code=")
            page = await browser.get(url)
            assert b'name="decision"' in page.body
            assert "form-action 'self' cursor:;" in page.headers["content-security-policy"]
        world.store.close()
