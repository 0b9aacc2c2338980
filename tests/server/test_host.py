"""The host over real sockets: what one stranger sends must cost nobody else anything."""

import errno
import gc
import socket
from collections.abc import Iterator, MutableMapping
from functools import partial
from typing import Any, NoReturn

import pytest
import trio
from structlog.testing import capture_logs

from tenantry import web
from tenantry.server.application import application
from tenantry.server.asgi import ASGIApp, Receive, Send
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.host import HostLimits, bind, connection, listener, serve
from tenantry.server.host.connection import peer_key
from tests.departing import until_left
from tests.fuzz import packets
from tests.fuzz.packets import GOOD, H2C, PRIOR_KNOWLEDGE, WEBSOCKET, Baseline, answer, hosted, talk
from tests.server.in_process import until

POST = b"POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"
KEPT = b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"


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


def status(received: bytes) -> int:
    assert received.startswith(b"HTTP/1.1 "), received[:80]
    return int(received[9:12])


async def receive_until(stream: trio.SocketStream, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        data = await stream.receive_some(65536)
        assert data, received[-200:]
        received += data
    return received


async def receive_all(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass
    return received


TAIL = WEBSOCKET.replace(b"/ws", b"/audit/tail")
ONE_PACKET = {
    "a websocket where there may be one, refused": (TAIL + b"\r\n", 404),
    "a websocket of another version": (TAIL.replace(b"Version: 13", b"Version: 8") + b"\r\n", 400),
    "a websocket without a key": (TAIL.replace(b"Sec-WebSocket-Key", b"X") + b"\r\n", 400),
    "a websocket with non-ascii extensions where there may be one": (
        TAIL + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
        404,
    ),
    "a websocket upgrade with a byte behind it": (WEBSOCKET + b"\r\nX", 404),
    "a websocket with non-ascii extensions": (WEBSOCKET + b"Sec-WebSocket-Extensions: \xff\r\n\r\n", 404),
    "a websocket with a bad window": (
        WEBSOCKET + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=abc\r\n\r\n",
        404,
    ),
    "a websocket with subprotocols": (WEBSOCKET + b"Sec-WebSocket-Protocol: one, two\r\n\r\n", 404),
    "an upgrade followed by a no-break space": (
        WEBSOCKET.replace(b"Upgrade\r\n", b"Upgrade\xa0\r\n", 1) + b"\r\n",
        404,
    ),
    "h2c with settings that are no base64": (H2C + b"!\r\n\r\n", 200),
    "h2c with settings of an odd length": (H2C + b"AAMA\r\n\r\n", 200),
    "h2c with settings out of range": (H2C + b"AAIAAAAC\r\n\r\n", 200),
    "h2c with good settings": (H2C + b"AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", 200),
    "cleartext HTTP/2 by prior knowledge": (PRIOR_KNOWLEDGE, 505),
    "CONNECT": (b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 405),
    "CONNECT with a tunnel's first bytes": (b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03", 405),
    "a body with two framings": (
        b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a transfer coding in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a method in lower case": (b"get /ok HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "1,500 headers": (b"GET /ok HTTP/1.1\r\nHost: h\r\n" + b"a:b\r\n" * 1500 + b"\r\n", 431),
    "17 KiB of headers": (b"GET /ok HTTP/1.1\r\nHost: h\r\na: " + b"b" * 17 * 1024 + b"\r\n\r\n", 431),
    "70 KiB of headers": (b"GET /ok HTTP/1.1\r\nHost: h\r\na: " + b"b" * 70 * 1024 + b"\r\n\r\n", 431),
    "a target of 17 KiB": (b"GET /" + b"a" * 17 * 1024 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 431),
    "two Host fields": (b"GET /ok HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
    "two Authorization fields": (
        b"GET /ok HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
        400,
    ),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "a target in absolute form": (b"GET http://h/ok HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    "an encoded path": (b"GET /%6fk HTTP/1.1\r\nHost: h\r\n\r\n", 404),
}


@pytest.mark.trio
@pytest.mark.parametrize(("packet", "wanted"), ONE_PACKET.values(), ids=ONE_PACKET.keys())
async def test_after_one_hostile_packet_the_server_answers_the_next_request(packet, wanted, logs):
    async with hosted(plain()) as port:
        baseline = Baseline.now()
        assert status(await talk(port, packet, half_close=True)) == wanted
        assert status(await talk(port, GOOD)) == 200
        await baseline.restored()
    assert logs == []


@pytest.mark.trio
@pytest.mark.parametrize(
    "packet",
    [packet for packet, wanted in ONE_PACKET.values() if wanted in (405, 431, 505)],
    ids=[name for name, (_, wanted) in ONE_PACKET.items() if wanted in (405, 431, 505)],
)
async def test_a_refused_request_closes_the_connection_although_the_client_keeps_it_open(packet):
    async with hosted(plain()) as port:
        baseline = Baseline.now()
        assert b"connection: close" in (await talk(port, packet)).lower()
        await baseline.restored()


@pytest.mark.trio
@pytest.mark.parametrize(
    "frames",
    [
        b"X" * 10,
        b"\x81\x01a",
        b"\x88\x80\0\0\0\0" * 3,
        b"\x81\xff" + b"\x7f" * 12,
        b"\x01\x80\0\0\0\0" * 9,
        b"\x89\x80\0\0\0\0" * 50,
    ],
    ids=["noise", "unmasked", "closed thrice", "endless", "fragments", "pings"],
)
async def test_what_comes_on_a_websocket_costs_its_own_connection_alone(frames, logs):
    async def socket(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await plain()(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with hosted(socket) as port:
        baseline = Baseline.now()
        await talk(port, TAIL + b"\r\n" + frames, half_close=True)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(TAIL + b"\r\n")
            await receive_until(stream, b"\r\n\r\n")
            await stream.send_all(frames)
        assert status(await talk(port, GOOD)) == 200
        await baseline.restored()
    assert logs == []


@pytest.mark.trio
async def test_an_application_that_breaks_costs_its_own_connection_and_one_line(logs):
    async def broken(scope: Any, receive: Receive, send: Send) -> None:
        if scope["raw_path"] == b"/ok":
            await plain()(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ZeroDivisionError

    async with hosted(broken) as port:
        baseline = Baseline.now()
        assert await talk(port, KEPT.replace(b"/ok", b"/bad")) == b""
        assert status(await talk(port, GOOD)) == 200
        await baseline.restored()
    assert [(line["event"], line["errors"]) for line in logs] == [("connection_failed", ["ZeroDivisionError()"])]


@pytest.mark.trio
async def test_requests_follow_each_other_on_one_connection():
    async with hosted(plain()) as port:
        received = await talk(port, KEPT + POST.replace(b"Connection: close\r\n", b"") + GOOD)
    assert received.count(b"HTTP/1.1 200") == 3
    assert received.endswith(b"ok")


@pytest.mark.trio
async def test_an_answer_has_a_date_and_a_length():
    async with hosted(plain()) as port:
        received = (await talk(port, GOOD)).lower()
    assert b"content-length: 2\r\n" in received
    assert b"date: " in received
    assert b"server: " not in received


@pytest.mark.trio
async def test_a_half_close_after_the_request_still_gets_the_answer():
    async with hosted(plain()) as port:
        assert (await talk(port, POST, half_close=True)).endswith(b"body")


@pytest.mark.trio
@pytest.mark.parametrize("path", [b"/unread", b"/echo"])
async def test_an_early_answer_to_a_big_body_reaches_a_client_that_writes_all_before_it_reads(path):
    size = 4 * 1024 * 1024
    head = b"POST " + path + b" HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    async with hosted(plain()) as port:
        baseline = Baseline.now()
        received = await talk(port, head, b"x" * size)
        await baseline.restored()
    assert status(received) == (401 if path == b"/unread" else 413)
    assert b"connection: close" in received.lower()


@pytest.mark.trio
async def test_an_early_answer_to_a_body_that_stops_coming_closes_after_a_while(monkeypatch):
    monkeypatch.setattr("tenantry.server.exchange.DRAIN_S", 0.05)
    async with hosted(plain()) as port:
        baseline = Baseline.now()
        received = await talk(port, b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nhalf")
        await baseline.restored()
    assert status(received) == 401


@pytest.mark.trio
async def test_an_application_that_reads_nothing_while_the_queue_is_full_can_still_answer():
    full = trio.Event()

    async def deaf(scope: Any, receive: Receive, send: Send) -> None:
        await full.wait()
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    head = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with hosted(deaf) as port:
        baseline = Baseline.now()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(head + b"1\r\na\r\n" * 50)
            await trio.testing.wait_all_tasks_blocked(0.05)
            full.set()
            with trio.fail_after(5):
                assert status(await receive_all(stream)) == 401
        await baseline.restored()


@pytest.mark.trio
@pytest.mark.parametrize("packets", [(), (b"GET /ok HTT",), (b"GET /ok HTT", b"P/1.1\r\nHost:")])
async def test_a_header_that_does_not_come_is_not_waited_for(packets):
    async with hosted(plain(), limits=HostLimits(header_timeout_s=0.05)) as port:
        assert await talk(port, *packets) == b""


@pytest.mark.trio
async def test_an_idle_connection_is_closed():
    async with hosted(plain(), limits=HostLimits(keep_alive_s=0.05)) as port:
        assert status(await talk(port, KEPT)) == 200


@pytest.mark.trio
@pytest.mark.parametrize("pipelined", [True, False])
async def test_a_next_header_that_does_not_end_is_not_waited_for_as_long_as_an_idle_client(pipelined):
    limits = HostLimits(keep_alive_s=3600, header_timeout_s=0.05)
    async with hosted(plain(), limits=limits) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with trio.fail_after(5):
            await stream.send_all(KEPT + b"GET /ok HTT" if pipelined else KEPT)
            await receive_until(stream, b"ok")
            if not pipelined:
                await trio.testing.wait_all_tasks_blocked(0.02)  # the server waits for the next request
                await stream.send_all(b"GET /ok HTT")
            assert await receive_all(stream) == b""


@pytest.mark.trio
@pytest.mark.parametrize(
    "packet", [GOOD, KEPT.replace(b"/ok", b"/" + b"a" * 20_000), b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"]
)
async def test_a_client_that_keeps_a_closed_connection_open_is_not_waited_for(packet, monkeypatch):
    monkeypatch.setattr(connection, "LINGER_S", 0.05)
    async with hosted(plain()) as port:
        before = Baseline.now()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(packet)
        await Baseline(before.tasks, before.descriptors + 1).restored()  # the client's own end
        assert b"connection: close" in (await receive_all(stream)).lower()
        await stream.aclose()


@pytest.mark.trio
async def test_a_refusal_reaches_a_client_that_writes_all_before_it_reads():
    async with hosted(plain()) as port:
        packet = b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 600000\r\n\r\n"
        assert status(await talk(port, packet, b"x" * 300_000, b"x" * 300_000)) == 431


class Held:
    """An application whose answers wait for a gate, and that tells when requests have come in."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.gate = trio.Event()

    async def __call__(self, exchange: Exchange) -> Answer:
        if exchange.request.path == "/ok":
            return web.Response(status=200, body=b"ok")
        self.entered.set()
        await self.gate.wait()
        return web.Response(status=200, body=b"held")


@pytest.mark.trio
async def test_a_stop_answers_requests_in_flight_and_closes_idle_connections_at_once():
    held, stop = Held(), trio.Event()
    async with hosted(application(held, closing=stop), shutdown=stop) as port:
        busy = await trio.open_tcp_stream("127.0.0.1", port)
        idle = await trio.open_tcp_stream("127.0.0.1", port)
        async with busy, idle:
            await idle.send_all(KEPT)
            await receive_until(idle, b"ok")
            await busy.send_all(KEPT.replace(b"/ok", b"/held"))
            await held.entered.wait()
            stop.set()
            with trio.fail_after(5):
                assert await receive_all(idle) == b""
                with pytest.raises(OSError, match="all attempts to connect"):
                    await trio.open_tcp_stream("127.0.0.1", port)
                held.gate.set()
                received = await receive_all(busy)
    assert received.endswith(b"held")
    assert b"connection: close" in received.lower()


@pytest.mark.trio
async def test_a_stop_cuts_what_is_not_answered_within_the_grace():
    held, stop = Held(), trio.Event()
    limits = HostLimits(stop_grace_s=0.05)
    with trio.fail_after(5):
        async with hosted(application(held, closing=stop), shutdown=stop, limits=limits) as port:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(KEPT.replace(b"/ok", b"/held"))
            await held.entered.wait()
        assert await receive_all(stream) == b""
    await stream.aclose()


async def _flood(send: SendBytes) -> None:
    while True:
        await send(b"x" * 1024 * 1024)


async def _streaming(exchange: Exchange) -> Answer:
    return EventStream(run=_flood, outlives_closing=True)


async def _stalled_reader(port: int) -> trio.SocketStream:
    """A client that asks for everything and reads the beginning only."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(KEPT)
    await receive_until(stream, b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.1)
    return stream


@pytest.mark.trio
async def test_a_reader_that_stalls_does_not_hold_up_a_stop():
    stop = trio.Event()
    limits = HostLimits(stop_grace_s=0.05, send_timeout_s=3600)
    with trio.fail_after(5):
        async with hosted(application(_streaming, closing=stop), shutdown=stop, limits=limits) as port:
            stream = await _stalled_reader(port)
    await stream.aclose()


@pytest.mark.trio
async def test_a_reader_that_stalls_is_cut_at_the_send_deadline():
    limits = HostLimits(send_timeout_s=0.05)
    async with hosted(application(_streaming, closing=trio.Event()), limits=limits) as port:
        before = Baseline.now()
        stream = await _stalled_reader(port)
        await Baseline(before.tasks, before.descriptors + 1).restored()  # the client's own end
        await stream.aclose()


@pytest.mark.trio
async def test_a_server_that_is_cancelled_ends_although_a_reader_stalls():
    sock = bind("127.0.0.1", 0)
    app = application(_streaming, closing=trio.Event())
    limits = HostLimits(send_timeout_s=3600)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, app, sockets=[sock], shutdown=trio.Event(), limits=limits))
            stream = await _stalled_reader(sock.getsockname()[1])
            nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


@pytest.mark.trio
@pytest.mark.parametrize("limits", [HostLimits(max_connections=2), HostLimits(max_connections_per_peer=2)])
async def test_connections_over_a_limit_are_closed_and_the_room_comes_back(limits, logs):
    async with hosted(plain(), limits=limits) as port:
        baseline = Baseline.now()
        for _ in range(2):
            held = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
            for stream in held:
                await stream.send_all(KEPT)
                await receive_until(stream, b"ok")
            for _ in range(3):
                assert await talk(port, GOOD) == b""
            for stream in held:
                await stream.aclose()
            await baseline.restored()
        assert status(await talk(port, GOOD)) == 200
    assert [line["event"] for line in logs] == ["connection_refused"]


class Exhausted(trio.abc.Listener[trio.SocketStream]):
    """A listener for which the process has no descriptor left, until it is asked the fifth time."""

    def __init__(self) -> None:
        self.asked = 0
        self.relieved = trio.Event()

    async def accept(self) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.asked < 5:
            raise OSError(errno.EMFILE, "Too many open files")
        self.relieved.set()
        return await _never()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _never() -> NoReturn:
    await trio.sleep_forever()


@pytest.mark.trio
async def test_running_out_of_descriptors_neither_ends_the_server_nor_fills_the_log(autojump_clock, logs):
    exhausted = Exhausted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.Host(plain(), HostLimits()).accept, exhausted, nursery)
        await exhausted.relieved.wait()
        nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs] == ["accept_failed"]


@pytest.mark.trio
async def test_the_limit_of_descriptors_lowers_the_limit_of_connections(monkeypatch, logs):
    few = listener.RESERVED_DESCRIPTORS + 1
    monkeypatch.setattr("resource.getrlimit", lambda _: (few, few))
    async with hosted(plain()) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(KEPT)
        await receive_until(stream, b"ok")
        assert await talk(port, GOOD) == b""
    assert [line["event"] for line in logs] == ["connections_limited_by_ulimit", "connection_refused"]


@pytest.mark.trio
async def test_the_limit_of_descriptors_is_raised_as_far_as_the_process_may(monkeypatch, logs):
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 100_000))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: raised.append(limits))
    async with hosted(plain()) as port:
        assert status(await talk(port, GOOD)) == 200
    assert raised == [(100_000, 100_000)]
    assert logs == []


def test_all_addresses_of_one_ipv6_site_are_one_peer():
    assert peer_key("2001:db8::1") == peer_key("2001:db8::ffff:2%eth0")
    assert peer_key("2001:db8::1") != peer_key("2001:db8:0:1::1")
    assert peer_key("192.0.2.1") != peer_key("192.0.2.2")


def test_a_port_in_use_is_an_error_and_leaves_no_descriptor():
    with bind("127.0.0.1", 0) as sock:
        sock.listen()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", sock.getsockname()[1])
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@pytest.mark.trio
async def test_a_client_that_leaves_cancels_its_stream_and_its_block():
    cancelled: list[str] = []
    entered = trio.Event()

    async def handle(exchange: Exchange) -> Answer:
        nonlocal entered
        if exchange.request.path == "/stream":
            return EventStream(run=_tell)
        async with until_left(exchange) as scope:
            entered.set()
            await trio.sleep_forever()
        cancelled.append(f"block {scope.cancelled_caught}")
        return web.Response(status=200)

    async def _tell(send: SendBytes) -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.append("stream")

    async with hosted(application(handle, closing=trio.Event())) as port:
        baseline = Baseline.now()
        for path in (b"/stream", b"/block"):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(KEPT.replace(b"/ok", path))
                await entered.wait()
            await baseline.restored()
            entered = trio.Event()
    assert cancelled == ["stream", "block True"]


@pytest.mark.trio
async def test_a_stop_ends_open_streams_with_their_last_chunk():
    stop, opened = trio.Event(), trio.Event()

    async def quiet(send: SendBytes) -> None:
        await send(b"data: 1\n\n")
        opened.set()
        await trio.sleep_forever()

    async def handle(exchange: Exchange) -> Answer:
        return EventStream(run=quiet)

    with trio.fail_after(5):
        async with (
            hosted(application(handle, closing=stop), shutdown=stop) as port,
            await trio.open_tcp_stream("127.0.0.1", port) as stream,
        ):
            await stream.send_all(KEPT)
            await opened.wait()
            stop.set()
            received = await receive_all(stream)
    assert b"text/event-stream" in received
    assert received.endswith(b"data: 1\n\n\r\n0\r\n\r\n")


@pytest.mark.trio
async def test_a_connection_that_has_ended_leaves_nothing_for_a_collection():
    gc.collect()
    gc.disable()
    try:
        async with hosted(plain()) as port:
            for _ in range(3):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await stream.send_all(GOOD)
                assert await stream.receive_some(65536)
                assert any(isinstance(item, connection.Connection) for item in gc.get_objects())
                await stream.aclose()
            with trio.fail_after(10):
                await until(lambda: not any(isinstance(item, connection.Connection) for item in gc.get_objects()))
    finally:
        gc.enable()
