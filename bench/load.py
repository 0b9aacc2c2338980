"""A closed-loop load generator: each caller has a connection and sends its next call when the last is answered.

Runs as a process of its own (`python -m bench.load`), over epoll and prebuilt bytes, at some 30 us a call, so that
it is not what is measured. Every call has its own JSON-RPC id; an answer with another id, another status or an
error counts as a failure.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MODERN = "2026-07-28"
LEGACY = "2025-11-25"


@dataclass(slots=True)
class Caller:
    """One connection and the call that it waits for."""

    sock: socket.socket
    id: int = 0
    sent_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Tally:
    """What a run gave: times in seconds."""

    latencies: list[float] = field(default_factory=list)
    failures: int = 0
    first_failure: str = ""

    def fail(self, why: str) -> None:
        self.failures += 1
        self.first_failure = self.first_failure or why


def request_builder(url: str, token: str, *, era: str, session: str | None) -> Callable[[int], bytes]:
    """Give the function that writes the request of call number N."""
    parts = urlsplit(url)
    headers = [
        f"POST {parts.path} HTTP/1.1",
        f"host: {parts.netloc}",
        f"authorization: Bearer {token}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
    ]
    meta = ""
    if era == "modern":
        headers += [f"mcp-protocol-version: {MODERN}", "mcp-method: tools/call", "mcp-name: echo"]
        meta = (
            f',"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}",'
            '"io.modelcontextprotocol/clientCapabilities":{}}'
        )
    else:
        headers += [f"mcp-protocol-version: {LEGACY}", *([f"mcp-session-id: {session}"] if session else [])]
    head = "\r\n".join(headers).encode()
    tail = f'"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"hello"}}{meta}}}}}'.encode()

    def build(number: int) -> bytes:
        body = b'{"jsonrpc":"2.0","id":%d,%b' % (number, tail)
        return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)

    return build


def open_session(url: str, token: str) -> str | None:
    """Do the legacy handshake and give the session id, None where the server keeps no sessions."""
    parts = urlsplit(url)
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {
                "protocolVersion": LEGACY,
                "capabilities": {},
                "clientInfo": {"name": "bench", "version": "1"},
            },
        }
    )
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10) as sock:
        sock.sendall(
            (
                f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\n"
                "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
                f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"mcp-session-id":
            return value.strip().decode()
    return None


def run(url: str, token: str, *, callers: int, seconds: float, era: str, session: str | None) -> Tally:
    """Call for `seconds` and give the tally; the last calls are waited for."""
    parts = urlsplit(url)
    build = request_builder(url, token, era=era, session=session)
    selector = selectors.DefaultSelector()
    tally = Tally()
    number = 0
    until = time.perf_counter() + seconds
    for _ in range(callers):
        sock = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller = Caller(sock)
        selector.register(sock, selectors.EVENT_READ, caller)
        number += 1
        _send(caller, number, build)
    open_callers = callers
    while open_callers:
        for key, _ in selector.select(timeout=10):
            caller = key.data
            done = _receive(caller, tally)
            if done is None:
                continue
            if done and time.perf_counter() < until:
                number += 1
                _send(caller, number, build)
            else:
                selector.unregister(caller.sock)
                caller.sock.close()
                open_callers -= 1
    return tally


def _send(caller: Caller, number: int, build: Callable[[int], bytes]) -> None:
    caller.id, caller.sent_at = number, time.perf_counter()
    caller.sock.sendall(build(number))


def _receive(caller: Caller, tally: Tally) -> bool | None:
    """Take what has come: True for a whole answer, None for a part of one, False where the connection ended."""
    data = caller.sock.recv(65536)
    if not data:
        tally.fail("the connection was closed")
        return False
    caller.received += data
    head, separator, body = bytes(caller.received).partition(b"\r\n\r\n")
    if not separator:
        return None
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    if len(body) < length:
        return None
    caller.received.clear()
    if b" 200" not in head[:13] or b'"id":%d,' % caller.id not in body or b'"isError":false' not in body:
        tally.fail(f"{head[:40]!r} {body[:200]!r}")
    else:
        tally.latencies.append(time.perf_counter() - caller.sent_at)
    return True


def main() -> int:
    """Read the run from the command line, the access token from stdin; print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--era", choices=["modern", "legacy"], default="modern")
    parser.add_argument("--session", action="store_true", help="open an MCP session first and call in it")
    options = parser.parse_args()
    token = sys.stdin.readline().strip()
    session = open_session(options.url, token) if options.session else None
    started = time.perf_counter()
    tally = run(options.url, token, callers=options.callers, seconds=options.seconds, era=options.era, session=session)
    took = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [float("nan")]
    print(
        json.dumps(
            {
                "calls_per_s": len(tally.latencies) / took,
                "p50_ms": 1000 * ordered[len(ordered) // 2],
                "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
                "calls": len(tally.latencies),
                "failures": tally.failures,
                "first_failure": tally.first_failure,
            }
        )
    )
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
