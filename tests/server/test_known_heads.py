"""A request whose head is known is answered as if it had been read: the same bytes, whatever the application does."""

import gc
import random
import re
from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
import trio.testing

from tenantry import web
from tenantry.server.application import application
from tenantry.server.asgi import KNOWN, ASGIApp, Message, Receive, Send
from tenantry.server.event_stream import EventStream
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.host import heads
from tests.fuzz.packets import answer, hosted, mutated

POST = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
OTHER = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nother body"
DATE = re.compile(rb"date: [^\r]*\r\n")


async def conversation(port: int, *packets: bytes | tuple[bytes, ...]) -> bytes:
    """Send each packet when the answer to the one before has begun to come; give all that comes until the end.

    One in pieces is sent in pieces.
    """
    received = b""
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                for packet in packets[:-1]:
                    for piece in packet if isinstance(packet, tuple) else (packet,):
                        await stream.send_all(piece)
                        await trio.testing.wait_all_tasks_blocked(0.001)
                    received += await stream.receive_some()
                    await trio.testing.wait_all_tasks_blocked(0.001)
                await stream.send_all(b"".join(packets[-1:]))
                await stream.send_eof()
                async for data in stream:
                    received += data
            except trio.BrokenResourceError:
                pass  # reset: what came before it counts
    return DATE.sub(b"", received)


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let no head be known any more."""

    def forget() -> None:
        monkeypatch.setattr(heads.Head, "of", lambda *_: None)

    return forget


async def whole(scope: Message, receive: Receive, send: Send) -> None:
    await application(answer, closing=trio.Event())(scope, receive, send)


async def streaming(scope: Message, receive: Receive, send: Send) -> None:
    async def run(send_bytes: Callable[[bytes], Awaitable[None]]) -> None:
        await send_bytes(b"data: 1\n\n")
        await send_bytes(b"data: 2\n\n")

    async def handle(exchange: Exchange) -> Answer:
        await exchange.read_body(limit=100)
        return EventStream(run=run)

    await application(handle, closing=trio.Event())(scope, receive, send)


async def by_messages(scope: Message, receive: Receive, send: Send) -> None:
    """One that knows nothing of extensions, and sends in pieces what it has announced whole."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body[:2], "more_body": True})
    await send({"type": "http.response.body", "body": body[2:]})


async def in_pieces(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ab", "more_body": True})
    await send({"type": "http.response.body", "body": b"cd", "more_body": False})


async def asking_after_the_beginning(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    message = await receive()
    await send({"type": "http.response.body", "body": message["body"][:2]})


async def without_length(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def silent(scope: Message, receive: Receive, send: Send) -> None:
    """One that ends without an answer."""


APPS = [whole, streaming, by_messages, in_pieces, asking_after_the_beginning, without_length, silent]


@pytest.mark.trio
@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(
    "packets",
    [
        (POST, POST, OTHER, POST),
        (POST, (POST[:-2], POST[-2:]), POST),
        (POST, OTHER + POST, POST),
        (POST, POST.replace(b"Host: h", b"Host: h\r\nConnection: close")),
        (POST, POST.replace(b"Content-Length: 4", b"Content-Length: 4\r\nContent-Length: 5")),
        (POST, POST.replace(b"1.1", b"1.0")),
        (POST, b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n", POST),
        (POST.replace(b"POST", b"HEAD"), POST.replace(b"POST", b"HEAD"), POST),
    ],
)
async def test_the_answers_are_the_same(app, packets, unknown):
    async with hosted(app, lean=True) as port:
        got = await conversation(port, *packets)
    unknown()
    async with hosted(app, lean=True) as port:
        assert got == await conversation(port, *packets)


@pytest.mark.trio
async def test_the_answers_are_the_same_to_whatever_comes_behind_a_request(unknown):
    source = random.Random(20261124)
    packets = [b"".join(mutated(source, [POST, OTHER])) for _ in range(300)]
    async with hosted(whole, lean=True) as port:
        got = [await conversation(port, POST, packet) for packet in packets]
    unknown()
    async with hosted(whole, lean=True) as port:
        for packet, known in zip(packets, got, strict=True):
            assert known == await conversation(port, POST, packet), packet


@pytest.mark.trio
async def test_h11_does_not_hear_of_a_request_whose_head_is_known(monkeypatch):
    heard: list[bytes] = []
    receive_data = h11.Connection.receive_data

    def listening(self: h11.Connection, data: bytes) -> None:
        heard.append(bytes(data))
        receive_data(self, data)

    monkeypatch.setattr(h11.Connection, "receive_data", listening)
    async with hosted(whole, lean=True) as port:
        await conversation(port, POST, OTHER, POST)
    assert heard == [POST, b""]


@pytest.mark.trio
async def test_what_the_application_made_of_a_head_comes_with_it_again_and_with_no_other():
    seen: list[object] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(scope["extensions"].get(KNOWN))
        await whole(scope, receive, send)

    other = POST.replace(b"Host: h", b"Host: i")
    async with hosted(app, lean=True) as port:
        await conversation(port, POST, OTHER, other, POST)
        await conversation(port, POST)
    assert seen[0] is seen[1]
    assert len({id(known) for known in seen}) == 4


@pytest.mark.trio
async def test_a_stream_that_is_open_holds_no_head():
    opened = trio.Event()
    requests: list[web.Request] = []

    async def run(send_bytes: Callable[[bytes], Awaitable[None]]) -> None:
        await send_bytes(b"data: 1\n\n")
        opened.set()
        await trio.sleep_forever()

    known: list[object] = []

    async def handle(exchange: Exchange) -> Answer:
        requests.append(exchange.request)
        return web.Response(status=200) if len(requests) == 1 else EventStream(run=run)

    inner = application(handle, closing=trio.Event())

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        known.append(scope["extensions"][KNOWN])
        await inner(scope, receive, send)

    async with hosted(app, lean=True) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(2):
            await stream.send_all(POST)
            await stream.receive_some()
        await opened.wait()
        holders = [*gc.get_referrers(known[-1]), *gc.get_referrers(requests[-1].headers)]
    assert {type(holder) for holder in holders} <= {list, web.Request}  # those of this test


@pytest.mark.trio
async def test_the_last_answer_before_a_stop_says_that_it_is_the_last():
    entered, gate, stop = trio.Event(), trio.Event(), trio.Event()
    calls = 0

    async def handle(exchange: Exchange) -> Answer:
        nonlocal calls
        calls += 1
        if calls == 2:
            entered.set()
            await gate.wait()
        return web.Response(status=200, body=b"ok")

    app: ASGIApp = application(handle, closing=trio.Event())
    async with hosted(app, lean=True, shutdown=stop) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(POST)
        assert b"connection: close" not in await stream.receive_some()
        await stream.send_all(POST)
        await entered.wait()
        stop.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        gate.set()
        assert b"connection: close" in await stream.receive_some()
        assert await stream.receive_some() == b""
