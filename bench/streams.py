"""What a quiet event stream costs: resident memory a stream, and calls that go on while all of them are open.

`python -m bench.streams [--streams 10000]` prints a table and writes results/streams.json. `listen` streams are those
of 2026-07-28, `get` streams the standalone ones of a legacy session, which is opened for each.
"""

import argparse
import resource
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load import LEGACY, MODERN, open_session
from bench.rounds import Server, configured, measure, running, save, surroundings

# A peer may have 512 connections, and every address of 127.0.0.0/8 is one.
STREAMS_PER_ADDRESS = 400
LIMITS = "\n[limits]\nstreams_per_tenant = 100000\nsessions_per_tenant = 100000\n"
CALLERS = 4
CALL_S = 5.0


def request(kind: str, url: str, token: str, number: int) -> bytes:
    """The request that opens a stream."""
    parts = urlsplit(url)
    head = f"{parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\n"
    if kind == "get":
        session = open_session(url, token)
        return (
            f"GET {head}accept: text/event-stream\r\n"
            f"mcp-session-id: {session}\r\nmcp-protocol-version: {LEGACY}\r\n\r\n"
        ).encode()
    body = (
        f'{{"jsonrpc":"2.0","id":{number},"method":"subscriptions/listen","params":{{'
        f'"notifications":{{"toolsListChanged":true}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}",'
        '"io.modelcontextprotocol/clientCapabilities":{}}}}'
    )
    return (
        f"POST {head}content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        f"mcp-protocol-version: {MODERN}\r\nmcp-method: subscriptions/listen\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def open_stream(kind: str, url: str, token: str, number: int) -> socket.socket:
    """Open one and wait until it has begun; raises RuntimeError for another answer."""
    parts = urlsplit(url)
    source = (f"127.0.{1 + number // STREAMS_PER_ADDRESS}.1", 0)
    sock = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30, source_address=source)
    sock.sendall(request(kind, url, token, number))
    received = sock.recv(4096)
    if not received.startswith(b"HTTP/1.1 200") or b"text/event-stream" not in received:
        raise RuntimeError(f"stream {number}: {received[:200]!r}")
    return sock


def resident_kib(server: Server) -> int:
    """The server's resident memory in KiB."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("the server is gone")


def calls(server: Server) -> dict[str, Any]:
    """Call for a while; raises RuntimeError where a call fails."""
    figures = measure(
        server, server.signed_in.access_token, callers=CALLERS, seconds=CALL_S, era="modern", session=False
    )
    return {name: figures[name] for name in ("calls_per_s", "p50_ms", "p99_ms")}


def cost(kind: str, streams: int, profile: str) -> dict[str, Any]:
    """Open `streams` streams at a fresh server and give what they cost."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        config = configured(Path(directory), LIMITS)
        command = [sys.executable, "-m", "tenantry", "serve", "--config", str(config), "--port", "0"]
        command += ["--data", str(Path(directory) / "data"), "--host-profile", profile]
        server = stack.enter_context(running(command))
        quiet = calls(server)
        token = server.signed_in.access_token
        before = resident_kib(server)
        opened = [stack.enter_context(open_stream(kind, server.url, token, number)) for number in range(streams)]
        after = resident_kib(server)
        return {"kib_per_stream": (after - before) / len(opened), "calls_quiet": quiet, "calls_beside": calls(server)}


def main() -> int:
    """Measure both kinds and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--profile", choices=["lean", "stock"], default="lean")
    parser.add_argument("--kinds", nargs="+", choices=["listen", "get"], default=["listen", "get"])
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results: dict[str, Any] = {**surroundings(), "streams": options.streams, "profile": options.profile}
    print(f"{'streams':<16} {'KiB each':>9}   calls/s and p99 ms: without them, beside them")
    for kind in options.kinds:
        found = results[kind] = cost(kind, options.streams, options.profile)
        quiet, beside = found["calls_quiet"], found["calls_beside"]
        print(
            f"{options.streams:>7} {kind:<8} {found['kib_per_stream']:>9.1f}   "
            f"{quiet['calls_per_s']:.0f} {quiet['p99_ms']:.1f}, {beside['calls_per_s']:.0f} {beside['p99_ms']:.1f}",
            flush=True,
        )
    print(save("streams", results, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
