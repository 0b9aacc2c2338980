from dataclasses import replace

import pytest

from tenantry import web
from tenantry.identity import Principal
from tenantry.oauth import access_token
from tenantry.server import authentication
from tests.oauth.flow import World


def verifications(monkeypatch) -> list[str]:
    """Every access token whose signature is looked at from now on."""
    seen: list[str] = []
    verify = access_token.verify

    def counted(token, **more):
        seen.append(token)
        return verify(token, **more)

    monkeypatch.setattr(access_token, "verify", counted)
    return seen


def minted(world: World, **changes) -> str:
    claims = {
        "issuer": world.config.issuer,
        "audience": world.config.resource,
        "subject": "alice",
        "tenant": "acme",
        "client_id": "client",
        "scopes": ("tools:call",),
        "token_id": "t",
        "family_id": "family",
        "issued_at": int(world.now),
        "expires_at": int(world.now) + 600,
    }
    return access_token.mint(access_token.Claims(**claims | changes), world.keys.now.signing)


@pytest.fixture(params=["a request of its own", "the same request"])
def ask(request):
    """Ask who bears a token: each time in a request of its own, or in one whose head is known."""
    known: dict[str, web.Request] = {}

    def ask(world: World, token: str) -> Principal:
        headers = web.Headers([("authorization", f"Bearer {token}")])
        new = web.Request(method="POST", path="/mcp", query="", headers=headers, scheme="http", peer="")
        return world.authentication.principal(
            known.setdefault(token, new) if request.param == "the same request" else new
        )

    return ask


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "state.db")


def test_a_signature_is_looked_at_once(ask, world, monkeypatch):
    seen, token = verifications(monkeypatch), minted(world)

    assert ask(world, token) == ask(world, token)
    assert len(seen) == 1


def test_a_remembered_access_token_still_expires(ask, world, monkeypatch):
    seen, token = verifications(monkeypatch), minted(world)
    ask(world, token)
    world.now += 600 + access_token.LEEWAY_S
    with pytest.raises(web.HttpError) as caught:
        ask(world, token)

    assert caught.value.status == 401
    assert len(seen) == 2


async def test_a_remembered_access_token_is_refused_from_its_revocation_on(ask, world):
    token = minted(world)
    ask(world, token)
    await world.store.endings.family("family", now=world.now)
    with pytest.raises(web.HttpError):
        ask(world, token)


def test_what_was_refused_is_not_remembered(ask, world, monkeypatch):
    seen, token = verifications(monkeypatch), minted(world)[:-4] + "AAAA"
    for _ in range(2):
        with pytest.raises(web.HttpError):
            ask(world, token)

    assert len(seen) == 2
    assert len(world.authentication._verified) == 0


def test_memory_is_bounded(ask, world, monkeypatch):
    monkeypatch.setattr(authentication, "REMEMBERED_MAX", 3)
    for number in range(6):
        ask(world, minted(world, token_id=f"t{number}"))

    assert len(world.authentication._verified) == 3


def test_what_has_expired_is_forgotten_with_the_next_token(ask, world):
    for _ in range(3):
        for number in range(3):
            ask(world, minted(world, token_id=f"t{number}"))
            assert len(world.authentication._verified) == number + 1
        world.now += 600 + access_token.LEEWAY_S


@pytest.mark.parametrize("change", [{"subject": "nobody else"}, {"tenant": "globex"}])
def test_who_is_not_in_the_directory_bears_no_access_token(ask, world, change):
    with pytest.raises(web.HttpError) as caught:
        ask(world, minted(world, **change))

    assert caught.value.status == 401


async def test_a_remembered_access_token_counts_no_more_when_its_key_is_gone(ask, world):
    token = minted(world)
    ask(world, token)
    world.keys._snapshot = replace(world.keys.now, verification={})
    with pytest.raises(web.HttpError) as caught:
        ask(world, token)

    assert caught.value.status == 401
