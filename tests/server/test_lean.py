"""What the lean way of speaking HTTP/1.1 leaves out, and what it must not lose by that."""

import os
from collections.abc import Awaitable, Callable

import pytest
import trio

from tenantry import web
from tenantry.server.application import application
from tenantry.server.asgi import BODY, ASGIApp, Message, Receive, Send
from tenantry.server.cancelled_by import cancelled_by
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.host import HostLimits, connection, lean
from tenantry.server.turns import Turns
from tests.departing import until_left
from tests.fuzz.packets import Baseline, answer, hosted, talk

KEPT = b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"


class Held:
    """An application that answers when the gate opens, and says what it was given."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.gate = trio.Event()
        self.scopes: list[Message] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.entered.set()
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})


@pytest.mark.trio
async def test_a_request_has_no_task_of_its_own():
    held = Held()
    async with hosted(held) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await trio.testing.wait_all_tasks_blocked(0.02)
        before = Baseline.now()
        await stream.send_all(KEPT)
        await held.entered.wait()
        assert Baseline.now() == before
        held.gate.set()
        assert (await stream.receive_some()).endswith(b"ok")


@pytest.fixture
def written(monkeypatch):
    """Whatever is written at once, piece by piece; trio writes its own wakeups by another function."""
    pieces: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        pieces.append(data)
        return os_write(descriptor, data)

    os_write = os.write
    monkeypatch.setattr(os, "write", write)
    return pieces


@pytest.mark.trio
async def test_an_answer_is_one_write(written):
    app = application(answer, closing=trio.Event())
    async with hosted(app) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(2):
            await stream.send_all(POST)
            received = await stream.receive_some()
    answers = [data for data in written if data.startswith(b"HTTP/1.1 200")]
    assert answers == [bytes(received)] * 2


def streaming(run: Callable[[SendBytes], Awaitable[None]], *, speaks_first: bool) -> ASGIApp:
    async def handle(exchange: Exchange) -> Answer:
        return EventStream(run=run, speaks_first=speaks_first, farewell=b"data: bye\n\n")

    return application(handle, closing=trio.Event())


@pytest.mark.trio
@pytest.mark.parametrize("speaks_first", [True, False])
async def test_a_stream_begins_with_one_write_where_it_speaks_first_and_ends_with_one(written, speaks_first):
    end = trio.Event()

    async def run(send: SendBytes) -> None:
        if speaks_first:
            await send(b"data: 1\n\n")
        await end.wait()

    app = streaming(run, speaks_first=speaks_first)
    async with hosted(app) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(KEPT)
        first = await stream.receive_some()
        assert first.endswith(b"data: 1\n\n\r\n" if speaks_first else b"\r\n\r\n")
        end.set()
        last = await stream.receive_some()
        assert last == b"b\r\ndata: bye\n\n\r\n0\r\n\r\n"
    assert [data for data in written if data in (first, last)] == [first, last]


@pytest.mark.trio
async def test_who_has_left_a_stream_is_written_nothing_and_not_lingered_for(written, monkeypatch):
    left = trio.Event()
    lingered = []

    async def linger(self: connection.Connection) -> None:
        lingered.append(self)

    monkeypatch.setattr(connection.Connection, "_linger", linger)

    async def run(send: SendBytes) -> None:
        try:
            await send(b"data: 1\n\n")
            await trio.sleep_forever()
        finally:
            left.set()

    async with hosted(streaming(run, speaks_first=True)) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(KEPT)
            await stream.receive_some()
        await left.wait()
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert not [data for data in written if b"bye" in data]
    assert not lingered


@pytest.mark.trio
@pytest.mark.timeout(30)  # no trio timeout ends what never waits
async def test_a_stream_that_does_nothing_but_write_gives_the_others_their_turns():
    async def run(send: SendBytes) -> None:
        while True:
            await send(b"data: 1\n\n")

    async with (
        hosted(streaming(run, speaks_first=True)) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(drain, stream)
        with trio.fail_after(10):
            await stream.send_all(KEPT)
            for _ in range(100):
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def drain(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


@pytest.mark.trio
async def test_an_answer_that_the_kernel_has_no_room_for_arrives_whole():
    big = os.urandom(8 * 1024 * 1024)

    async def handle(exchange: Exchange) -> Answer:
        return web.Response(status=200, body=big)

    async with (
        hosted(application(handle, closing=trio.Event())) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(KEPT * 2)
        await trio.testing.wait_all_tasks_blocked(0.02)  # the kernel is full
        received = b""
        with trio.fail_after(10):
            while len(received) < 2 * len(big):
                received += await stream.receive_some()
    head, _, rest = received.partition(b"\r\n\r\n")
    assert rest[: len(big)] == big
    assert rest.endswith(big[-1000:])
    assert head.startswith(b"HTTP/1.1 200")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (POST, b"body"),
        (KEPT, b""),
        (POST[:-1], None),  # more is to come
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 4 + b"0\r\n\r\n",
            b"aaaa",
        ),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 99 + b"0\r\n\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nno chunk", None),
    ],
)
async def test_a_body_that_is_there_already_stands_in_the_scope(packet, wanted):
    held = Held()
    async with hosted(held) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(packet)
        await held.entered.wait()
        assert held.scopes[0]["extensions"].get(BODY) == wanted
        held.gate.set()
        await stream.receive_some()


@pytest.mark.trio
async def test_a_body_in_the_scope_comes_by_messages_too():
    messages: list[Message] = []

    async def reads(scope: Message, receive: Receive, send: Send) -> None:
        messages.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with hosted(reads) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(2):
            await stream.send_all(POST)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 204")
    assert [(message["body"], message["more_body"]) for message in messages] == [(b"body", True), (b"", False)] * 2


@pytest.mark.trio
async def test_a_body_over_the_limit_is_refused_although_it_is_there():
    async def handle(exchange: Exchange) -> Answer:
        try:
            return web.Response(status=200, body=await exchange.read_body(limit=3))
        except web.HttpError as error:
            return web.Response(status=error.status)

    async with hosted(application(handle, closing=trio.Event())) as port:
        received = await talk(port, POST + POST.replace(b"Host: h", b"Host: h\r\nConnection: close"))
    assert received.count(b"HTTP/1.1 413") == 2


@pytest.mark.trio
async def test_a_client_that_waits_for_100_gets_it_where_its_body_is_wanted_and_only_there():
    head = b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    app = application(answer, closing=trio.Event())
    async with hosted(app) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head % b"/echo")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(b"body")
            assert (await stream.receive_some()).endswith(b"body")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head % b"/unread")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 401")


@pytest.mark.trio
async def test_what_a_client_sends_ahead_is_taken_to_a_bound_and_answered_in_turn(monkeypatch):
    taken = 0
    pull = connection.Connection._pull

    async def counted(self: connection.Connection) -> bytes:
        nonlocal taken
        data = await pull(self)
        taken += len(data)
        return data

    monkeypatch.setattr(connection.Connection, "_pull", counted)
    gate, entered = trio.Event(), trio.Event()

    async def handle(exchange: Exchange) -> Answer:
        if not gate.is_set():
            entered.set()
            async with cancelled_by(exchange.wait_for_disconnect):
                await gate.wait()
        return web.Response(status=200, body=b"done")

    ahead = 20_000
    async with (
        hosted(application(handle, closing=trio.Event())) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
        trio.open_nursery() as nursery,
    ):
        await stream.send_all(KEPT)
        await entered.wait()
        nursery.start_soon(stream.send_all, KEPT * ahead)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert lean.AHEAD_BYTES < taken <= lean.AHEAD_BYTES + 2 * connection.RECEIVE_BYTES
        gate.set()
        answers, rest = 0, b""
        with trio.fail_after(60):
            while answers < ahead + 1:
                rest += await stream.receive_some()
                answers += rest.count(b"done")
                rest = rest[-3:]


@pytest.mark.trio
async def test_a_departure_is_noticed_without_a_task_that_waits_for_it():
    entered, left = trio.Event(), trio.Event()

    async def handle(exchange: Exchange) -> Answer:
        async with until_left(exchange) as scope:
            entered.set()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        left.set()
        return web.Response(status=499)

    async with hosted(application(handle, closing=trio.Event())) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await trio.testing.wait_all_tasks_blocked(0.02)
        before = Baseline.now()
        await stream.send_all(KEPT + KEPT)  # more that was sent does not hide that nobody is there
        await entered.wait()
        assert Baseline.now() == before
        await stream.aclose()
        with trio.fail_after(10):
            await left.wait()


@pytest.mark.trio
async def test_who_sends_ahead_gives_others_their_turns():
    served: list[bytes] = []

    async def handle(exchange: Exchange) -> Answer:
        served.append(exchange.request.path.encode())
        return web.Response(status=200)

    async with (
        hosted(application(handle, closing=trio.Event())) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as many,
        await trio.open_tcp_stream("127.0.0.1", port) as one,
    ):
        await trio.testing.wait_all_tasks_blocked(0.02)
        many.socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        await many.send_all(b"GET /many HTTP/1.1\r\nHost: h\r\n\r\n" * 200)
        await one.send_all(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
        with trio.fail_after(10):
            while len(served) < 201:
                await trio.lowlevel.checkpoint()
    assert served.index(b"/one") < 190


@pytest.mark.trio
@pytest.mark.parametrize("asks", [True, False])
async def test_whose_request_says_nothing_of_a_tenant_is_noticed_and_who_asks_nothing_is_not(asks, monkeypatch):
    noticed: list[str] = []
    monkeypatch.setattr(Turns, "notice", lambda _, tenant: noticed.append(tenant))
    async with hosted(application(answer, closing=trio.Event())) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            if asks:
                await stream.send_all(KEPT)
                assert b"200" in await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert set(noticed) == ({""} if asks else set())


@pytest.mark.trio
async def test_who_reads_on_after_the_socket_was_closed_is_at_the_end():
    entered, closed, ended = trio.Event(), trio.Event(), trio.Event()

    async def handle(exchange: Exchange) -> Answer:
        with trio.CancelScope(shield=True):
            entered.set()
            await closed.wait()
            await exchange.wait_for_disconnect()
            ended.set()
        return web.Response(status=499)

    async def close_later() -> None:
        await trio.testing.wait_all_tasks_blocked(0.05)  # the host has cut what did not end in time
        closed.set()

    limits = HostLimits(stop_grace_s=0.0)
    async with trio.open_nursery() as nursery:
        async with hosted(application(handle, closing=trio.Event()), limits=limits) as port:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(KEPT)
            await entered.wait()
            nursery.start_soon(close_later)
        await stream.aclose()
    assert ended.is_set()
