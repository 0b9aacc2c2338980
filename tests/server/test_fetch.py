"""Fetching what a stranger points at: which addresses, what of an answer, how much and how long."""

import gzip
import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tenantry.oauth.client_documents import Location, location
from tenantry.server import fetch
from tenantry.server.fetch import Fetcher, FetchFailed, Resolver, is_public
from tests.net import HOST, PUBLIC, Net, answered, open_net

URL = f"https://{HOST}/client.json?v=1"
OK = answered(b"{}")
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with open_net() as net:
        yield net


async def failed(fetcher: Fetcher, url: str = URL) -> str:
    with pytest.raises(FetchFailed) as caught:
        await fetcher.get(location(url))
    return str(caught.value)


# --- addresses


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *(
            "64:ff9b:1::1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::",
            "2002:808:808::",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        ),
        *("2001:db8::1", "3fff::1", "5f00::1", "100::1", "4000::1", "2001:2::1", "2001:10::1"),
    ],
)
def test_what_not_everybody_can_reach_is_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_what_everybody_can_reach_is_public(address: str):
    assert is_public(address)


async def test_the_request_goes_to_the_address_that_was_looked_at(net: Net):
    net.answer = answered(b'{"a": 1}', cache_control="max-age=60")
    fetched = await net.fetcher().get(location(URL))
    assert (fetched.body, fetched.cache_control) == (b'{"a": 1}', "max-age=60")
    assert (net.asked, net.connected) == ([HOST], [(socket.AF_INET, (PUBLIC, 443))])
    [request] = net.requests
    head, *fields = request.decode().split("\r\n")
    assert head == "GET /client.json?v=1 HTTP/1.1"
    assert {field.partition(":")[0].lower() for field in fields if field} == {
        *("host", "accept", "user-agent", "connection")
    }
    assert "host: app.example" in fields


@pytest.mark.parametrize(
    "addresses",
    [["10.0.0.1"], [PUBLIC, "10.0.0.1"], ["::1", PUBLIC], [PUBLIC, "2606:4700::1111", "::ffff:7f00:1"], []],
)
async def test_one_address_that_is_not_public_is_enough_to_go_nowhere(net: Net, addresses: list[str]):
    net.names[HOST] = addresses
    assert "not public" in await failed(net.fetcher())
    assert net.connected == []


async def test_a_name_that_changes_its_mind_is_asked_once(net: Net):
    meanings = iter([[PUBLIC], ["127.0.0.1"]])
    resolve = net.resolve

    async def rebinding(host: str, port: int) -> list[fetch.Address]:
        net.names[HOST] = next(meanings)
        return await resolve(host, port)

    net.answer = OK
    fetcher = Fetcher(resolve=rebinding, connect=net.connect, tls=net.fetcher()._tls)
    await fetcher.get(location(URL))
    assert [target[0] for _, target in net.connected] == [PUBLIC]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.1", "127.1", "0", "[::1]", "[::ffff:7f00:1]", "localhost"],
)
async def test_however_this_machine_is_spelled_it_is_not_asked(host: str):
    with pytest.raises(FetchFailed, match="not public"):
        await Fetcher().get(location(f"https://{host}/client.json"))


async def test_the_systems_resolver_and_a_real_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [address] = await Resolver()("127.0.0.1", port)
        assert address == (socket.AF_INET, ("127.0.0.1", port))
        stream = await fetch.connect(address)
        with server.accept()[0] as peer:
            await stream.send_all(b"x")
            assert peer.recv(1) == b"x"
        await stream.aclose()
    with pytest.raises(OSError, match="refused"):
        await fetch.connect(address)


async def test_a_host_of_which_one_address_does_not_answer_is_reached_by_the_next(net: Net):
    net.names[HOST] = ["2606:4700::1111", PUBLIC]
    net.answer = OK
    connect = net.connect

    async def without_ipv6(address: fetch.Address) -> trio.abc.Stream:
        if address[0] == socket.AF_INET6:
            raise OSError("no route")
        return await connect(address)

    net.connect = without_ipv6  # type: ignore[method-assign]
    await net.fetcher().get(location(URL))
    assert len(net.connected) == 1


async def test_a_name_that_nobody_knows_and_a_port_that_is_not_admitted(net: Net):
    net.answer = OK
    assert "no such name" in await failed(net.fetcher(), "https://other.example/c")
    assert "port" in await failed(net.fetcher(), f"https://{HOST}:8443/c")
    await net.fetcher(ports=[443, 8443]).get(location(f"https://{HOST}:8443/c"))
    assert net.requests[0].split(b"\r\n")[1] == b"host: app.example:8443"


async def test_the_certificate_must_be_the_names(net: Net):
    net.certified = "elsewhere.example"
    net.answer = OK
    assert "CERTIFICATE_VERIFY_FAILED" in await failed(net.fetcher())
    assert net.requests == []


# --- answers


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answered(b"{}", status="301 Moved", location=URL), "301"),
        (answered(b"{}", status="302 Found", location="https://10.0.0.1/"), "302"),
        (answered(b"{}", status="307 Again", location=URL), "307"),
        (answered(b"{}", status="308 Moved", location=URL), "308"),
        (answered(b"{}", status="201 Created"), "201"),
        (answered(b"", status="304 Not Modified"), "304"),
        (answered(b"{}", status="404 Not Found"), "404"),
        (answered(b"{}", status="500 Broken"), "500"),
        (answered(b"{}", kind="text/html"), "JSON"),
        (answered(b"{}", kind="application/jsonp"), "JSON"),
        (answered(b"{}", kind="text/x+json"), "JSON"),
        (answered(b"{}", Content_Type="application/json"), "JSON"),
        (answered(gzip.compress(b"{}" * 1000), content_encoding="gzip"), "encoded"),
        (answered(b"{}", content_encoding="br"), "encoded"),
        (b"", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\n", "RemoteProtocolError"),
        (b"SSH-2.0-x\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "RemoteProtocolError"),
        (answered(b"{}")[:-1], "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 20_000, "RemoteProtocolError"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, "too long"),
        (answered(b" " * (fetch.MAX_BODY + 1)), "too long"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + b" " * 100_000, "too long"),
        (CHUNKED + (b"1;" + b"x" * 100 + b"\r\n \r\n") * 1000, "too long"),
    ],
)
async def test_an_answer_that_is_no_document_is_refused(net: Net, answer: bytes, reason: str):
    net.answer = answer
    assert reason in await failed(net.fetcher())
    assert len(net.connected) == 1


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
        answered(b"{}", kind="Application/JSON; charset=utf-8"),
        answered(b"{}", kind="application/client+json"),
        answered(b"{}", content_encoding="identity"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
        answered(b"{}" + b" " * (fetch.MAX_BODY - 2)),
    ],
)
async def test_a_document_may_come_in_every_plain_form(net: Net, answer: bytes):
    net.answer = answer
    assert (await net.fetcher().get(location(URL))).body.strip() == b"{}"


# --- time and number; the clock is the test's


async def drip(stream: trio.abc.Stream) -> None:
    """One byte a second, for ever."""
    await stream.send_all(answered(b" " * 1000)[:-1000])
    while True:
        await trio.sleep(1)
        await stream.send_all(b" ")


async def silence(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize("server", [drip, silence])
async def test_a_server_that_takes_its_time_is_left(net: Net, autojump_clock: trio.testing.MockClock, server):
    net.answer = server
    assert await failed(net.fetcher()) == "it took too long"
    assert trio.current_time() == fetch.TOTAL_S


async def test_a_name_server_that_takes_its_time_is_left(net: Net, autojump_clock: trio.testing.MockClock):
    async def never(_host: str, _port: int) -> list[fetch.Address]:
        await trio.sleep_forever()
        raise AssertionError

    assert await failed(Fetcher(resolve=never, connect=net.connect)) == "it took too long"


async def test_a_few_fetches_go_on_at_once_and_others_wait_no_longer_than_they_may(
    net: Net, autojump_clock: trio.testing.MockClock
):
    net.answer = silence
    fetcher = net.fetcher()
    reasons: list[str] = []

    async def one(where: Location) -> None:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.get(where)
        reasons.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for number in range(3 * fetch.AT_ONCE):
            nursery.start_soon(one, location(f"https://{HOST}/{number}"))
    assert reasons == ["it took too long"] * 3 * fetch.AT_ONCE
    assert trio.current_time() == fetch.TOTAL_S
    assert len(net.connected) == fetch.AT_ONCE


async def test_a_fetch_that_nobody_waits_for_any_more_gives_its_place_back(net: Net):
    net.answer = silence
    fetcher = net.fetcher()
    for _ in range(fetch.AT_ONCE + 1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetcher.get, location(URL))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    net.answer = OK
    assert (await fetcher.get(location(URL))).body == b"{}"
