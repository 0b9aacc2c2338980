"""Generated requests at /mcp, /token and /register of a whole server over real sockets.

`python -m tests.fuzz.requests --requests 20000`; a short form runs with the other tests. Whatever comes, the answer
is no 5xx, the server goes on, and its tasks and descriptors come back to where they were.
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from structlog.testing import capture_logs

from tenantry.server.runtime import Settings, serve
from tests.http_client import Client, initialize
from tests.server.in_process import demo_config

BOTH = "application/json, text/event-stream"
ODD_TEXT = ["", "x", "é", "\x00", "\ud800", "a" * 5000, "../..", "' OR 1=1 --", "\u202e", "{}", "%00", "tools/call"]
METHODS = [
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "server/discover",
    "notifications/initialized",
    "notifications/cancelled",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "tasks/get",
    "tasks/update",
    "rpc.x",
    "",
]
REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28", "2099-01-01", ""]
FORM_NAMES = [
    "grant_type",
    "code",
    "code_verifier",
    "redirect_uri",
    "client_id",
    "refresh_token",
    "resource",
    "scope",
    "client_secret",
    "x",
]
METADATA_NAMES = [
    "redirect_uris",
    "client_name",
    "grant_types",
    "response_types",
    "token_endpoint_auth_method",
    "scope",
    "contacts",
    "jwks",
    "jwks_uri",
    "logo_uri",
    "software_statement",
    "application_type",
    "x",
]


@dataclass
class Known:
    """What is real, for the generator to mix in: most faults are one step from a good request."""

    tokens: dict[str, Any]
    client_id: str
    session: str | None


class Generator:
    """Makes requests out of a seed."""

    def __init__(self, seed: int, known: Known) -> None:
        self._random = random.Random(seed)
        self._known = known

    def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Give method, path, headers and body of the next request."""
        make = self._random.choices([self._mcp, self._token, self._register], weights=[6, 3, 2])[0]
        path, headers, body = make()
        method = self._random.choices(["POST", "GET", "DELETE", "PUT", "HEAD", "OPTIONS"], weights=[20, 1, 1, 1, 1, 1])[
            0
        ]
        if method == "GET" and path == "/mcp":
            method = "PUT"  # a stream would be open until its token ends
        if self._random.random() < 0.03:
            body = body[: self._random.randrange(len(body) + 1)]
        if self._random.random() < 0.03 and body:
            at = self._random.randrange(len(body))
            body = body[:at] + self._random.randbytes(3) + body[at:]
        return method, path, headers, body

    def _some(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _json(self, depth: int = 0) -> Any:
        kind = self._random.randrange(8 if depth < 4 else 6)
        if kind == 6:
            return [self._json(depth + 1) for _ in range(self._random.randrange(4))]
        if kind == 7:
            return {
                self._some(*ODD_TEXT, "name", "id"): self._json(depth + 1) for _ in range(self._random.randrange(4))
            }
        return self._some(None, True, 0, -1, 2**63, 1.5, 1e308, self._some(*ODD_TEXT), self._random.randrange(1000))

    def _often(self, value: Any, chance: float = 0.97) -> Any:
        return value if self._random.random() < chance else self._json()

    def _mcp(self) -> tuple[str, dict[str, str], bytes]:
        method = self._some(*METHODS)
        revision = self._some(*REVISIONS, "2025-11-25", "2026-07-28", "2026-07-28")
        params: Any = {}
        if self._random.random() < 0.6:
            params["_meta"] = self._often(
                {
                    "io.modelcontextprotocol/protocolVersion": self._often(revision),
                    "io.modelcontextprotocol/clientCapabilities": self._often({}),
                }
            )
        if method == "initialize":
            params |= {
                "protocolVersion": self._often(revision),
                "capabilities": self._often({}),
                "clientInfo": self._often({"name": "x", "version": "1"}),
            }
        if method == "tools/call":
            name = self._some("echo", "search_documents", "admin_purge", "export_report", *ODD_TEXT)
            params |= {"name": self._often(name), "arguments": self._often({"message": self._json()})}
        if method in ("tasks/get", "tasks/update", "resources/read", "resources/subscribe", "logging/setLevel"):
            params |= {name: self._json() for name in ("taskId", "uri", "level", "inputResponses")}
        if method == "tools/list" and self._random.random() < 0.5:
            params["cursor"] = self._json()
        message: Any = {"jsonrpc": self._often("2.0"), "id": self._often(7, 0.8), "method": self._often(method)}
        if self._random.random() < 0.9:
            message["params"] = self._often(params, 0.95)
        if self._random.random() < 0.15:
            del message["id"]
        headers = {
            "content-type": self._some(*["application/json"] * 9, "text/plain"),
            "accept": self._some(*[BOTH] * 9, "text/html"),
            "authorization": f"Bearer {self._some(*[self._known.tokens['access_token']] * 12, 'x', 'a.b.c')}",
            "mcp-protocol-version": revision,
            "mcp-method": self._often(method) if isinstance(method, str) else "x",
            "mcp-name": self._some("echo", "admin_purge", "=?base64?!?=", "x"),
            "mcp-session-id": self._some(self._known.session or "x", "x" * 43),
        }
        body = json.dumps(self._often(message, 0.97)).encode()
        return "/mcp", self._fewer(headers), body

    def _fewer(self, headers: dict[str, Any]) -> dict[str, str]:
        kept = {name: value for name, value in headers.items() if self._random.random() < 0.98}
        return {name: value for name, value in kept.items() if isinstance(value, str) and _may_be_sent(value)}

    def _token(self) -> tuple[str, dict[str, str], bytes]:
        real = {
            "grant_type": self._some("authorization_code", "refresh_token", "password", "client_credentials"),
            "client_id": self._known.client_id,
            "refresh_token": self._some("x", "A" * 43),
            "code": "B" * 43,
            "code_verifier": "v" * 43,
            "redirect_uri": "http://127.0.0.1/callback",
        }
        names = self._random.sample(FORM_NAMES, self._random.randrange(len(FORM_NAMES)))
        pairs = [
            (name, real.get(name, "x") if self._random.random() < 0.8 else self._some(*ODD_TEXT)) for name in names
        ]
        if self._random.random() < 0.1 and pairs:
            pairs.append(pairs[0])
        body = "&".join(f"{name}={_quote(str(value))}" for name, value in pairs).encode()
        kind = self._some(*["application/x-www-form-urlencoded"] * 9, "application/json")
        return self._some("/token", "/token", "/revoke"), {"content-type": kind}, body

    def _register(self) -> tuple[str, dict[str, str], bytes]:
        names = self._random.sample(METADATA_NAMES, self._random.randrange(len(METADATA_NAMES)))
        document: Any = {name: self._json() for name in names}
        if self._random.random() < 0.7:
            document["redirect_uris"] = [
                self._some(
                    "http://localhost/cb", "https://a.example/cb", "javascript:x", "http://a.example", "", "\x00"
                )
            ]
        kind = self._some(*["application/json"] * 9, "text/plain")
        return "/register", {"content-type": kind}, json.dumps(self._often(document, 0.95)).encode()


def _may_be_sent(value: str) -> bool:
    return value.isascii() and "\r" not in value and "\n" not in value and "\x00" not in value and len(value) < 1000


def _quote(text: str) -> str:
    return "".join(
        c if c.isalnum() and c.isascii() else f"%{b:02x}" for c in text for b in c.encode("utf-8", "replace")
    )


@dataclass
class Serving:
    """A server in a thread, and a look inside."""

    origin: str
    tasks: Callable[[], int]


@contextmanager
def serving(data: Path) -> Iterator[Serving]:
    """Serve the demo in a thread of this process, with no limit on registrations in the way."""
    config = demo_config()
    limits = config.limits.model_copy(update={"registrations_per_minute": 1_000_000})
    config = config.model_copy(update={"public_url": "", "limits": limits})
    settings = Settings(config=config, source="fuzz", data=data, port=0)
    ready = threading.Event()
    inside: dict[str, Any] = {}

    async def run() -> None:
        inside["token"] = trio.lowlevel.current_trio_token()
        inside["stop"] = trio.Event()

        def on_ready(url: str) -> None:
            inside["url"] = url
            ready.set()

        await serve(settings, on_ready=on_ready, stop=inside["stop"])

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(20)

    def tasks() -> int:
        return trio.from_thread.run_sync(
            lambda: trio.lowlevel.current_statistics().tasks_living, trio_token=inside["token"]
        )

    try:
        yield Serving(inside["url"].removesuffix("/mcp"), tasks)
    finally:
        trio.from_thread.run_sync(inside["stop"].set, trio_token=inside["token"])
        thread.join(20)
        assert not thread.is_alive()


def bombard(data: Path, *, requests: int, seed: int) -> tuple[Counter[int], list[str]]:
    """Send generated requests one after the other; give how often each status came, and what went wrong."""
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    with capture_logs() as logs, serving(data) as server:
        client = Client.register(server.origin)
        tokens = client.sign_in()
        known = Known(tokens, client.client_id, initialize(client.browser, tokens["access_token"]))
        tasks, descriptors = server.tasks(), _descriptors()
        generator = Generator(seed, known)
        connection = http.client.HTTPConnection(server.origin.removeprefix("http://"), timeout=20)
        for number in range(requests):
            method, path, headers, body = generator.request()
            try:
                connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                faults.append(f"request {number}: {method} {path} {headers} {body[:300]!r}: {error!r}")
                connection.close()
                continue
            statuses[response.status] += 1
            if response.status >= 500:
                faults.append(f"request {number}: {method} {path} {headers} {body[:300]!r}: {response.status}")
        connection.close()
        faults += _after(server, client, tasks, descriptors)
    faults += [str(entry) for entry in logs if entry["log_level"] == "error"]
    return statuses, faults


def _after(server: Serving, client: Client, tasks: int, descriptors: int) -> list[str]:
    for _ in range(100):
        if server.tasks() <= tasks and _descriptors() <= descriptors:
            break
        threading.Event().wait(0.05)
    found = []
    if server.tasks() > tasks:
        found.append(f"{server.tasks()} tasks, {tasks} before")
    if _descriptors() > descriptors:
        found.append(f"{_descriptors()} descriptors, {descriptors} before")
    if client.browser.ask("GET", "/jwks").status != 200:
        found.append("the server does not answer any more")
    return found


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> int:
    """Run and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        statuses, faults = bombard(Path(directory), requests=options.requests, seed=options.seed)
    print(f"{sum(statuses.values())} requests: {dict(sorted(statuses.items()))}, {len(faults)} faults")
    for fault in faults[:20]:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
