"""What is held costs: memory of a session and of a stream, calls beside many streams, restarts, pushes.

`python -m bench.held [--sessions 2000] [--streams 10000] [--workers 1]` prints the figures and writes
results/held.json. Sessions are opened by initialize; the quiet streams are listen streams of 2026-07-28 and, for the
push, standalone streams of sessions. After a restart every session goes on, and its first call is timed beside its
second. A push begins with SIGHUP, after the configuration has changed, and ends when a stream has brought it.
"""

import argparse
import json
import re
import selectors
import signal
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from conformance.login import sign_in

from bench.flood import builder
from bench.load import called, open_session, request_builder, whole_answer
from bench.neighbour import p
from bench.rounds import (
    RESULTS,
    Process,
    configured,
    flush_ms,
    measure,
    processes,
    ratio,
    save,
    serve,
    started,
    surroundings,
)

LIMITS = """
trusted_proxies = ["127.0.0.0/8"]
"""
MORE = """
[limits]
sessions_per_tenant = 1000000
streams_per_tenant = 1000000
"""
CALLERS = 16
PUSHES = 10
PUSH_STREAMS = 100
TOOLS = 'tools = ["echo", "search_documents", "admin_purge"]'
FEWER = 'tools = ["echo", "search_documents"]'


def resident_kib(server: Process) -> int:
    """Give the resident memory of all of the server's processes."""
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes(server.process.pid)]
    return sum(pages) * 4


def connect(url: str) -> socket.socket:
    """Open a connection to a server."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_stream(url: str, request: bytes) -> socket.socket:
    """Open a stream; raises RuntimeError where it is refused."""
    sock = connect(url)
    sock.sendall(request)
    begun = sock.recv(65536)
    if b" 200" not in begun[:13]:
        raise RuntimeError(f"a stream was refused: {begun[:200]!r}")
    return sock


def standalone_request(url: str, token: str, session: str) -> bytes:
    """Write the GET of a session's standalone stream."""
    parts = urlsplit(url)
    return (
        f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\n"
        f"accept: text/event-stream\r\nmcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n\r\n"
    ).encode()


def sessions_cost(server: Process, token: str, count: int) -> tuple[list[str], dict[str, Any]]:
    """Open sessions; give their ids, and what one took."""
    before = resident_kib(server)
    began = time.perf_counter()
    ids = [open_session(server.url, token) for _ in range(count)]
    took = time.perf_counter() - began
    found = [each for each in ids if each is not None]
    if len(found) != count:
        raise RuntimeError("a session was refused")
    return found, {
        "sessions": count,
        "kib_each": (resident_kib(server) - before) / count,
        "open_ms_each": 1000 * took / count,
    }


def streams_cost(server: Process, token: str, count: int, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Open quiet streams, call beside them, close them; calls before, beside and behind."""

    def calls() -> float:
        found = measure(server, token, callers=CALLERS, seconds=seconds, era="modern", session=False)
        return float(found["calls_per_s"])

    calls()
    before = [calls() for _ in range(rounds)]
    build = builder("streams", server.url, token)
    quiet = resident_kib(server)
    began = time.perf_counter()
    streams = [open_stream(server.url, build(number)) for number in range(count)]
    took = time.perf_counter() - began
    each = (resident_kib(server) - quiet) / count
    beside = [calls() for _ in range(rounds)]
    for stream in streams:
        stream.close()
    time.sleep(2.0)
    behind = [calls() for _ in range(rounds)]
    around = [(one + other) / 2 for one, other in zip(before, behind, strict=True)]
    return {
        "streams": count,
        "kib_each": each,
        "open_ms_each": 1000 * took / count,
        "kib_each_left_behind": (resident_kib(server) - quiet) / count,
        "calls_per_s_before": before,
        "calls_per_s_beside": beside,
        "calls_per_s_behind": behind,
        "ratio": ratio(beside, around),
    }


def call_ms(sock: socket.socket, url: str, token: str, session: str, number: int) -> float:
    """Call once in a session; give milliseconds. Raises RuntimeError where that fails."""
    began = time.perf_counter()
    sock.sendall(request_builder(url, token, era="legacy", session=session)(number))
    status, body = whole_answer(sock)
    if not called(status, body, number):
        raise RuntimeError(f"a call in a session failed: {status} {body[:200]!r}")
    return 1000 * (time.perf_counter() - began)


def calls_in(url: str, token: str, sessions: list[str]) -> tuple[list[float], list[float]]:
    """Call twice in each session; give both times."""
    with connect(url) as sock:
        pairs = [
            (call_ms(sock, url, token, session, 2 * number), call_ms(sock, url, token, session, 2 * number + 1))
            for number, session in enumerate(sessions, start=1)
        ]
    return [first for first, _ in pairs], [second for _, second in pairs]


def quantiles(values: list[float]) -> dict[str, float]:
    """Give p50, p99 and the greatest."""
    return {"p50_ms": p(0.5, values), "p99_ms": p(0.99, values), "max_ms": max(values)}


def push_ms(server: Process, streams: list[socket.socket], config: Path) -> list[float]:
    """Change what the tenant may use, tell the server, and give milliseconds until each stream has brought it."""
    text = config.read_text()
    config.write_text(text.replace(TOOLS, FEWER) if TOOLS in text else text.replace(FEWER, TOOLS))
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream, selectors.EVENT_READ)
    began = time.perf_counter()
    server.process.send_signal(signal.SIGHUP)
    taken: list[float] = []
    while len(taken) < len(streams):
        ready = selector.select(timeout=20)
        if not ready:
            raise RuntimeError(f"{len(streams) - len(taken)} streams were not told")
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            if b"list_changed" in key.fileobj.recv(65536):
                taken.append(1000 * (time.perf_counter() - began))
                selector.unregister(key.fileobj)
    return taken


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "workers": options.workers}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        results["flush_ms"] = flush_ms(place)
        config = configured(place, MORE)
        config.write_text(LIMITS + config.read_text())
        start = partial(serve, config, place / "data", workers=options.workers, mode="dual")
        with started(start()) as server:
            token = sign_in(server.url, user="alice", password="demo").access_token
            port = urlsplit(server.url).port or 80
            measure(server, token, callers=CALLERS, seconds=1, era="modern", session=False)
            sessions, results["session"] = sessions_cost(server, token, options.sessions)
            print("session:", _short(results["session"]), flush=True)
            if options.streams:
                how = {"rounds": options.rounds, "seconds": options.seconds}
                results["stream"] = streams_cost(server, token, options.streams, **how)
                print("stream:", _short(results["stream"]), flush=True)
        began = time.perf_counter()
        with ExitStack() as stack:
            server = stack.enter_context(started(start(port=port)))
            ready = time.perf_counter() - began
            first, second = calls_in(server.url, token, sessions)
            results["restart"] = {
                "ready_after_s": ready,
                "first_call": quantiles(first),
                "second_call": quantiles(second),
                "first_to_second": statistics.median(first) / statistics.median(second),
            }
            print("restart:", _short(results["restart"]), flush=True)
            streams = [
                open_stream(server.url, standalone_request(server.url, token, session))
                for session in sessions[:PUSH_STREAMS]
            ]
            times = [push_ms(server, streams, config) for _ in range(PUSHES)]
            results["push"] = {
                "streams": len(streams),
                "pushes": PUSHES,
                "first_stream": quantiles([min(each) for each in times]),
                "last_stream": quantiles([max(each) for each in times]),
            }
            print("push:", _short(results["push"]), flush=True)
            for stream in streams:
                stream.close()
    print(save("held" + ("" if options.workers == 1 else f"-{options.workers}"), results, options.results))
    return 0


def _short(found: dict[str, Any]) -> str:
    return re.sub(r"(\.\d{3})\d+", r"\1", json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
