"""HTTP/2 as the h2 library speaks it, and as an attacker would; over TLS, the only way in."""

import ssl
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from structlog.testing import capture_logs

from tenantry import web
from tenantry.server.application import application
from tenantry.server.asgi import ASGIApp
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.host import HostLimits, frames, tls_context
from tests.certificates import Certificate, self_signed
from tests.departing import until_left
from tests.fuzz.packets import Baseline, answer, hosted
from tests.http2_client import Http2Client, connected
from tests.server.test_frames import PING, PRIORITY, SETTINGS, WINDOW_UPDATE, frame

CALM = ErrorCodes.ENHANCE_YOUR_CALM


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: Certificate) -> ssl.SSLContext:
    return tls_context(certificate.certfile, certificate.keyfile)


@pytest.fixture
def client(certificate: Certificate) -> ssl.SSLContext:
    return certificate.client("h2", "http/1.1")


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """No connection of any test needs the last catch."""
    with capture_logs() as lines:
        yield lines
    assert [line for line in lines if line["event"].endswith("failed")] == []


def plain() -> ASGIApp:
    return application(answer, closing=trio.Event())


@pytest.mark.trio
async def test_requests_are_answered_on_one_connection_at_once(tls, client):
    async with hosted(plain(), tls=tls) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            get, post, stream = (
                await h2.request("/ok"),
                await h2.post("/echo", b"body" * 1000),
                await h2.request("/stream"),
            )
            assert (await h2.answer(get)).body == b"ok"
            assert (await h2.answer(post)).body == b"body" * 1000
            assert (await h2.answer(stream)).body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
            assert b"date" in h2.answers[get].headers
            assert (await h2.answer(await h2.request("/nothing"))).status == 404
        await baseline.restored()


@pytest.mark.trio
async def test_the_application_sees_what_http_1_1_would_show_it(tls, client):
    seen: list[web.Request] = []

    async def look(exchange: Exchange) -> Answer:
        seen.append(exchange.request)
        return web.Response(status=200 if exchange.body_due is (exchange.request.method == "POST") else 500)

    async with hosted(application(look, closing=trio.Event()), tls=tls) as port, connected(port, client) as h2:
        first = await h2.request("/a%2Fb?c=d", (b"cookie", b"a=1"), (b"cookie", b"b=2"))
        assert (await h2.answer(first)).status == 200
        assert (await h2.answer(await h2.post("/x", b"body"))).status == 200
    request = seen[0]
    assert (request.method, request.path, request.query) == ("GET", "/a%2Fb", "c=d")
    assert (request.scheme, request.peer) == ("https", "127.0.0.1")
    assert (request.headers.get("host"), request.headers.get("cookie")) == ("h", "a=1; b=2")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("method", "path", "headers", "wanted"),
    [
        (b"GET", b"/\xff", [], 400),
        (b"get", b"/ok", [], 400),
        (b"CONNECT", b"/ok", [], 405),
        (b"GET", b"/ok", [(b"a", b"b")] * 150, 431),
        (b"GET", b"/ok", [(b"authorization", b"a"), (b"authorization", b"b")], 400),
        (b"HEAD", b"/ok", [(b"content-length", b"4")], 200),
    ],
)
async def test_a_doubtful_request_is_refused_on_its_stream_alone(  # noqa: PLR0917
    tls, client, method, path, headers, wanted
):
    async with hosted(plain(), tls=tls) as port, connected(port, client) as h2:
        id_ = await h2.request(path, *headers, method=method, ended=False)
        if wanted == 200:
            h2.connection.send_data(id_, b"body", end_stream=True)
            await h2.flush()
        assert (await h2.answer(id_)).status == wanted
        assert (await h2.answer(await h2.request("/ok"))).body == b"ok"


@pytest.mark.trio
@pytest.mark.parametrize("behind", ["reset", "data"])
async def test_what_comes_in_one_packet_with_a_doubtful_request_costs_nothing(tls, client, behind):
    async with hosted(plain(), tls=tls) as port, connected(port, client) as h2:
        flush, h2.flush = h2.flush, trio.lowlevel.checkpoint  # type: ignore[method-assign]
        id_ = await h2.request(b"/\xff", method=b"POST", ended=False)
        if behind == "reset":
            h2.connection.reset_stream(id_, ErrorCodes.CANCEL)
        else:
            h2.connection.send_data(id_, b"x" * 1000)
        h2.flush = flush  # type: ignore[method-assign]
        assert (await h2.answer(await h2.request("/ok"))).body == b"ok"


@pytest.mark.trio
async def test_a_connection_whose_request_was_refused_is_idle(tls, client):
    async with hosted(plain(), tls=tls, limits=HostLimits(keep_alive_s=0.05)) as port, connected(port, client) as h2:
        assert (await h2.answer(await h2.request(b"/\xff"))).status == 400
        assert await h2.end() == ErrorCodes.NO_ERROR


@pytest.mark.trio
async def test_no_tree_of_priorities_grows(tls, client, monkeypatch):
    monkeypatch.setattr(frames, "CONTROLS", 10_000)
    async with hosted(plain(), tls=tls) as port, connected(port, client) as h2:
        for id_ in range(101, 5101, 2):
            await h2.send(frame(PRIORITY, 5, stream=id_)[:9] + b"\0\0\0\0\x10")
        assert (await h2.answer(await h2.request("/ok"))).body == b"ok"


@pytest.mark.trio
@pytest.mark.parametrize(
    "headers",
    [
        [(b"connection", b"close")],
        [(b"transfer-encoding", b"chunked")],
        [(b"Upper", b"case")],
        [(b"a", b"b\r\nc: d")],
        [(b":path", b"/two")],
        [(b"", b"nameless")],
        [(b"host", b"another")],
    ],
)
async def test_fields_that_http_2_forbids_end_the_connection(tls, client, headers):
    async with hosted(plain(), tls=tls) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            await h2.request("/ok", *headers)
            assert await h2.end() == ErrorCodes.PROTOCOL_ERROR
        await baseline.restored()


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/unread", "/echo"])
async def test_an_early_answer_stops_the_rest_of_the_body_and_nothing_else(tls, client, path):
    async with hosted(plain(), tls=tls) as port, connected(port, client) as h2:
        id_ = await h2.request(path, (b"content-length", b"10000000"), method=b"POST", ended=False)
        h2.connection.send_data(id_, b"x" * 16_000)
        await h2.flush()
        answered = await h2.answer(id_)
        assert answered.status == (401 if path == "/unread" else 413)
        with trio.fail_after(30):
            while answered.reset is None:
                await h2.receive()
        assert answered.reset == ErrorCodes.NO_ERROR
        assert (await h2.answer(await h2.request("/ok"))).body == b"ok"


@pytest.mark.trio
async def test_a_body_that_goes_on_after_its_answer_gives_its_window_back(tls, client):
    async def refuse(exchange: Exchange) -> Answer:
        return web.Response(status=401)

    async with hosted(application(refuse, closing=trio.Event()), tls=tls) as port, connected(port, client) as h2:
        for _ in range(20):  # 20 times 16,000 bytes: five windows
            id_ = await h2.request("/x", method=b"POST", ended=False)
            h2.connection.send_data(id_, b"x" * 16_000)
            await h2.flush()
            assert (await h2.answer(id_)).status == 401
    assert not h2.closed


# --- floods


async def _flood(h2: Http2Client, data: bytes, times: int) -> int | None:
    """Send `data` until the server closes; gives the code of its goodbye."""
    async with trio.open_nursery() as nursery:

        async def pour() -> None:
            for _ in range(times):
                if h2.closed:
                    return
                await h2.send(data)

        nursery.start_soon(pour)
        return await h2.end()
    raise AssertionError


@pytest.mark.trio
@pytest.mark.parametrize(
    "data",
    [
        frame(PING, 8, stream=0),
        frame(SETTINGS, 0, stream=0),
        frame(PRIORITY, 5, stream=7),
        frame(0xFA, 0, stream=0),
    ],
    ids=["ping", "settings", "priority", "unknown"],
)
async def test_a_flood_of_what_has_no_use_is_ended(tls, client, data):
    async with hosted(plain(), tls=tls) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            data = data.replace(b"x" * 5, b"\0\0\0\0\x10")  # a priority must not depend on itself
            assert await _flood(h2, data * 50, frames.CONTROLS) == CALM
        await baseline.restored()


@pytest.mark.trio
async def test_rapid_resets_are_ended_and_leave_no_task_behind(tls, client):
    running = entered = 0

    async def slow(exchange: Exchange) -> Answer:
        nonlocal running, entered
        running += 1
        entered += 1
        try:
            async with until_left(exchange):
                await trio.sleep_forever()
        finally:
            running -= 1
        return web.Response(status=499)

    async with hosted(application(slow, closing=trio.Event()), tls=tls) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            while not h2.closed and h2.goodbye is None:
                for _ in range(40):
                    id_ = h2.connection.get_next_available_stream_id()
                    pseudo = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/ok")]
                    h2.connection.send_headers(id_, pseudo, end_stream=True)
                    h2.connection.reset_stream(id_, ErrorCodes.CANCEL)
                await h2.flush()
                with trio.move_on_after(0.02):
                    await h2.receive()
            assert await h2.end() == CALM
        await baseline.restored()
    assert running == 0
    assert entered <= 2 * frames.RESETS


@pytest.mark.trio
async def test_resets_that_a_client_provokes_count_like_its_own(tls, client, monkeypatch):
    monkeypatch.setattr(frames, "RESETS", 5)
    held = trio.Event()

    async def slow(exchange: Exchange) -> Answer:
        await held.wait()
        return web.Response(status=200)

    async with hosted(application(slow, closing=trio.Event()), tls=tls) as port:
        async with connected(port, client) as h2:
            for _ in range(10):
                id_ = await h2.request("/ok")
                overflow = frame(WINDOW_UPDATE, 4, stream=id_)[:9] + (2**31 - 1).to_bytes(4)
                await h2.send(overflow)
            goodbye = await h2.end()
        held.set()
    assert goodbye == CALM


@pytest.mark.trio
async def test_a_header_block_without_end_is_ended(tls, client):
    async with hosted(plain(), tls=tls) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            await h2.send(frame(frames.HEADERS, 10, flags=0, stream=1))
            await h2.send(frame(frames.CONTINUATION, 1000) * 20)
            assert await h2.end() == CALM
        await baseline.restored()


@pytest.mark.trio
async def test_a_small_block_that_unpacks_to_a_big_header_is_ended(tls, client):
    async with hosted(plain(), tls=tls) as port, connected(port, client) as h2:
        await h2.request("/ok", (b"bomb", b"x" * 2000))  # from the second time on it is one octet
        await h2.request("/ok", *[(b"bomb", b"x" * 2000)] * 20)
        assert await h2.end() == CALM


@pytest.mark.trio
async def test_more_streams_at_once_than_the_limit_end_the_connection(tls, client):
    held = trio.Event()

    async def slow(exchange: Exchange) -> Answer:
        await held.wait()
        return web.Response(status=200)

    async with hosted(application(slow, closing=trio.Event()), tls=tls, limits=HostLimits(streams=3)) as port:
        async with connected(port, client) as h2:
            for _ in range(3):
                await h2.request("/ok")
            while h2.connection.remote_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS) != 3:
                await h2.receive()
            with pytest.raises(ProtocolError):
                await h2.request("/ok")
            h2.connection.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
            h2.connection.remote_settings.acknowledge()
            await h2.request("/ok")
            assert await h2.end() is not None
        held.set()


# --- time


@pytest.mark.trio
async def test_an_idle_connection_is_closed_whatever_pings_come(tls, client):
    async with hosted(plain(), tls=tls, limits=HostLimits(keep_alive_s=0.2)) as port, connected(port, client) as h2:
        assert (await h2.answer(await h2.request("/ok"))).status == 200
        for _ in range(3):
            await h2.send(frame(PING, 8, stream=0))
        assert await h2.end() == ErrorCodes.NO_ERROR


@pytest.mark.trio
async def test_a_connection_whose_requests_were_all_reset_is_idle(tls, client):
    async def slow(exchange: Exchange) -> Answer:
        async with until_left(exchange):
            await trio.sleep_forever()
        return web.Response(status=499)

    app = application(slow, closing=trio.Event())
    async with hosted(app, tls=tls, limits=HostLimits(keep_alive_s=0.05)) as port, connected(port, client) as h2:
        id_ = await h2.request("/ok")
        h2.connection.reset_stream(id_, ErrorCodes.CANCEL)
        await h2.flush()
        assert await h2.end() == ErrorCodes.NO_ERROR


@pytest.mark.trio
@pytest.mark.parametrize("sends", [b"", b"PRI * HTTP", frame(SETTINGS, 0, stream=0) + frame(PING, 8, stream=0)])
async def test_a_first_request_that_does_not_come_is_not_waited_for(tls, client, sends):
    async with hosted(plain(), tls=tls, limits=HostLimits(header_timeout_s=0.05)) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            await h2.send(sends)
            await h2.end()
        await baseline.restored()


@pytest.mark.trio
async def test_a_stream_whose_client_grants_no_window_is_reset_and_the_others_go_on(tls, client):
    async def big(exchange: Exchange) -> Answer:
        if exchange.request.path == "/ok":
            return web.Response(status=200)
        return web.Response(status=200, body=b"x" * 200_000)

    app = application(big, closing=trio.Event())
    async with hosted(app, tls=tls, limits=HostLimits(send_timeout_s=0.1)) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            h2.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            await h2.flush()
            id_ = await h2.request("/big")
            assert (await h2.answer(id_)).reset == ErrorCodes.CANCEL
            assert (await h2.answer(await h2.request("/ok"))).status == 200
        await baseline.restored()


# --- leaving and stopping


@pytest.mark.trio
@pytest.mark.parametrize("leaves", ["reset", "connection"])
async def test_a_client_that_leaves_cancels_its_stream(tls, client, leaves):
    entered, cancelled = trio.Event(), trio.Event()

    async def tell(send: SendBytes) -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def handle(exchange: Exchange) -> Answer:
        return EventStream(run=tell)

    async with hosted(application(handle, closing=trio.Event()), tls=tls) as port:
        baseline = Baseline.now()
        async with connected(port, client) as h2:
            id_ = await h2.request("/stream")
            await entered.wait()
            if leaves == "reset":
                h2.connection.reset_stream(id_, ErrorCodes.CANCEL)
                await h2.flush()
                with trio.fail_after(30):
                    await cancelled.wait()
        with trio.fail_after(30):
            await cancelled.wait()
        await baseline.restored()


@pytest.mark.trio
async def test_a_stop_answers_what_is_under_way_and_says_goodbye(tls, client):
    stop, entered, gate = trio.Event(), trio.Event(), trio.Event()

    async def held(exchange: Exchange) -> Answer:
        entered.set()
        await gate.wait()
        return web.Response(status=200, body=b"held")

    app = application(held, closing=stop)
    async with (
        hosted(app, tls=tls, shutdown=stop) as port,
        connected(port, client) as h2,
        connected(port, client) as idle,
    ):
        id_ = await h2.request("/held")
        await entered.wait()
        stop.set()
        assert await idle.end() == ErrorCodes.NO_ERROR
        gate.set()
        assert (await h2.answer(id_)).body == b"held"
        assert await h2.end() == ErrorCodes.NO_ERROR
