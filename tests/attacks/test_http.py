"""Attacks below the application: packets, framing, floods, slowness, and signals."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from resource import RLIMIT_NOFILE, prlimit

import pytest
import trio
from h2.errors import ErrorCodes
from structlog.testing import capture_logs

from tenantry.server import exchange
from tenantry.server.application import application
from tenantry.server.host import HostLimits, frames, tls_context
from tests.attacks.people import Client, sign_in
from tests.attacks.speaker import legacy, modern, speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import FORM, Target
from tests.attacks.wire import Reply, Stream, connect, eventually, read_all, read_reply, request_bytes, status_of
from tests.certificates import self_signed
from tests.fuzz.packets import H2C, PRIOR_KNOWLEDGE, WEBSOCKET, Baseline, answer, hosted
from tests.http2_client import Http2Client, connected
from tests.server.test_frames import PING, SETTINGS, frame


def packet(server: Target, text: bytes) -> int:
    """The status that comes back for a packet in which `h` stands for the server's name."""
    return status_of(server.raw(text.replace(b"Host: h\r\n", f"Host: {server.netloc}\r\n".encode())))


UPGRADES = {
    "good settings": H2C + b"AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "settings that are no base64": H2C + b"!\r\n\r\n",
    "settings of an odd length": H2C + b"AAMA\r\n\r\n",
    "settings out of range": H2C + b"AAIAAAAC\r\n\r\n",
    "a websocket": WEBSOCKET + b"\r\n",
    "a websocket with a byte behind it": WEBSOCKET + b"\r\nX",
    "a websocket with extensions that are no text": WEBSOCKET + b"Sec-WebSocket-Extensions: \xff\r\n\r\n",
    "a websocket with a bad window": WEBSOCKET
    + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=abc\r\n\r\n",
    "a no-break space": WEBSOCKET.replace(b"Upgrade\r\n", b"Upgrade\xa0\r\n", 1) + b"\r\n",
}


@attack("HTTP-02")
@pytest.mark.parametrize("text", UPGRADES.values(), ids=UPGRADES.keys())
def test_a_wish_for_another_protocol_is_not_heard_and_harms_nobody(server, text):
    received = server.raw(text.replace(b"Host: h\r\n", f"Host: {server.netloc}\r\n".encode()))
    assert status_of(received) == 404, received[:200]  # what there is at these paths by HTTP/1.1: nothing
    assert b" 101 " not in received
    assert server.alive()
    assert "failed" not in server.running.logged()


@attack("HTTP-03")
def test_http_2_without_tls_is_refused(server):
    received = server.raw(PRIOR_KNOWLEDGE, half_close=False)
    assert status_of(received) == 505
    assert b"connection: close" in received.lower()
    assert packet(server, b"GET /jwks HTTP/2.0\r\nHost: h\r\n\r\n") in (400, 505)
    assert packet(server, b"GET /jwks HTTP/1.2\r\nHost: h\r\nConnection: close\r\n\r\n") == 505
    upgrade = server.raw(UPGRADES["good settings"].replace(b"/ok", b"/jwks").replace(b"Host: h\r\n", b"Host: x\r\n"))
    assert b" 101 " not in upgrade


FLOODS = {
    "settings": frame(SETTINGS, 0, stream=0) * 50,
    "pings": frame(PING, 8, stream=0) * 50,
    "headers without end": frame(frames.HEADERS, 10, stream=1) + frame(frames.CONTINUATION, 1000) * 40,
}


@attack("HTTP-04", modes=())
@pytest.mark.parametrize("kind", [*FLOODS, "resets"])
async def test_a_flood_of_frames_ends_its_connection(kind, tmp_path):
    certificate = self_signed(tmp_path)
    context = tls_context(certificate.certfile, certificate.keyfile)
    with capture_logs() as logs:
        async with hosted(application(answer, closing=trio.Event()), tls=context) as port:
            baseline = Baseline.now()
            with trio.fail_after(20):
                async with connected(port, certificate.client("h2")) as client, trio.open_nursery() as nursery:
                    nursery.start_soon(_pour, client, kind)
                    assert await client.end() == ErrorCodes.ENHANCE_YOUR_CALM
                    nursery.cancel_scope.cancel()
            async with connected(port, certificate.client("h2")) as client:
                assert (await client.answer(await client.request("/ok"))).body == b"ok"
            await baseline.restored()
    assert [line for line in logs if line["event"].endswith("failed")] == []


async def _pour(client: Http2Client, kind: str) -> None:
    for _ in range(400):
        if client.closed or client.goodbye is not None:
            return
        if kind == "resets":
            id_ = client.connection.get_next_available_stream_id()
            pseudo = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/ok")]
            client.connection.send_headers(id_, pseudo, end_stream=True)
            client.connection.reset_stream(id_, ErrorCodes.CANCEL)
            await client.flush()
        else:
            await client.send(FLOODS[kind])


@attack("HTTP-07", modes=())
async def test_a_header_that_does_not_end_is_cut(tmp_path):
    limits = HostLimits(header_timeout_s=0.3, keep_alive_s=0.3)
    async with hosted(application(answer, closing=trio.Event()), limits=limits) as port:
        baseline = Baseline.now()
        for first in (b"GET /ok HTTP/1.1\r\nHost: h\r\n", b"G", b""):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            with trio.fail_after(30):  # without the cut it would go on for ever
                async with stream:
                    await _trickle(stream, first)
        await baseline.restored()


async def _trickle(stream: trio.SocketStream, first: bytes) -> None:
    try:
        await stream.send_all(first or b"\r")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_lines, stream)
            while await stream.receive_some(4096):
                pass
            nursery.cancel_scope.cancel()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _lines(stream: trio.SocketStream) -> None:
    try:
        while True:
            await trio.sleep(0.05)
            await stream.send_all(b"A: b\r\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@attack("HTTP-08", modes=())
@pytest.mark.parametrize("head", [b"Content-Length: 500", b"Transfer-Encoding: chunked"], ids=["announced", "chunked"])
async def test_a_body_that_does_not_come_is_not_waited_for(head, monkeypatch):
    monkeypatch.setattr(exchange, "BODY_START_S", 0.3)
    monkeypatch.setattr(exchange, "BODY_END_S", 0.6)
    async with hosted(application(answer, closing=trio.Event())) as port:
        baseline = Baseline.now()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        received = b""
        with trio.fail_after(30):
            async with stream, trio.open_nursery() as nursery:
                await stream.send_all(b"POST /echo HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n\r\n")
                nursery.start_soon(_bytes, stream, b"1\r\nx\r\n" if b"chunked" in head else b"x")
                while b"\r\n\r\n" not in received:
                    received += await stream.receive_some(4096) or b"\r\n\r\n"
                nursery.cancel_scope.cancel()
        assert status_of(received) == 408
        await baseline.restored()


async def _bytes(stream: trio.SocketStream, piece: bytes) -> None:
    try:
        while True:
            await stream.send_all(piece)
            await trio.sleep(0.05)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


def chunked_dust(server: Target, path: str, pieces: int, **fields: str) -> bytes:
    head = [("Host", server.netloc), ("Transfer-Encoding", "chunked"), *fields.items()]
    return server.raw(request_bytes("POST", path, head, b"1\r\n \r\n" * pieces + b"0\r\n\r\n"))


@attack("HTTP-09")
def test_a_body_of_dust_is_refused(server):
    token = sign_in(server).access
    fields = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", "Accept": "*/*"}
    cpu = server.cpu_s()
    for path, kind in (
        ("/mcp", fields),
        ("/token", {"Content-Type": FORM}),
        ("/register", {"Content-Type": "application/json"}),
    ):
        for pieces in (4_000, 200_000):
            received = chunked_dust(server, path, pieces, **kind)
            assert status_of(received) in (0, 400), received[:100]  # 0: cut while the dust still came
            assert b"pieces" in received or status_of(received) == 0
    assert server.cpu_s() - cpu < 8.0


@attack("HTTP-10")
def test_an_early_answer_to_a_big_body_is_read_by_who_still_writes(server):
    body = b"x" * (6 * 1024 * 1024)
    head = [("Host", server.netloc), ("Content-Length", str(len(body))), ("Content-Type", "application/json")]
    for path, wanted in (("/mcp", 401), ("/register", 413), ("/nothing", 404)):
        with connect(server.port) as sock:
            sock.sendall(request_bytes("POST", path, head, body))  # all of it, before anything is read
            assert read_reply(sock, "POST").status == wanted, path


@attack("HTTP-12")
def test_idle_connections_of_one_peer_leave_room_for_others(server, longer):
    with ExitStack() as stack:
        socks = [stack.enter_context(connect(server.port, "127.0.5.1")) for _ in range(longer(540, 10_000))]
        assert eventually(lambda: server.running.descriptors() >= 512)
        refused = socks[-1]
        refused.settimeout(5)
        assert read_all(refused) == b""  # closed at once
        assert server.running.descriptors() < 512 + 64
        assert server.ask("GET", "/jwks", source="127.0.5.2").status == 200


@attack("HTTP-12", modes=("dual",))
def test_running_out_of_descriptors_is_waited_out(server):
    pid = server.running.process.pid
    before = prlimit(pid, RLIMIT_NOFILE)
    prlimit(pid, RLIMIT_NOFILE, (server.running.descriptors() + 8, before[1]))
    try:
        with ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(connect(server.port))
            time.sleep(0.3)  # it runs into the limit
        assert eventually(lambda: server.ask("GET", "/jwks").status == 200)
    finally:
        prlimit(pid, RLIMIT_NOFILE, before)


@attack("HTTP-13")
def test_headers_are_bounded_by_number_and_by_size(server):
    for lines in (
        b"a:b\r\n" * 1500,
        b"a:b\r\n" * 101,
        b"a: " + b"b" * 17 * 1024 + b"\r\n",
        b"a: " + b"b" * 64 * 1024 + b"\r\n",
        b"Cookie: " + b"; ".join(b"c%d=%s" % (n, b"x" * 200) for n in range(100)) + b"\r\n",
        b"".join(b"h%d: %s\r\n" % (n, b"x" * 300) for n in range(90)),
    ):
        received = server.raw(b"GET /jwks HTTP/1.1\r\nHost: " + server.netloc.encode() + b"\r\n" + lines + b"\r\n")
        assert status_of(received) == 431, lines[:30]
    assert packet(server, b"GET /" + b"a" * 17 * 1024 + b" HTTP/1.1\r\nHost: h\r\n\r\n") == 431
    good = b"GET /jwks HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + b"a:b\r\n" * 90 + b"\r\n"
    assert packet(server, good) == 200


@attack("HTTP-14")
def test_a_path_is_compared_as_it_was_sent(server):
    spoken = speaker(server, sign_in(server).access)
    fields = [("Host", server.netloc), ("Connection", "close")]
    fields += [(name, value) for name, value in spoken.fields().items() if value is not None]
    for target in (
        "//mcp",
        "/mcp/",
        "/MCP",
        "/mcp;x",
        "/mcp;x=1",
        "/mcp/..%2f",
        "/x/../mcp",
        "/./mcp",
        "/%6dcp",
        "/mcp%00",
        "/mcp%2f",
        "/%2e%2e/mcp",
        "/\\mcp",
        "/mcp\u00e9",
        f"http://{server.netloc}/mcp",
        "http://evil.example/mcp",
        "*",
        "mcp",
    ):
        for method in ("POST", "GET", "OPTIONS"):
            received = server.raw(request_bytes(method, target, fields))
            assert status_of(received) in (400, 403, 404), (method, target, received[:80])
            assert b"jsonrpc" not in received
    for target in ("/jwks/", "/JWKS", "//jwks", "/%6awks", "/register/..", "/token%20"):
        assert server.ask("GET", target).status == 404, target
    assert server.faults() == []


@attack("HTTP-15")
def test_only_the_methods_of_a_path_are_served(server):
    token = sign_in(server).access
    bearer = {"Authorization": f"Bearer {token}"}
    for path, served in (
        ("/mcp", "POST"),
        ("/token", "POST"),
        ("/jwks", "GET"),
        ("/authorize", "GET"),
        ("/login", "POST"),
    ):
        for method in ("TRACE", "PUT", "PATCH", "PROPFIND", "X" * 1000):
            reply = server.ask(method, path, headers=bearer)
            assert reply.status == 405, (method, path)
            assert served in (reply.header("allow") or ""), path
            assert token not in reply.text
        for method in (served.lower(), served.capitalize()):
            assert server.ask(method, path, headers=bearer).status == 400, method
    assert packet(server, b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n") == 405
    assert status_of(server.raw(b"X" * 20_000 + b" /jwks HTTP/1.1\r\n\r\n")) in (400, 431)


SPOOFS = ({"X-Forwarded-For": "198.51.100.7"}, {"Forwarded": "for=198.51.100.7"}, {"X-Real-IP": "198.51.100.7"})


@attack("HTTP-16")
def test_nobody_says_of_themselves_where_they_come_from(server):
    for headers in SPOOFS:
        before = len(server.records("login_failed"))
        client = Client.new(server)
        page = client.browser.get(client.authorization())
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        assert client.browser.log_in(page, "nemo", "wrong", **named).status in (403, 429)
        assert all(record["peer"] == "127.0.0.1" for record in server.records("login_failed")[before:])
    registered = server.ask(
        "POST",
        "/register",
        headers={"Content-Type": "application/json", **SPOOFS[0]},
        body=b'{"redirect_uris": ["https://app.example/spoofed"]}',
    )
    assert registered.status == 201
    (record,) = server.records("client_registered", client=registered.json["client_id"])
    assert record["peer"] == "127.0.0.1"


@attack("HTTP-16")
def test_a_trusted_proxy_is_believed_as_far_as_it_wrote_itself(start, mode):
    server = start(mode, edit=lambda text: 'trusted_proxies = ["127.0.0.1/32"]\n' + text)
    numbers = iter(range(100))

    def peer(headers: dict[str, str], source: str | None = None) -> str:
        body = b'{"redirect_uris": ["https://app.example/%d"]}' % next(numbers)
        fields = {"Content-Type": "application/json", **headers}
        reply: Reply = server.ask("POST", "/register", headers=fields, body=body, source=source)
        assert reply.status == 201, reply
        (record,) = server.records("client_registered", client=reply.json["client_id"])
        return str(record["peer"])

    assert peer({"X-Forwarded-For": "198.51.100.7"}) == "198.51.100.7"
    # What stands further left came from outside, and whoever is no proxy is not heard at all.
    assert peer({"X-Forwarded-For": "10.0.0.1, 198.51.100.7"}) == "198.51.100.7"
    assert peer({"Forwarded": "for=10.0.0.1, for=198.51.100.7"}) == "198.51.100.7"
    assert peer({"X-Forwarded-For": "198.51.100.7"}, source="127.0.0.2") == "127.0.0.2"
    assert peer({"X-Forwarded-For": "nonsense"}) == "127.0.0.1"


@attack("HTTP-17")
def test_a_stop_answers_what_is_under_way_and_ends_streams_cleanly(start, mode, longer):
    server = start(mode)
    server.register()
    tokens = [sign_in(server, user) for user in ("alice", "carol")]
    streams: list[Stream] = []
    for number in range(longer(6, 100)):
        access = tokens[number % 2].access
        if server.sessions:
            streams.append(legacy(server, access).listen())
        else:
            notifications = {"notifications": {"toolsListChanged": True}}
            streams.append(modern(server, access).stream("subscriptions/listen", notifications))
        streams[-1].event()
    speakers = [speaker(server, tokens[number % 2].access) for number in range(longer(8, 64))]
    before = len(server.records("tool_call", tool="pause"))
    with ThreadPoolExecutor(len(speakers)) as pool:
        calls = [pool.submit(spoken.call, "pause", {"seconds": 1.5, "message": "done"}) for spoken in speakers]
        time.sleep(0.7)  # all of them are under way
        server.running.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert stream.raw_rest().endswith(b"\r\n0\r\n\r\n")  # its last chunk
            stream.close()
        assert [text_of(call.result()) for call in calls] == ["done"] * len(calls)
    assert server.running.process.wait(30) == 0
    assert len(server.records("tool_call", tool="pause")) == before + len(calls)
    with pytest.raises(ConnectionError):
        server.ask("GET", "/jwks")
    server.stopped = True


@attack("HTTP-18")
def test_a_process_that_was_stopped_for_a_while_goes_on_where_it_was(server):
    spoken = speaker(server, sign_in(server).access)
    client = Client.new(server)
    code = client.code()
    before = len(server.records("tool_call", tool="pause", subject="alice"))
    with ThreadPoolExecutor(2) as pool:
        called = pool.submit(spoken.call, "pause", {"seconds": 0.3, "message": "slept"})
        time.sleep(0.1)
        os.kill(server.running.process.pid, signal.SIGSTOP)
        redeemed = pool.submit(client.redeem, code)
        time.sleep(1.0)
        os.kill(server.running.process.pid, signal.SIGCONT)
        assert text_of(called.result()) == "slept"
        assert redeemed.result().status == 200
    assert len(server.records("tool_call", tool="pause", subject="alice")) == before + 1
    assert len(server.records("token_issued", client=client.client_id)) == 1
