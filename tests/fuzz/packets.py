"""Mutated first packets at a live host: `python -m tests.fuzz.packets --packets 10000 --seed 7 [--http2 | --stock]`.

A run fails if the server ends, if it stops answering good requests, or if tasks or descriptors are left over. The
seeds hold everything that was seen to end a stock hypercorn process, and what lies near it.
"""

import argparse
import os
import random
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio
from structlog.testing import capture_logs

from tenantry import web
from tenantry.server.application import application
from tenantry.server.asgi import ASGIApp
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import Answer, Exchange
from tenantry.server.host import HostLimits, bind, serve, tls_context
from tests.certificates import self_signed
from tests.departing import until_left

GOOD = b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
H2C = b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
# SETTINGS, then HEADERS with END_STREAM and END_HEADERS: :method GET, :scheme http, and a :path of "/\xff".
PRIOR_KNOWLEDGE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x09\x01\x05\x00\x00\x00\x01\x82\x86\x04\x02/\xff\x41\x01h"
)
SEEDS = (
    GOOD,
    b"GET /ok?a=b HTTP/1.1\r\nHost: h\r\n\r\nGET /ok HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /ok HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET http://h/ok HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n1;x=y\r\n!\r\n0\r\nA: b\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
    b"GET /stream HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n",
    b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03\x01",
    WEBSOCKET + b"\r\n",
    WEBSOCKET + b"\r\n\x81\x01a",
    WEBSOCKET + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=abc\r\n\r\n",
    WEBSOCKET + b"Sec-WebSocket-Protocol: one, two\r\n\r\n",
    WEBSOCKET.replace(b"Upgrade\r\n", b"Upgrade\xa0\r\n", 1) + b"\r\n",
    H2C + b"AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    H2C + b"!\r\n\r\n",
    PRIOR_KNOWLEDGE,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)
HTTP2_ANSWER = b"\x01\x04\0\0\0\x01"  # the head of a HEADERS frame on the first stream


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _request(path: bytes, *, stream: int = 1, post: bool = False) -> bytes:
    """HEADERS with END_HEADERS, and with END_STREAM where no body is to come."""
    fields = (b"\x83" if post else b"\x82") + b"\x87\x04" + bytes([len(path)]) + path + b"\x41\x01h"
    return _frame(1, 4 if post else 5, stream, fields)


HTTP2_SEEDS = tuple(
    PRIOR_KNOWLEDGE[:24] + b"".join(parts)
    for parts in (
        [_frame(4, 0, 0), _request(b"/ok")],
        [_frame(4, 0, 0, b"\0\x04\0\0\xff\xff\0\x05\0\0\x40\0"), _frame(4, 1, 0), _request(b"/ok")],
        [_frame(1, 1, 1, b"\x82\x87"), _frame(9, 4, 1, b"\x04\x03/ok\x41\x01h")],
        [_request(b"/echo", post=True), _frame(0, 9, 1, b"\x02body\0\0")],
        [_request(b"/unread", post=True), _frame(0, 0, 1, b"half"), _request(b"/ok", stream=3)],
        [_request(b"/stream"), _frame(3, 0, 1, b"\0\0\0\x08"), _request(b"/ok", stream=3)],
        [_frame(6, 0, 0, b"pingpong"), _frame(8, 0, 0, b"\0\0\xff\xff"), _request(b"/stream")],
        [_frame(2, 0, 1, b"\0\0\0\x03\x10"), _request(b"/ok"), _frame(7, 0, 0, b"\0" * 8)],
        [_frame(1, 5, 1, b"\x02\x07CONNECT\x41\x01h")],
        [_request(b"/\xff")],
    )
)
GRIST = (b"\r\n", b"\r\n\r\n", b"\0", b"\xff", b"\xa0", b":", b" ", b",", b"\t", b"0", b"Upgrade: h2c\r\n", b"%00")
AT_ONCE = 16
PATIENCE_S = 5.0
# How HTTP/1.1 is spoken where a test does not say.
LEAN = True
# A connection that is kept alive does not say that no answer will come.
HTTP2_WAIT_S = 0.2


async def answer(exchange: Exchange) -> Answer:
    """A small application with one of everything."""
    path = exchange.request.path
    if path == "/unread":
        return web.Response(status=401)
    try:
        body = await exchange.read_body(limit=64 * 1024)
    except web.HttpError as error:
        return web.Response(status=error.status)
    if path == "/stream":
        return EventStream(run=_three_events)
    if path == "/echo":
        async with until_left(exchange):
            await trio.lowlevel.checkpoint()
        return web.Response(status=200, body=body)
    return web.Response(status=200 if path == "/ok" else 404, body=b"ok" if path == "/ok" else b"")


async def _three_events(send: SendBytes) -> None:
    for number in range(3):
        await send(b"data: %d\n\n" % number)


@asynccontextmanager
async def hosted(
    app: ASGIApp,
    *,
    limits: HostLimits | None = None,
    shutdown: trio.Event | None = None,
    lean: bool | None = None,
    tls: ssl.SSLContext | None = None,
    is_proxy: Callable[[str], bool] = lambda _: False,
) -> AsyncIterator[int]:
    """Serve `app` on a free port, which is given, until the block ends; the server's end is then waited for."""
    sock = bind("127.0.0.1", 0)
    port = int(sock.getsockname()[1])
    stop = trio.Event() if shutdown is None else shutdown
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                serve,
                app,
                sockets=[sock],
                shutdown=stop,
                limits=limits,
                lean=LEAN if lean is None else lean,
                tls=tls,
                is_proxy=is_proxy,
            )
        )
        try:
            yield port
        finally:
            stop.set()


@dataclass(frozen=True)
class Baseline:
    """What a server with no connection has open."""

    tasks: int
    descriptors: int

    @classmethod
    def now(cls) -> "Baseline":
        """Count the living tasks of this run and the open descriptors of this process."""
        return cls(trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd")))  # noqa: PTH208

    async def restored(self) -> None:
        """Return once the counts are back; raises `AssertionError` with both after PATIENCE_S.

        Nothing tells when the kernel and the last connection are through, so this looks every few milliseconds.
        """
        with trio.move_on_after(PATIENCE_S):
            while Baseline.now() != self:  # noqa: ASYNC110
                await trio.sleep(0.002)
        assert Baseline.now() == self


async def talk(port: int, *packets: bytes, half_close: bool = False) -> bytes:
    """Send `packets` one after the other, and give all that comes until the server closes."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    received = b""
    with trio.fail_after(PATIENCE_S):
        async with stream:
            try:
                for packet in packets:
                    await stream.send_all(packet)
                if half_close:
                    await stream.send_eof()
                async for data in stream:
                    received += data
            except trio.BrokenResourceError:
                pass  # reset: what came before it counts
    return received


async def talk_http2(port: int, tls: ssl.SSLContext, *packets: bytes, patience_s: float = PATIENCE_S) -> bytes:
    """Send `packets` over TLS, and give what comes until an answer begins, the server closes or time is up."""
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
        stream = trio.SSLStream(tcp, tls, server_hostname="localhost", https_compatible=True)
        with suppress(trio.BrokenResourceError), trio.move_on_after(patience_s):
            for packet in packets:
                await stream.send_all(packet)
            async for data in stream:
                received += data
                if HTTP2_ANSWER in received:
                    break
    return received


def mutated(source: random.Random, seeds: Sequence[bytes]) -> list[bytes]:
    """One seed with up to four faults, in one packet or two."""
    packet = bytearray(source.choice(seeds))
    for _ in range(source.randint(0, 4)):
        _spoil(packet, source, seeds)
    if source.random() < 0.7:
        return [bytes(packet)]
    cut = source.randint(0, len(packet))
    return [bytes(packet[:cut]), bytes(packet[cut:])]


def _spoil(packet: bytearray, source: random.Random, seeds: Sequence[bytes]) -> None:
    start = source.randint(0, len(packet))
    end = min(len(packet), start + source.randint(1, 12))
    way = source.randrange(6)
    if way == 0 and start < len(packet):
        packet[start] = source.randrange(256)
    elif way == 1:
        packet[start:start] = source.choice(GRIST)
    elif way == 2:
        del packet[start:end]
    elif way == 3:
        packet[start:start] = packet[start:end] * source.randint(1, 40)
    elif way == 4:
        packet[start:] = source.choice(seeds)[start:]
    else:
        packet += source.choice((source.choice(seeds), source.randbytes(8)))


async def attack(port: int, source: random.Random, tls: ssl.SSLContext | None) -> bytes:
    """Send one mutated packet, then read to the end, or leave without a word; gives how the answer began."""
    packets = mutated(source, SEEDS if tls is None else HTTP2_SEEDS)
    if tls is not None:
        return (
            b"answered"
            if HTTP2_ANSWER in await talk_http2(port, tls, *packets, patience_s=HTTP2_WAIT_S)
            else b"refused"
        )
    if source.random() < 0.2:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(packets[0] or b"\n")
        return b"left"
    received = await talk(port, *packets, half_close=True)
    return received[9:12] if received.startswith(b"HTTP/1.1 ") else received[:12]


async def run(*, packets: int, seed: int, http2: bool = False, lean: bool = True) -> Counter[bytes]:
    """Send `packets` mutated packets, AT_ONCE at a time; gives the answers by status code.

    Raises `AssertionError` for a server that no longer answers or that keeps tasks or descriptors, and what the
    server itself raised if it ended. `failed` counts connections that only the last catch saved.
    """
    source = random.Random(seed)
    answers: Counter[bytes] = Counter()
    server, client = _contexts() if http2 else (None, None)
    with capture_logs() as logs:
        async with hosted(application(answer, closing=trio.Event()), lean=lean, tls=server) as port:
            baseline = Baseline.now()
            await _answers_still(port, client)
            for start in range(0, packets, AT_ONCE):
                async with trio.open_nursery() as nursery:
                    for _ in range(min(AT_ONCE, packets - start)):
                        nursery.start_soon(_count, port, random.Random(source.random()), answers, client)
            await _answers_still(port, client)
            await baseline.restored()
    failures = [line for line in logs if line["event"] in ("connection_failed", "request_failed", "stream_failed")]
    answers[b"failed"] = len(failures)
    for line in failures[:5]:
        structlog.get_logger().warning(**line)
    return answers


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    with tempfile.TemporaryDirectory() as directory:
        certificate = self_signed(Path(directory))
        return tls_context(certificate.certfile, certificate.keyfile), certificate.client("h2")


async def _answers_still(port: int, tls: ssl.SSLContext | None) -> None:
    if tls is None:
        assert b"200" in await talk(port, GOOD)
    else:
        assert HTTP2_ANSWER in await talk_http2(port, tls, HTTP2_SEEDS[0])


async def _count(port: int, source: random.Random, answers: Counter[bytes], tls: ssl.SSLContext | None) -> None:
    answers[await attack(port, source, tls)] += 1


def main() -> int:
    """Run from the command line; the exit status is 0 only if no connection needed the last catch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--http2", action="store_true")
    parser.add_argument("--stock", action="store_true", help="speak HTTP/1.1 by hypercorn's own stream classes")
    arguments = parser.parse_args()
    how = {"http2": arguments.http2, "lean": not arguments.stock}
    answers = trio.run(partial(run, packets=arguments.packets, seed=arguments.seed, **how))
    sys.stdout.write(f"seed {arguments.seed}: {dict(answers.most_common())}\n")
    return 1 if answers[b"failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
