"""A closed-loop load generator for what wrk can't do: connections that are lost, floods of other kinds than calls.

Each caller has a connection and sends its next request when the last is answered. Runs as a process of its own
(`python -m bench.load`), over epoll and prebuilt bytes, at some 30 us a call. Every call has its own JSON-RPC id; an
answer with another id, another status or an error counts as a failure. Both ways of telling an answer's length are
understood, for the peers' sake.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

ANSWER_TIMEOUT_S = 10.0
RECONNECT_TRIES, RECONNECT_S = 100, 0.02
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
ECHO: Mapping[str, object] = {"message": "hello"}


# status, body, number of the call -> whether the answer is as it should be
Judge = Callable[[int, bytes, int], bool]


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
    moments: list[float] = field(default_factory=list)
    """When each of the answers came."""
    failures: int = 0
    first_failure: str = ""

    def fail(self, why: str) -> None:
        self.failures += 1
        self.first_failure = self.first_failure or why


def request_builder(
    url: str, token: str, *, era: str, session: str | None, tool: str = "echo", arguments: Mapping[str, object] = ECHO
) -> Callable[[int], bytes]:
    """Give the function that writes the request of call number N."""
    head, tail = request_parts(url, token, era=era, session=session, tool=tool, arguments=arguments)

    def build(number: int) -> bytes:
        body = b'{"jsonrpc":"2.0","id":%d,%b' % (number, tail)
        return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)

    return build


def request_parts(
    url: str, token: str, *, era: str, session: str | None, tool: str = "echo", arguments: Mapping[str, object] = ECHO
) -> tuple[bytes, bytes]:
    """Give what all calls have in common: the head but for its Content-Length, and the body behind the id."""
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
        headers += [f"mcp-protocol-version: {MODERN}", "mcp-method: tools/call", f"mcp-name: {tool}"]
        meta = (
            f',"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}",'
            '"io.modelcontextprotocol/clientCapabilities":{}}'
        )
    else:
        headers += [f"mcp-protocol-version: {LEGACY}", *([f"mcp-session-id: {session}"] if session else [])]
    called = f'"name":"{tool}","arguments":{json.dumps(arguments)}{meta}'
    return "\r\n".join(headers).encode(), f'"method":"tools/call","params":{{{called}}}}}'.encode()


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


def run(
    url: str,
    build: Callable[[int], bytes],
    judge: Judge,
    *,
    callers: int,
    seconds: float,
    reconnect: bool = False,
    churn: bool = False,
) -> Tally:
    """Send what `build` gives for `seconds` and give the tally; the last answers are waited for.

    A connection that ends is a failure; with `reconnect` its caller goes on with a new one. With `churn` the beginning
    of an answer counts for all of it, and each request has a connection of its own.
    """
    load = _Load(url, build, judge, reconnect=reconnect or churn, churn=churn)
    until = time.perf_counter() + seconds
    for _ in range(callers):
        load.connect()
    while load.callers:
        for key, _ in load.selector.select(timeout=ANSWER_TIMEOUT_S):
            load.serve(key.data, more=time.perf_counter() < until)
    return load.tally


class _Load:
    """The callers of one run."""

    def __init__(self, url: str, build: Callable[[int], bytes], judge: Judge, *, reconnect: bool, churn: bool) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._build = build
        self._judge = judge
        self._reconnect = reconnect
        self._churn = churn
        self._number = 0
        self.selector = selectors.DefaultSelector()
        self.tally = Tally()
        self.callers = 0

    def connect(self) -> None:
        """Let one more caller begin."""
        sock = socket.create_connection(self._address, timeout=ANSWER_TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller = Caller(sock)
        self.selector.register(sock, selectors.EVENT_READ, caller)
        self.callers += 1
        self._send(caller)

    def serve(self, caller: Caller, *, more: bool) -> None:
        """Take what has come for a caller, and let it go on where there is to be more."""
        try:
            done = self._receive(caller)
        except OSError as error:
            done = self._lost(str(error))
        if done is None:
            return
        if done and more and not self._churn:
            self._send(caller)
            return
        self.selector.unregister(caller.sock)
        caller.sock.close()
        self.callers -= 1
        if more and self._reconnect:
            self._connect_again()

    def _connect_again(self) -> None:
        for _ in range(RECONNECT_TRIES):
            try:
                self.connect()
            except OSError as error:
                self._lost(str(error))
                time.sleep(RECONNECT_S)
            else:
                return

    def _send(self, caller: Caller) -> None:
        self._number += 1
        caller.id, caller.sent_at = self._number, time.perf_counter()
        with suppress(ConnectionError):  # the answer that does not come is the failure
            caller.sock.sendall(self._build(self._number))

    def _receive(self, caller: Caller) -> bool | None:
        """Take what has come: True for a whole answer, None for a part of one, False where the connection ended."""
        data = caller.sock.recv(65536)
        if not data:
            return self._lost("the connection was closed")
        caller.received += data
        head, separator, rest = bytes(caller.received).partition(b"\r\n\r\n")
        if not separator:
            return None
        body = rest if self._churn else _whole(head.lower(), rest)
        if body is None:
            return None
        caller.received.clear()
        if self._judge(int(head[9:12]), body, caller.id):
            now = time.perf_counter()
            self.tally.latencies.append(now - caller.sent_at)
            self.tally.moments.append(now)
        else:
            self.tally.fail(f"{head[:40]!r} {body[:200]!r}")
        return True

    def _lost(self, why: str) -> bool:
        self.tally.fail(why)
        return False


def _whole(head: bytes, rest: bytes) -> bytes | None:
    """Give the body once all of it has come."""
    _, declared, after = head.partition(b"content-length:")
    if declared:
        return rest if len(rest) >= int(after.split(b"\r\n")[0]) else None
    if b"transfer-encoding: chunked" not in head:
        return rest  # an answer without a body
    if not rest.endswith(b"0\r\n\r\n"):
        return None
    body = b""
    while (size := int(rest.partition(b"\r\n")[0], 16)) > 0:
        rest = rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body


def whole_answer(sock: socket.socket) -> tuple[int, bytes]:
    """Wait for one whole answer; give its status and body. Raises ConnectionError where the connection ends."""
    received = b""
    while data := sock.recv(65536):
        received += data
        head, separator, rest = received.partition(b"\r\n\r\n")
        body = _whole(head.lower(), rest) if separator else None
        if body is not None:
            return int(head[9:12]), body
    raise ConnectionError("the connection was closed")


def called(status: int, body: bytes, number: int) -> bool:
    """Whether an answer is the result of call `number`."""
    answer = json.loads(body) if status == 200 else {}
    return answer.get("id") == number and answer.get("result", {"isError": True}).get("isError", False) is False


def figures(tally: Tally, took: float) -> dict[str, Any]:
    """What a run of `took` seconds gave."""
    ordered = sorted(tally.latencies) or [float("nan")]
    return {
        "calls_per_s": len(tally.latencies) / took,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
        "calls": len(tally.latencies),
        "failures": tally.failures,
        "first_failure": tally.first_failure,
    }


def main() -> int:
    """Read the run from the command line, the access token from stdin; print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--era", choices=["modern", "legacy"], default="modern")
    parser.add_argument("--reconnect", action="store_true", help="go on after a lost connection")
    options = parser.parse_args()
    token = sys.stdin.readline().strip()
    build = request_builder(options.url, token, era=options.era, session=None)
    started = time.perf_counter()
    if options.reconnect:  # whoever disturbs the run must know when it began
        print("begun", flush=True)
    tally = run(
        options.url, build, called, callers=options.callers, seconds=options.seconds, reconnect=options.reconnect
    )
    found = figures(tally, time.perf_counter() - started)
    if options.reconnect:
        found["answered_after_s"] = [moment - started for moment in tally.moments]
    print(json.dumps(found))
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
