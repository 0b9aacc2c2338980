"""Clients with a secret, and those of them that act for themselves."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry import web
from tenantry.oauth import token
from tenantry.oauth.clients import ServiceAccount
from tests.oauth.flow import REDIRECT, World, error_of

SECRET = "a secret of the service"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "state.db")
    yield world
    world.store.close()


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def confidential(world: World, method: str = "client_secret_basic") -> dict[str, Any]:
    """Register a client with a secret and give the whole answer."""
    document = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": method}
    answer = await world.send(
        "POST", "/register", body=json.dumps(document).encode(), headers={"content-type": "application/json"}
    )
    assert answer.status == 201, answer.body
    return dict(json.loads(answer.body))


async def service(world: World, tenant: str = "acme", *scopes: str) -> str:
    """Make a service account and give its id."""
    await world.store.clients.add_service(
        "service~1",
        ServiceAccount(tenant=tenant, scopes=scopes or ("docs:read", "docs:export")),
        name="nightly",
        secret_digest=token.digest(SECRET),
        now=world.now,
    )
    return "service~1"


async def ask(world: World, client_id: str, secret: str = SECRET, **more: str) -> web.Response:
    """Ask for an access token for the client itself."""
    form = {"grant_type": "client_credentials", **more}
    return await world.post_form("/token", form, headers=basic(client_id, secret))


# --- client_secret_basic and client_secret_post


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_registration_that_asks_for_a_secret_gets_it_once_and_only_its_digest_is_kept(world, method):
    first, second = await confidential(world, method), await confidential(world, method)
    assert first["token_endpoint_auth_method"] == method
    assert first["client_secret_expires_at"] == 0
    assert len({first["client_secret"], second["client_secret"], first["client_id"], second["client_id"]}) == 4
    for path in world.path.parent.glob("state.db*"):
        assert first["client_secret"].encode() not in path.read_bytes()


@pytest.mark.parametrize("in_form", [True, False])
async def test_a_client_with_a_secret_redeems_refreshes_and_revokes_by_it_alone(world, in_form):
    client = await confidential(world)
    client_id, secret = client["client_id"], client["client_secret"]
    proof: dict[str, Any] = (
        {"form": {"client_id": client_id, "client_secret": secret}}
        if in_form
        else {"headers": basic(client_id, secret)}
    )
    bad: dict[str, Any] = {"headers": basic(client_id, "guessed")}
    none: dict[str, Any] = {"form": {"client_id": client_id}}

    async def send(path: str, how: dict[str, Any], **form: str) -> web.Response:
        fields: dict[str, str | None] = {**form, **how.get("form", {})}
        answer: web.Response = await world.post_form(path, fields, headers=how.get("headers"))
        return answer

    code = {"grant_type": "authorization_code", "code": await world.code(client_id), "code_verifier": "v" * 43}
    for how in (bad, none):
        assert error_of(await send("/token", how, **code)) == (401, "invalid_client")
    tokens = json.loads((await send("/token", proof, **code)).body)
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    for how in (bad, none):
        assert error_of(await send("/token", how, **refresh)) == (401, "invalid_client")
        assert error_of(await send("/revoke", how, token=tokens["access_token"])) == (401, "invalid_client")
    assert (await send("/token", proof, **refresh)).status == 200
    assert world.principal(tokens["access_token"]).client_id == client_id
    assert (await send("/revoke", proof, token=tokens["access_token"])).status == 200
    with pytest.raises(web.HttpError):
        world.principal(tokens["access_token"])


async def test_a_public_client_that_sends_a_secret_is_refused(world):
    client_id = await world.register()
    refused = await world.redeem(client_id, await world.code(client_id), client_secret="made up")
    assert error_of(refused) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic ")


async def test_two_ways_at_once_are_refused_before_anything_is_looked_up(world):
    client = await confidential(world)
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_secret": client["client_secret"]}
    answer = await world.post_form("/token", form, headers=basic(client["client_id"], client["client_secret"]))
    assert error_of(answer) == (400, "invalid_request")


async def test_the_metadata_names_what_is_taken(world):
    document = json.loads((await world.send("GET", "/.well-known/oauth-authorization-server")).body)
    methods = ["none", "client_secret_basic", "client_secret_post"]
    assert document["token_endpoint_auth_methods_supported"] == methods
    assert document["revocation_endpoint_auth_methods_supported"] == methods
    assert document["grant_types_supported"] == ["authorization_code", "refresh_token", "client_credentials"]


# --- service accounts


async def test_a_service_account_gets_an_access_token_of_its_tenant_and_no_refresh_token(world):
    client_id = await service(world)
    answer = await ask(world, client_id)
    tokens = json.loads(answer.body)
    principal = world.principal(tokens["access_token"])

    assert answer.headers["cache-control"] == "no-store"
    assert set(tokens) == {"access_token", "token_type", "expires_in", "scope"}
    assert (principal.tenant, principal.subject, principal.client_id) == ("acme", client_id, client_id)
    assert principal.scopes == {"docs:read", "docs:export"}
    assert world.audit.rows[-1]["kind"] == "token_issued"
    assert world.audit.rows[-1]["subject"] == client_id


@pytest.mark.parametrize(
    ("scope", "given"), [("docs:read", "docs:read"), ("docs:read admin", None), ("admin", None), ("unheard-of", None)]
)
async def test_a_service_account_may_ask_for_less_and_not_for_more(world, scope, given):
    answer = await ask(world, await service(world), scope=scope)
    if given is None:
        assert error_of(answer) == (400, "invalid_scope")
    else:
        assert json.loads(answer.body)["scope"] == given


@pytest.mark.parametrize("how", ["public", "confidential"])
async def test_who_registered_itself_never_gets_a_token_for_itself(world, how):
    if how == "public":
        form = {"grant_type": "client_credentials", "client_id": await world.register()}
        answer = await world.post_form("/token", form)
    else:
        client = await confidential(world)
        answer = await ask(world, client["client_id"], client["client_secret"])
    assert error_of(answer) == (400, "unauthorized_client")


@pytest.mark.parametrize("grant_type", ["authorization_code", "refresh_token"])
async def test_a_service_account_acts_for_nobody_else(world, grant_type):
    client_id = await service(world)
    form = {"grant_type": grant_type, "code": "x", "refresh_token": "x"}
    answer = await world.post_form("/token", form, headers=basic(client_id, SECRET))
    assert error_of(answer) == (400, "unauthorized_client")


async def test_another_resource_is_refused(world):
    answer = await ask(world, await service(world), resource="http://localhost:3000/other")
    assert error_of(answer) == (400, "invalid_target")


async def test_a_service_account_of_a_tenant_that_is_not_there_gets_nothing(world):
    answer = await ask(world, await service(world, "initech"))
    assert error_of(answer) == (400, "unauthorized_client")


async def test_one_token_revoked_leaves_the_accounts_other_tokens_and_the_account(world):
    client_id = await service(world)
    first, second = [json.loads((await ask(world, client_id)).body)["access_token"] for _ in range(2)]
    revoked = await world.post_form("/revoke", {"token": first}, headers=basic(client_id, SECRET))
    assert revoked.status == 200
    with pytest.raises(web.HttpError):
        world.principal(first)
    assert world.principal(second).subject == client_id
    assert (await ask(world, client_id)).status == 200


async def test_an_ended_service_account_is_refused_at_once_with_all_its_tokens(world):
    client_id = await service(world)
    access_token = json.loads((await ask(world, client_id)).body)["access_token"]
    assert await world.store.endings.client(client_id, now=world.now)
    with pytest.raises(web.HttpError):
        world.principal(access_token)
    assert error_of(await ask(world, client_id)) == (401, "invalid_client")


async def test_neither_purge_nor_a_full_house_takes_a_service_account(world):
    client_id = await service(world)
    world.now += 10 * 365 * 86_400
    await world.store.purge(now=world.now, family_s=1, idle_client_s=1)
    await world.store.clients.register("new", {}, network="n", fingerprint=None, now=world.now, unused_s=1, keep=1)
    assert (await ask(world, client_id)).status == 200
