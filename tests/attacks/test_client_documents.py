"""Attacks by a client's id that is a URL: the server is to become a stranger's tool, or to believe a bad document.

The authorization endpoint is asked as a browser asks it; the net behind the fetch is the test's.
"""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tenantry import web
from tenantry.server import client_documents, fetch
from tests.attacks.table import attack
from tests.net import HOST, PUBLIC, Net, answered, open_net
from tests.oauth.flow import REDIRECT, Browser, World, authorization_url, config

URL = f"https://{HOST}/client.json"


def document(**changes: object) -> bytes:
    """A good document but for the changes; None takes a member out."""
    members = {"client_id": URL, "client_name": "App", "redirect_uris": [REDIRECT], **changes}
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


@asynccontextmanager
async def attacked(tmp_path: Path, **more: Any) -> AsyncIterator[tuple[World, Net]]:
    """A server with client documents on, and the net that it sees; nothing is left running behind it."""
    async with open_net() as net:
        net.answer = answered(document())
        world = World(
            tmp_path / "state.db",
            config(clients={"client_id_metadata_documents": True}),
            fetch=net.fetcher(**more).get,
        )
        yield world, net
    assert not any("failed" in row["kind"] for row in world.audit.rows)
    world.store.close()


async def asked(world: World, url: str = URL, **changes: str | None) -> web.Response:
    """The answer to an authorization request of that client."""
    return await world.send("GET", authorization_url(url, **changes))


def is_login(answer: web.Response) -> bool:
    return answer.status == 200 and b'type="password"' in answer.body


def is_refused(answer: web.Response) -> bool:
    return answer.status in (400, 429) and "location" not in answer.headers


@attack("CIMD-SSRF-03", modes=())
async def test_a_name_that_changes_its_mind_leads_where_it_was_looked_at(tmp_path):
    async with attacked(tmp_path) as (world, net):
        assert is_login(await asked(world))
        assert [target[0] for _, target in net.connected] == [PUBLIC]
        for number, addresses in enumerate(
            (["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC, "::1"], ["169.254.169.254"], [])
        ):
            net.names[HOST] = addresses
            assert is_refused(await asked(world, f"https://{HOST}/{number}.json")), addresses
        assert len(net.connected) == 1
        # A name is asked once a fetch: what it means a moment later is not looked at.
        meanings = [[PUBLIC], ["127.0.0.1"]]

        class Rebinding(dict[str, list[str]]):
            def __getitem__(self, _: str) -> list[str]:
                return meanings.pop(0) if len(meanings) > 1 else meanings[0]

        net.names = Rebinding({HOST: []})
        net.answer = answered(document(client_id=f"https://{HOST}/rebinding.json"))
        assert is_login(await asked(world, f"https://{HOST}/rebinding.json"))
        assert {target[0] for _, target in net.connected} == {PUBLIC}
        assert b"host: app.example" in net.requests[-1].lower()


@attack("CIMD-SSRF-04", modes=())
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://169.254.169.254/", "https://127.0.0.1/x", f"https://{HOST}/other.json"])
async def test_no_redirect_is_followed(tmp_path, status, place):
    async with attacked(tmp_path) as (world, net):
        body = document()
        head = f"HTTP/1.1 {status} Moved\r\nlocation: {place}\r\ncontent-type: application/json\r\n"
        net.answer = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        assert is_refused(await asked(world))
        assert len(net.connected) == len(net.asked) == 1


SPELLINGS = ("2130706433", "0177.1", "0x7f000001", "127.1", "0", "127.0.0.1", "[::1]", "[::ffff:7f00:1]", "localhost")


@attack("CIMD-SSRF-05", modes=())
@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_this_machine_is_asked(tmp_path, host, monkeypatch):
    connected: list[object] = []

    async def connect(address: fetch.Address) -> trio.abc.Stream:
        connected.append(address)
        raise OSError("nobody is there")

    world = World(
        tmp_path / "state.db",
        config(public_url="https://mcp.example.com", clients={"client_id_metadata_documents": True}),
        fetch=fetch.Fetcher(connect=connect).get,  # names mean what they mean on this machine
    )
    answer = await world.send("GET", authorization_url(f"https://{host}/client.json", resource=None))
    assert is_refused(answer)
    assert connected == []
    world.store.close()


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


@attack("CIMD-SSRF-06", modes=())
@pytest.mark.parametrize(
    "how", ["announced", "without a length", "chunked", "compressed", "headers without end", "drops"]
)
async def test_a_document_that_does_not_end_is_cut(tmp_path, how, autojump_clock):
    sent = 0

    async def endless(stream: trio.abc.Stream) -> None:
        nonlocal sent
        head, piece, pause = {
            "announced": (
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n",
                b"x" * 65536,
                0,
            ),
            "without a length": (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", b"x" * 65536, 0),
            "chunked": (CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", 0),
            "headers without end": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 1000, 0),
            "drops": (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", b"x", 1),
            "compressed": (b"", b"", 0),
        }[how]
        await stream.send_all(head)
        for _ in range(1600):
            await stream.send_all(piece)
            sent += len(piece)
            await trio.sleep(pause)

    async with attacked(tmp_path) as (world, net):
        net.answer = endless
        if how == "compressed":
            bomb = gzip.compress(document() + b" " * 50_000_000)[:14_000]
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n"
            net.answer = head + bomb
        with trio.fail_after(8):
            assert is_refused(await asked(world))
        assert sent < 1024 * 1024


BAD = {
    "another client's id": document(client_id=f"https://{HOST}/other.json"),
    "with a port": document(client_id=f"https://{HOST}:443/client.json"),
    "in capitals": document(client_id=URL.upper()),
    "with a slash": document(client_id=URL + "/"),
    "no id": document(client_id=None),
    "a secret": document(client_secret="s3cret"),
    "a secret's end": document(client_secret_expires_at=0),
    "a private key": document(jwks={"keys": [{"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "c"}]}),
    "a shared key": document(jwks={"keys": [{"kty": "oct", "k": "c"}]}),
    "a secret's method": document(token_endpoint_auth_method="client_secret_post"),
    "no redirects": document(redirect_uris=None),
    "a script": document(redirect_uris=["javascript:alert(1)"]),
    "plain http": document(redirect_uris=["http://app.example/cb"]),
    "no object": b"[]",
    "no json": b"<html>",
    "doubled": document()[:-1] + b', "client_id": "' + URL.encode() + b'"}',
}


@attack("CIMD-SSRF-07", modes=())
@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
async def test_a_document_that_is_not_its_own_or_holds_secrets_is_not_believed(tmp_path, body):
    async with attacked(tmp_path) as (world, net):
        net.answer = answered(body)
        assert is_refused(await asked(world))
        kinds = (b"text/html", b"text/plain", b"application/javascript", b"")
        for number, kind in enumerate(kinds):
            url = f"https://{HOST}/{number}.json"
            good = document(client_id=url)
            net.answer = (
                b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: %d\r\n\r\n" % len(good) + good
            )
            assert is_refused(await asked(world, url)), kind
        url = f"https://{HOST}/good.json"
        net.answer = answered(document(client_id=url))
        assert is_login(await asked(world, url))


@attack("CIMD-SSRF-08", modes=())
async def test_a_cached_document_is_neither_eternal_nor_one_of_thousands_nor_fetched_by_each(tmp_path, monkeypatch):
    async with attacked(tmp_path) as (world, net):
        net.answer = answered(document(), cache_control="max-age=315360000")
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(asked, world)
        assert len(net.connected) == 1  # one flight for the herd
        net.answer = answered(document(redirect_uris=["https://app.example/changed"]), cache_control="no-store")
        world.now += 86_000
        assert is_login(await asked(world))
        world.now += 1_000  # a day is over, whatever the document said
        assert is_refused(await asked(world))
        fetched = len(net.connected)
        world.now += 59
        await asked(world)
        assert len(net.connected) == fetched
        world.now += 2
        await asked(world)
        assert len(net.connected) == fetched + 1  # believed for a minute at the least, no longer if so asked
        net.answer = answered(b"no json")
        for url in (f"https://{HOST}/broken.json",) * 2:
            assert is_refused(await asked(world, url))
        net.answer = answered(document(client_id=f"https://{HOST}/broken.json"))
        assert is_login(await asked(world, f"https://{HOST}/broken.json"))  # a failure is not kept
        monkeypatch.setattr(client_documents, "REMEMBERED_MAX", 20)
        for number in range(60):
            world.now += 3
            url = f"https://{HOST}/{number}.json"
            net.answer = answered(document(client_id=url))
            await asked(world, url)
        assert len(world.login._clients._documents) <= 20
        refused = 0
        for number in range(100):
            answer = await asked(world, f"https://{HOST}/flood-{number}.json")
            refused += answer.status == 429
        assert refused >= 60


@attack("CIMD-SSRF-09", modes=())
async def test_a_client_by_url_that_wants_its_answer_on_this_machine_is_warned_of(tmp_path):
    async with attacked(tmp_path) as (world, net):
        warned = (await Browser(world).consent_page(authorization_url(URL))).body.decode()
        assert HOST in warned  # whose document it is
        assert "localhost:51000" in warned  # and where the answer goes
        assert "Take care" in warned
        url = f"https://{HOST}/web.json"
        net.answer = answered(document(client_id=url, redirect_uris=["https://app.example/cb"]))
        page = await Browser(world).consent_page(authorization_url(url, redirect_uri="https://app.example/cb"))
        assert b"Take care" not in page.body
        assert b"app.example" in page.body
