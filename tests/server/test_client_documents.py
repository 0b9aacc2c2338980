"""Clients whose id is the URL of their document, from the authorization request to the refresh."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tenantry import web
from tenantry.oauth.client_documents import Location
from tenantry.oauth.errors import OAuthError
from tenantry.server import client_documents
from tenantry.server.client_documents import KnownClients
from tenantry.server.fetch import Fetched, FetchFailed
from tests.oauth.flow import PEER, REDIRECT, Browser, World, authorization_url, config, error_of

URL = "https://app.example/oauth/client.json"


class Hosts:
    """What the net holds, and what was asked for."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.cache_control: str | None = None
        self.asked: list[str] = []
        self.open = trio.Event()
        self.open.set()
        self.put(URL)

    def put(self, url: str, **changes: object) -> None:
        self.documents[url] = {"client_id": url, "client_name": "App", "redirect_uris": [REDIRECT], **changes}

    async def fetch(self, location: Location) -> Fetched:
        url = f"https://{location.authority}{location.target}"
        self.asked.append(url)
        await self.open.wait()
        if url not in self.documents:
            raise FetchFailed("no such document")
        return Fetched(body=json.dumps(self.documents[url]).encode(), cache_control=self.cache_control)


def switched(*, on: bool) -> Any:
    return config(clients={"client_id_metadata_documents": on})


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def world(tmp_path: Path, hosts: Hosts) -> Iterator[World]:
    world = World(tmp_path / "state.db", switched(on=True), fetch=hosts.fetch)
    yield world
    world.store.close()


@pytest.fixture
def clients(world: World, hosts: Hosts) -> KnownClients:
    return KnownClients(config=world.config, store=world.store, fetch=hosts.fetch, clock=lambda: world.now)


# --- the flow


async def test_a_client_by_url_gets_tokens_and_one_fetch_suffices(world: World, hosts: Hosts):
    tokens = await world.tokens(URL)
    assert world.principal(tokens["access_token"]).client_id == URL
    assert hosts.asked == [URL]
    assert {row["client"] for row in world.audit.rows if "client" in row} == {URL}


async def test_a_refresh_asks_nobody_and_works_while_the_host_is_down_and_after_a_restart(world: World, hosts: Hosts):
    refresh_token = (await world.tokens(URL))["refresh_token"]
    del hosts.documents[URL]
    world.restart()
    world.now += 100_000
    assert (await world.refresh(URL, refresh_token)).status == 200
    assert hosts.asked == [URL]
    assert (await world.send("GET", authorization_url(URL))).status == 400


async def test_a_code_is_redeemed_while_the_host_is_down(world: World, hosts: Hosts):
    code = await world.code(URL)
    del hosts.documents[URL]
    world.restart()
    assert (await world.redeem(URL, code)).status == 200


async def test_a_url_that_nobody_consented_to_is_no_client_at_the_token_endpoint(world: World, hosts: Hosts):
    assert error_of(await world.redeem(URL, "code")) == (401, "invalid_client")
    await Browser(world).consent(authorization_url(URL), decision="deny")
    assert error_of(await world.redeem(URL, "code")) == (401, "invalid_client")


async def test_a_redirect_uri_counts_only_if_the_document_has_it(world: World):
    answer = await world.send("GET", authorization_url(URL, redirect_uri="https://evil.example/cb"))
    assert (answer.status, "location" in answer.headers) == (400, False)


async def test_the_page_shows_the_clients_host_and_the_redirect_host_and_warns_of_this_machine(world: World):
    page = (await Browser(world).consent_page(authorization_url(URL))).body.decode()
    assert "app.example" in page
    assert "localhost:51000" in page
    assert "Take care." in page


async def test_a_document_that_can_not_be_used_ends_on_a_page_that_does_not_say_why(world: World, hosts: Hosts):
    hosts.put(URL, client_secret="x")
    pages = []
    for url in (URL, "https://app.example/nothing", "https://localhost/client.json", "https://app.example/"):
        answer = await world.send("GET", authorization_url(url))
        assert (answer.status, "location" in answer.headers) == (400, False)
        pages.append(answer.body.split(b"</style>")[1])
    assert len(set(pages)) == 1
    assert b"document" in pages[0]
    assert hosts.asked == [URL, "https://app.example/nothing"]  # our own host is not asked, nor what is no id


async def test_switched_off_nothing_is_fetched_and_nothing_is_promised(tmp_path: Path, hosts: Hosts):
    for on in (True, False):
        world = World(tmp_path / f"{on}.db", switched(on=on), fetch=hosts.fetch)
        metadata = json.loads((await world.send("GET", "/.well-known/oauth-authorization-server")).body)
        assert metadata.get("client_id_metadata_document_supported", False) is on
        assert (await world.send("GET", authorization_url(URL))).status == (200 if on else 400)
        world.store.close()
    assert hosts.asked == [URL]


# --- what is remembered


async def test_a_changed_document_counts_when_its_time_is_over(clients: KnownClients, world: World, hosts: Hosts):
    hosts.cache_control = "max-age=600"

    async def name() -> str:
        client = await clients.find(URL, peer=PEER)
        assert client is not None
        return client.name

    assert await name() == "App"
    hosts.put(URL, client_name="Changed")
    world.now += 599
    assert await name() == "App"
    world.now += 1
    assert await name() == "Changed"
    await clients.keep(URL, peer=PEER)
    kept = await world.store.clients.find(URL)
    assert kept is not None
    assert kept.name == "Changed"
    assert len(hosts.asked) == 2


async def test_a_failure_is_not_remembered(clients: KnownClients, hosts: Hosts):
    document = hosts.documents.pop(URL)
    with pytest.raises(OAuthError):
        await clients.find(URL, peer=PEER)
    hosts.documents[URL] = {**document, "client_name": ""}
    with pytest.raises(OAuthError):
        await clients.find(URL, peer=PEER)
    hosts.documents[URL] = document
    assert await clients.find(URL, peer=PEER)
    assert len(hosts.asked) == 3


async def herd(clients: KnownClients, hosts: Hosts, size: int) -> list[str]:
    """Let many ask for one document at once, and give what each got."""
    hosts.open = trio.Event()
    outcomes: list[str] = []

    async def one() -> None:
        try:
            client = await clients.find(URL, peer=PEER)
        except OAuthError as error:
            outcomes.append(error.error)
        else:
            outcomes.append("" if client is None else client.name)

    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        hosts.open.set()
    return outcomes


async def test_a_herd_of_64_asks_once_and_shares_what_comes(clients: KnownClients, hosts: Hosts):
    assert await herd(clients, hosts, 64) == ["App"] * 64
    assert hosts.asked == [URL]


async def test_a_herd_shares_a_failure_too(clients: KnownClients, hosts: Hosts):
    hosts.documents.clear()
    assert await herd(clients, hosts, 64) == ["invalid_client"] * 64
    assert hosts.asked == [URL]


async def test_when_who_asked_first_goes_away_another_asks_in_its_place(clients: KnownClients, hosts: Hosts):
    hosts.open = trio.Event()
    found = []

    async def one(scope: trio.CancelScope) -> None:
        with scope:
            found.append(await clients.find(URL, peer=PEER))

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(one, second)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        hosts.open.set()
    assert len(found) == 1
    assert hosts.asked == [URL, URL]


async def test_what_is_remembered_is_bounded_and_the_least_used_goes_first(
    clients: KnownClients, world: World, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client_documents, "REMEMBERED_MAX", 2)
    urls = [f"https://app.example/{number}" for number in range(3)]
    for url in urls:
        hosts.put(url)
    for url in (urls[0], urls[1], urls[0], urls[2], urls[0], urls[1]):
        assert await clients.find(url, peer=PEER)
    assert hosts.asked == [urls[0], urls[1], urls[2], urls[1]]


# --- how often


async def test_fetches_are_bounded_for_who_asks_and_for_who_is_asked(
    clients: KnownClients, world: World, monkeypatch: pytest.MonkeyPatch
):
    async def status(url: str, peer: str) -> int:
        try:
            await clients.find(url, peer=peer)
        except web.HttpError as error:
            return error.status
        except OAuthError as error:
            return error.status
        return 200

    limit = client_documents.FETCHES_PER_MINUTE
    by_one = [await status(f"https://{number}.example/c", "2001:db8::1") for number in range(limit)]
    assert by_one == [401] * limit
    assert await status("https://more.example/c", "2001:db8::2") == 429
    assert await status("https://more.example/c", "192.0.2.2") == 401
    of_one = [await status(f"https://one.example/{number}", f"192.0.2.{number}") for number in range(limit)]
    assert of_one == [401] * limit
    assert await status("https://one.example/more", "198.51.100.1") == 429
    world.now += 60
    assert await status("https://one.example/more", "198.51.100.1") == 401
