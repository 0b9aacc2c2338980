"""https over real sockets: what fails in a handshake costs its own connection alone."""

import socket
import ssl
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tenantry import web
from tenantry.forwarded import Proxies, network
from tenantry.server.application import application
from tenantry.server.asgi import ASGIApp
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.host import HostLimits, TlsError, tls_context
from tests.certificates import Certificate, self_signed
from tests.fuzz import packets
from tests.fuzz.packets import GOOD, PRIOR_KNOWLEDGE, Baseline, answer, hosted, talk

KEPT = b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: Certificate) -> ssl.SSLContext:
    return tls_context(certificate.certfile, certificate.keyfile)


@pytest.fixture(autouse=True, params=[True, False], ids=["lean", "stock"])
def lean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test runs with either way of speaking HTTP/1.1."""
    monkeypatch.setattr(packets, "LEAN", request.param)
    return bool(request.param)


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as lines:
        yield lines


def plain() -> ASGIApp:
    return application(answer, closing=trio.Event())


async def talk_tls(port: int, context: ssl.SSLContext, *packets: bytes) -> bytes:
    """Send `packets` over TLS and give all that comes; the server must say that it has ended."""
    received = b""
    with trio.fail_after(30):
        async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
            stream = trio.SSLStream(tcp, context, server_hostname="localhost")
            for packet in packets:
                await stream.send_all(packet)
            async for data in stream:
                received += data
    return received


@pytest.mark.trio
async def test_a_request_over_tls_is_answered_and_the_end_is_said(certificate, tls):
    async with hosted(plain(), tls=tls) as port:
        baseline = Baseline.now()
        assert (await talk_tls(port, certificate.client(), GOOD)).endswith(b"ok")
        assert (await talk_tls(port, certificate.client("http/1.1"), KEPT + GOOD)).count(b"HTTP/1.1 200") == 2
        await baseline.restored()


@pytest.mark.trio
async def test_an_early_answer_over_tls_reaches_a_client_that_writes_all_before_it_reads(certificate, tls):
    size = 1024 * 1024
    head = b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    async with hosted(plain(), tls=tls) as port:
        assert (await talk_tls(port, certificate.client(), head, b"x" * size)).startswith(b"HTTP/1.1 401")


@pytest.mark.trio
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(certificate, tls, version):
    client = certificate.client()
    client.minimum_version = client.maximum_version = version
    async with hosted(plain(), tls=tls) as port:
        assert (await talk_tls(port, client, GOOD)).endswith(b"ok")


@pytest.mark.trio
@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256"])
async def test_ciphers_without_forward_secrecy_or_authenticated_encryption_are_refused(certificate, tls, cipher, logs):
    client = certificate.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(cipher)
    async with hosted(plain(), tls=tls) as port:
        with pytest.raises(trio.BrokenResourceError):
            await talk_tls(port, client, GOOD)
    assert [line["event"] for line in logs] == ["tls_handshake_failed"]


def test_older_versions_compression_and_renegotiation_are_off(tls):
    assert tls.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.options & ssl.OP_NO_COMPRESSION
    assert tls.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.trio
@pytest.mark.parametrize("packet", [GOOD, PRIOR_KNOWLEDGE, b"\x16\x03\x01\x02\x00" + b"\x01" * 600, b"\x15\x03", b""])
async def test_what_is_no_handshake_costs_its_own_connection_and_no_more_than_one_line(certificate, tls, packet, logs):
    async with hosted(plain(), tls=tls) as port:
        baseline = Baseline.now()
        for _ in range(3):
            assert b"HTTP" not in await talk(port, packet, half_close=True)
        assert (await talk_tls(port, certificate.client(), GOOD)).endswith(b"ok")
        await baseline.restored()
    assert [line["event"] for line in logs] == ["tls_handshake_failed"]
    assert not any("exc_info" in line for line in logs)


@pytest.mark.trio
async def test_a_client_that_offers_no_protocol_of_ours_is_answered_by_http_1_1(certificate, tls):
    async with hosted(plain(), tls=tls) as port:
        assert (await talk_tls(port, certificate.client("spdy/3"), GOOD)).endswith(b"ok")


@pytest.mark.trio
async def test_a_handshake_that_does_not_come_is_not_waited_for(tls):
    async with hosted(plain(), tls=tls, limits=HostLimits(handshake_timeout_s=0.05)) as port:
        baseline = Baseline.now()
        assert await talk(port, b"\x16\x03\x01") == b""
        await baseline.restored()


@pytest.mark.trio
async def test_a_stop_waits_for_no_handshake(tls):
    stop = trio.Event()
    with trio.fail_after(30):
        async with (
            hosted(plain(), tls=tls, shutdown=stop, limits=HostLimits(stop_grace_s=3600)) as port,
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
        ):
            await stream.send_all(b"\x16\x03\x01")
            await trio.testing.wait_all_tasks_blocked(0.02)
            stop.set()
            assert await stream.receive_some() == b""


@pytest.mark.trio
async def test_a_stop_ends_streams_over_tls_with_their_last_chunk(certificate, tls):
    stop = trio.Event()

    async def quiet(send: SendBytes) -> None:
        await send(b"data: 1\n\n")
        stop.set()
        await trio.sleep_forever()

    async def handle(exchange: Exchange) -> Answer:
        return EventStream(run=quiet)

    async with hosted(application(handle, closing=stop), tls=tls, shutdown=stop) as port:
        received = await talk_tls(port, certificate.client(), KEPT)
    assert received.endswith(b"data: 1\n\n\r\n0\r\n\r\n")


@pytest.mark.trio
async def test_a_reader_that_stalls_over_tls_is_cut_at_the_send_deadline(certificate, tls):
    async def flood(send: SendBytes) -> None:
        while True:
            await send(b"x" * 1024 * 1024)

    async def handle(exchange: Exchange) -> Answer:
        return EventStream(run=flood)

    app = application(handle, closing=trio.Event())
    async with hosted(app, tls=tls, limits=HostLimits(send_timeout_s=0.05)) as port:
        before = Baseline.now()
        tcp = await trio.open_tcp_stream("127.0.0.1", port)
        stream = trio.SSLStream(tcp, certificate.client(), server_hostname="localhost")
        await stream.send_all(KEPT)
        await Baseline(before.tasks, before.descriptors + 1).restored()  # the client's own end
        await trio.aclose_forcefully(stream)


def test_files_that_can_not_be_used_are_named(tmp_path, certificate):
    other = self_signed(tmp_path)
    locked_directory = tmp_path / "locked"
    locked_directory.mkdir()
    locked = self_signed(locked_directory, password=b"secret")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    for pair, reason in (
        ((tmp_path / "none.pem", certificate.keyfile), "none.pem: No such file"),
        ((certificate.certfile, tmp_path / "none.pem"), "none.pem: No such file"),
        ((certificate.certfile, tmp_path), "Is a directory"),
        ((certificate.certfile, other.keyfile), "MISMATCH"),
        ((locked.certfile, locked.keyfile), "password"),
        ((garbage, certificate.keyfile), "garbage.pem"),
    ):
        with pytest.raises(TlsError, match=reason):
            tls_context(*pair)


# --- what https changes for the application


@pytest.mark.trio
@pytest.mark.parametrize("path", [b"/ok", b"/nothing", b"/stream", b"/unread"])
async def test_every_answer_over_https_asks_for_https_for_good_and_none_in_the_clear(certificate, tls, path):
    app = application(answer, closing=trio.Event(), https_for_good=True)
    packet = GOOD.replace(b"/ok", path)
    async with hosted(app, tls=tls) as port:
        secure = await talk_tls(port, certificate.client(), packet)
    async with hosted(app) as port:
        clear = await talk(port, packet)
    assert b"\r\nstrict-transport-security: max-age=31536000\r\n" in secure
    assert b"strict-transport-security" not in clear


async def _whence(exchange: Exchange) -> Answer:
    return web.Response(status=200, body=f"{exchange.request.peer} {exchange.request.scheme}".encode())


FORWARDED = GOOD.replace(
    b"Host: h\r\n", b"Host: h\r\nX-Forwarded-For: 203.0.113.66, 203.0.113.5\r\nX-Forwarded-Proto: https\r\n"
)


@pytest.mark.trio
async def test_behind_a_proxy_the_client_is_whom_the_proxy_names():
    app = application(_whence, closing=trio.Event(), proxies=Proxies((network("127.0.0.1"),)), https_for_good=True)
    async with hosted(app) as port:
        received = await talk(port, FORWARDED)
        contradiction = FORWARDED.replace(b"Host: h\r\n", b"Host: h\r\nForwarded: for=192.0.2.9\r\n")
        refused = await talk(port, contradiction)
    assert received.endswith(b"203.0.113.5 https")
    assert b"strict-transport-security" in received
    assert refused.startswith(b"HTTP/1.1 400")


@pytest.mark.trio
async def test_from_anybody_else_the_fields_say_nothing():
    app = application(_whence, closing=trio.Event(), proxies=Proxies((network("10.0.0.0/8"),)), https_for_good=True)
    async with hosted(app) as port:
        received = await talk(port, FORWARDED)
    assert received.endswith(b"127.0.0.1 http")
    assert b"strict-transport-security" not in received


@pytest.mark.trio
async def test_a_proxy_has_any_number_of_connections_and_a_stranger_has_not():
    limits = HostLimits(max_connections_per_peer=1)
    for is_proxy, wanted in ((Proxies((network("127.0.0.1"),)).trusts, True), (Proxies().trusts, False)):
        async with hosted(plain(), limits=limits, is_proxy=is_proxy) as port:
            with socket.create_connection(("127.0.0.1", port)):
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert (await talk(port, GOOD)).endswith(b"ok") is wanted
