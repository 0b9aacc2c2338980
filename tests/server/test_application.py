"""The application's side, message by message: no socket, and a clock that jumps."""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tenantry import web
from tenantry.server.application import application
from tenantry.server.asgi import ASGIApp, Message
from tenantry.server.event_stream import KEEP_ALIVE_S, EventStream, SendBytes
from tenantry.server.exchange import (
    BODY_END_S,
    BODY_FREE_EVENTS,
    BODY_MEAN_EVENT_BYTES,
    BODY_RATE_BYTES_PER_S,
    BODY_START_S,
    DRAIN_BYTES,
    DRAIN_EVENTS,
    DRAIN_S,
    Answer,
    Exchange,
)
from tests.departing import until_left

LIMIT = 100_000


class Client:
    """The other end of one request: queues messages to the application and keeps what it sends."""

    def __init__(self, *headers: tuple[str, str], method: str = "POST", raw_path: bytes = b"/mcp") -> None:
        self.to_app, channel = trio.open_memory_channel[Message](math.inf)
        self.receive = channel.receive
        self.sent: list[Message] = []
        self.started = trio.Event()
        self.started_at = math.nan
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "raw_path": raw_path,
            "query_string": b"a=%20",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": ("192.0.2.1", 1234),
        }

    def send_body(self, *pieces: bytes, ended: bool = True) -> None:
        for number, piece in enumerate(pieces, 1):
            more = number < len(pieces) or not ended
            self.to_app.send_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        self.to_app.send_nowait({"type": "http.disconnect"})

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(message)
        if not self.started.is_set():
            self.started_at = trio.current_time()
            self.started.set()

    async def run(self, app: ASGIApp) -> None:
        await app(self.scope, self.receive, self.send)

    async def ask(self, handle: Callable[[Exchange], Awaitable[Answer]]) -> None:
        await self.run(application(handle, closing=trio.Event()))

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def ended(self) -> bool:
        return bool(self.sent[1:]) and not self.sent[-1]["more_body"]


def chunked() -> Client:
    return Client(("transfer-encoding", "chunked"))


def sized(size: int) -> Client:
    return Client(("content-length", str(size)))


async def echo(exchange: Exchange) -> Answer:
    try:
        body = await exchange.read_body(limit=LIMIT)
    except web.HttpError as error:
        return web.Response(status=error.status, body=error.message.encode())
    return web.Response(status=200, body=body)


@pytest.mark.trio
async def test_a_request_becomes_a_value_with_its_path_undecoded():
    seen: list[web.Request] = []

    async def look(exchange: Exchange) -> Answer:
        seen.append(exchange.request)
        return web.Response(status=200)

    await Client(("x-name", "J\xf6rg"), method="GET", raw_path=b"/a%2Fb").ask(look)
    request = seen[0]
    assert (request.method, request.path, request.query) == ("GET", "/a%2Fb", "a=%20")
    assert (request.headers.get("x-name"), request.peer, request.scheme) == ("J\xf6rg", "192.0.2.1", "http")


@pytest.mark.trio
async def test_a_peer_that_the_host_does_not_know_is_an_empty_name():
    client = Client(method="GET")
    client.scope["client"] = None

    async def name(exchange: Exchange) -> Answer:
        return web.Response(status=200, body=repr(exchange.request.peer).encode())

    await client.ask(name)
    assert client.body == b"''"


@pytest.mark.trio
@pytest.mark.parametrize("pieces", [(b"one",), (b"o", b"n", b"e"), (b"one", b"")])
async def test_a_body_is_read_whole(pieces):
    for client in (chunked(), sized(3)):
        client.send_body(*pieces)
        await client.ask(echo)
        assert (client.status, client.body) == (200, b"one")
        assert (b"connection", b"close") not in client.headers


@pytest.mark.trio
@pytest.mark.parametrize("headers", [[], [("content-length", "0")]])
async def test_a_request_without_a_body_is_not_waited_for(headers):
    client = Client(*headers)
    await client.ask(echo)
    assert (client.status, client.body) == (200, b"")


@pytest.mark.trio
async def test_a_declared_size_over_the_limit_is_refused_before_a_byte_is_read():
    client = sized(LIMIT + 1)

    async def refuse(exchange: Exchange) -> Answer:
        client.send_body(b"x")
        with pytest.raises(web.HttpError) as caught:
            await exchange.read_body(limit=LIMIT)
        assert client.to_app.statistics().current_buffer_used == 1
        client.leave()
        return web.Response(status=caught.value.status)

    await client.ask(refuse)
    assert client.status == 413


@pytest.mark.trio
async def test_a_real_size_over_the_limit_is_refused_at_the_piece_that_passes_it():
    client = chunked()
    client.send_body(b"x" * LIMIT, b"x", ended=False)
    client.leave()
    await client.ask(echo)
    assert client.status == 413


@pytest.mark.trio
@pytest.mark.parametrize(
    ("length", "wanted"), [("4", 400), ("2", 400), ("3", 200), ("+3", 400), ("3_0", 400), ("\xb3", 400)]
)
async def test_a_content_length_that_lies_or_is_no_number_is_refused(length, wanted):
    client = Client(("content-length", length))
    client.send_body(b"abc")
    client.leave()
    await client.ask(echo)
    assert client.status == wanted


@pytest.mark.trio
async def test_a_body_cut_into_dust_is_refused_and_one_in_many_good_pieces_is_not():
    dust = chunked()
    dust.send_body(*[b"x"] * (BODY_FREE_EVENTS + 50))
    await dust.ask(echo)
    assert dust.status == 400

    pieces = chunked()
    pieces.send_body(*[b"x" * BODY_MEAN_EVENT_BYTES] * 1000)
    await pieces.ask(echo)
    assert (pieces.status, len(pieces.body)) == (200, 1000 * BODY_MEAN_EVENT_BYTES)


async def feed(client: Client, pieces: int, size: int, every_s: float) -> None:
    for _ in range(pieces):
        await trio.sleep(every_s)
        client.send_body(b"x" * size, ended=False)
    client.send_body(b"")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("pace", "wanted", "after_s"),
    [
        ((0, 0, 0.0), 200, 0.0),
        ((1, 10, BODY_START_S - 1), 200, BODY_START_S - 1),
        ((1, 10, BODY_START_S + 1), 408, BODY_START_S),
        ((100, 80, 1.0), 408, BODY_START_S),  # a little now and then
        ((40, BODY_RATE_BYTES_PER_S, 1.0), 200, 40.0),
        ((100, BODY_RATE_BYTES_PER_S, 1.0), 408, BODY_END_S),
        ((40, BODY_RATE_BYTES_PER_S, 2.0), 408, 2 * BODY_START_S - 2),
    ],
)
async def test_a_body_has_as_much_time_as_what_came_of_it_needs(pace, wanted, after_s, autojump_clock):
    client = chunked()

    async def read(exchange: Exchange) -> Answer:
        try:
            await exchange.read_body(limit=10_000_000)
        except web.HttpError as error:
            return web.Response(status=error.status)
        return web.Response(status=200)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, client, *pace)
        await client.ask(read)
        nursery.cancel_scope.cancel()
    assert client.status == wanted
    assert client.started_at == pytest.approx(after_s, abs=1.0)


@pytest.mark.trio
async def test_a_body_that_breaks_off_is_refused_and_its_rest_not_waited_for(autojump_clock):
    client = sized(10)
    client.send_body(b"half", ended=False)
    client.leave()
    await client.ask(echo)
    assert (client.status, trio.current_time()) == (400, 0)


async def unauthorized(exchange: Exchange) -> Answer:
    return web.Response(status=401, body=b"who?")


@pytest.mark.trio
async def test_an_early_answer_goes_out_at_once_and_ends_when_the_body_was_drained(autojump_clock):
    client = sized(300)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.ask, unauthorized)
        await trio.testing.wait_all_tasks_blocked()
        assert (client.status, client.body, client.ended) == (401, b"who?", False)
        assert (b"connection", b"close") in client.headers
        client.send_body(b"x" * 300)
        await trio.testing.wait_all_tasks_blocked()
        assert client.ended
    assert trio.current_time() < DRAIN_S


@pytest.mark.trio
@pytest.mark.parametrize("pieces", [[], [b""] * DRAIN_EVENTS, [b"x" * 4096, b"x" * DRAIN_BYTES]])
async def test_draining_is_limited_in_time_events_and_bytes(pieces, autojump_clock):
    client = chunked()
    client.send_body(*pieces, ended=False)
    await client.ask(unauthorized)
    assert client.ended
    assert trio.current_time() == pytest.approx(0 if pieces else DRAIN_S, abs=0.1)


@pytest.mark.trio
async def test_the_body_is_drained_while_the_answer_can_not_be_sent():
    client, drained = chunked(), trio.Event()

    async def send_when_drained(message: Message) -> None:
        with trio.fail_after(5):
            while client.to_app.statistics().current_buffer_used:
                await trio.lowlevel.checkpoint()
        drained.set()
        client.sent.append(message)

    client.send_body(*[b"x"] * 1000)
    app = application(unauthorized, closing=trio.Event())
    await app(client.scope, client.receive, send_when_drained)
    assert drained.is_set()
    assert client.ended


@pytest.mark.trio
@pytest.mark.parametrize(
    ("status", "length", "body"),
    [(200, b"2", b"hi"), (404, b"2", b"hi"), (202, b"0", b""), (204, None, b""), (304, None, b"")],
)
async def test_an_answer_says_its_length_unless_its_status_has_no_body(status, length, body):
    async def handle(exchange: Exchange) -> Answer:
        return web.Response(status=status, headers={"X-A": "J\xf6rg"}, body=b"hi", cookies=("a=b", "c=d"))

    client = Client(method="GET")
    await client.ask(handle)
    fields = dict(client.headers)
    assert (client.status, fields.get(b"content-length"), client.body) == (status, length, body)
    assert fields[b"x-a"] == b"J\xf6rg"
    assert [value for name, value in client.headers if name == b"set-cookie"] == [b"a=b", b"c=d"]
    assert len(client.sent) == 2


@pytest.mark.trio
async def test_a_doubled_single_valued_header_is_refused_before_the_handler():
    client = Client(("authorization", "a"), ("authorization", "b"), ("accept", "a"), ("accept", "b"))
    await client.ask(unauthorized)
    assert (client.status, client.body) == (400, b"the header authorization came twice\n")


@pytest.mark.trio
async def test_an_exception_of_the_handler_is_a_bare_500_and_one_line():
    async def broken(exchange: Exchange) -> Answer:
        raise KeyError("secret")

    client = Client(method="GET")
    with capture_logs() as logs:
        await client.ask(broken)
    assert (client.status, client.body) == (500, b"")
    assert [(line["event"], line["path"]) for line in logs] == [("request_failed", "/mcp")]


@pytest.mark.trio
@pytest.mark.parametrize("value", ["\u20ac", "a\r\nb: c", "\0"])
async def test_an_answer_whose_header_can_not_be_sent_is_a_bare_500_too(value):
    async def odd(exchange: Exchange) -> Answer:
        return web.Response(status=200, headers={"x": value})

    client = Client(method="GET")
    with capture_logs() as logs:
        await client.ask(odd)
    assert (client.status, len(logs)) == (500, 1)


@pytest.mark.trio
async def test_a_cancelled_handler_is_not_answered():
    client = Client(method="GET")

    async def wait(exchange: Exchange) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    with trio.CancelScope() as scope:
        scope.cancel()
        await client.ask(wait)
    assert scope.cancelled_caught
    assert client.sent == []


@pytest.mark.trio
async def test_the_block_is_cancelled_when_the_client_leaves():
    client = sized(3)
    client.send_body(b"one")
    scopes: list[trio.CancelScope] = []

    async def handle(exchange: Exchange) -> Answer:
        await exchange.read_body(limit=LIMIT)
        async with until_left(exchange) as scope:
            client.leave()
            await trio.sleep_forever()
        scopes.append(scope)
        return web.Response(status=200)

    with trio.fail_after(5):
        await client.ask(handle)
    assert scopes[0].cancelled_caught


@pytest.mark.trio
async def test_a_block_that_ends_by_itself_was_not_cut_and_its_error_comes_out_bare():
    client = Client(method="GET")

    async def handle(exchange: Exchange) -> Answer:
        async with until_left(exchange) as scope:
            pass
        assert not scope.cancelled_caught
        with pytest.raises(web.HttpError):
            async with until_left(exchange):
                raise web.HttpError(404, "no")
        return web.Response(status=200)

    await client.ask(handle)
    assert client.status == 200


@pytest.mark.trio
async def test_departure_is_not_watched_for_before_the_body_was_read():
    async def handle(exchange: Exchange) -> Answer:
        with pytest.raises(RuntimeError):
            async with until_left(exchange):
                pass
        with pytest.raises(RuntimeError):
            await exchange.wait_for_disconnect()
        return web.Response(status=200)

    client = sized(3)
    client.leave()
    await client.ask(handle)
    assert client.status == 200


def streaming(run: Callable[[SendBytes], Awaitable[None]], **options: Any) -> Callable[..., Awaitable[Answer]]:
    async def handle(exchange: Exchange) -> Answer:
        return EventStream(run=run, headers={"mcp-session-id": "s"}, **options)

    return handle


@pytest.mark.trio
async def test_a_stream_has_its_headers_its_bytes_and_an_end():
    async def run(send: SendBytes) -> None:
        await send(b"data: 1\n\n")
        await send(b"data: 2\n\n")

    client = Client(method="GET")
    await client.ask(streaming(run))
    assert dict(client.headers) == {
        b"content-type": b"text/event-stream",
        b"cache-control": b"no-store",
        b"x-accel-buffering": b"no",
        b"mcp-session-id": b"s",
    }
    assert (client.status, client.body, client.ended) == (200, b"data: 1\n\ndata: 2\n\n", True)


@pytest.mark.trio
async def test_a_quiet_stream_carries_comments_and_a_busy_one_does_not(autojump_clock):
    async def run(send: SendBytes) -> None:
        await trio.sleep(3.5 * KEEP_ALIVE_S)
        for _ in range(10):
            await send(b"data: 1\n\n")
            await trio.sleep(0.9 * KEEP_ALIVE_S)

    client = Client(method="GET")
    await client.ask(streaming(run))
    assert client.body == b":\n\n" * 3 + b"data: 1\n\n" * 10


@pytest.mark.trio
@pytest.mark.parametrize("cause", ["closing", "disconnect", "deadline"])
async def test_a_stream_is_cancelled_and_ended_by(cause, autojump_clock):
    closing, cancelled = trio.Event(), trio.Event()

    async def run(send: SendBytes) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    client = Client(method="GET")
    deadline = trio.current_time() + 7 if cause == "deadline" else math.inf
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run, application(streaming(run, deadline=deadline), closing=closing))
        await client.started.wait()
        if cause == "closing":
            closing.set()
        elif cause == "disconnect":
            client.leave()
    assert cancelled.is_set()
    assert client.ended == (cause != "disconnect")  # nobody is there to be told
    assert trio.current_time() == (7 if cause == "deadline" else 0)


@pytest.mark.trio
async def test_a_stream_that_answers_one_call_outlives_the_closing(autojump_clock):
    async def run(send: SendBytes) -> None:
        await trio.sleep(1)
        await send(b"data: 1\n\n")

    closing = trio.Event()
    closing.set()
    client = Client(method="GET")
    await client.run(application(streaming(run, outlives_closing=True), closing=closing))
    assert (client.body, client.ended) == (b"data: 1\n\n", True)


@pytest.mark.trio
async def test_a_stream_that_opens_at_a_server_that_closes_ends_at_once():
    async def run(send: SendBytes) -> None:
        await trio.sleep_forever()

    closing = trio.Event()
    app = application(streaming(run), closing=closing)
    first, second = Client(method="GET"), Client(method="GET")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.run, app)
            await first.started.wait()
            closing.set()
            nursery.start_soon(second.run, app)
    assert first.ended
    assert second.ended


@pytest.mark.trio
async def test_open_streams_have_two_tasks_each_and_one_together(autojump_clock):
    async def run(send: SendBytes) -> None:
        await trio.sleep(1)

    app = application(streaming(run), closing=trio.Event())
    before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(Client(method="GET").run, app)
        await trio.sleep(0.5)
        assert trio.lowlevel.current_statistics().tasks_living == before + 2 * 10 + 1
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == before


@pytest.mark.trio
async def test_a_stream_that_breaks_has_no_end_and_one_line():
    async def run(send: SendBytes) -> None:
        await send(b"data: 1\n\n")
        raise KeyError

    client = Client(method="GET")
    with capture_logs() as logs:
        await client.ask(streaming(run))
    assert (client.body, client.ended) == (b"data: 1\n\n", False)
    assert [line["event"] for line in logs] == ["stream_failed"]


async def _nothing(send: SendBytes) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.trio
async def test_a_stream_before_the_body_was_read_is_a_fault_of_ours():
    client = sized(3)
    client.leave()
    with capture_logs() as logs:
        await client.ask(streaming(_nothing))
    assert (client.status, len(logs)) == (500, 1)


@pytest.mark.trio
async def test_a_websocket_is_refused_as_a_request_is_and_the_lifespan_not_served():
    client = Client()
    client.scope["type"] = "websocket"
    await client.ask(unauthorized)
    start, body = client.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (body["type"], body["body"]) == ("websocket.http.response.body", b"who?")
    client.scope["type"] = "lifespan"
    with pytest.raises(NotImplementedError):
        await client.ask(unauthorized)
