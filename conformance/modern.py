"""What the tests of revision 2026-07-28 share beyond the client: names, lists, many requests on one connection."""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from conformance.client import Answer, Modern
from conformance.peer import Peer

REVISION = "2026-07-28"
META = "io.modelcontextprotocol/"
VERSION, CAPABILITIES, INFO = f"{META}protocolVersion", f"{META}clientCapabilities", f"{META}clientInfo"
LOG_LEVEL, SUBSCRIPTION = f"{META}logLevel", f"{META}subscriptionId"
TASKS = f"{META}tasks"
WITH_TASKS: dict[str, Any] = {"extensions": {TASKS: {}}}
EVERYTHING: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}, "context": {}},
    "roots": {},
} | WITH_TASKS
LISTS = {
    "tools": ("tools/list", "tools"),
    "prompts": ("prompts/list", "prompts"),
    "resources": ("resources/list", "resources"),
    "templates": ("resources/templates/list", "resourceTemplates"),
}
"""What can be listed -> the method and the member of its result."""


def lists(peer: Peer) -> dict[str, tuple[str, str]]:
    """Say which lists the server has."""
    needed = {"templates": "resources"}
    return {name: of for name, of in LISTS.items() if peer.has(needed.get(name, name))}


def complete_answers(peer: Peer, client: Modern | None = None) -> dict[str, Answer]:
    """Ask everything that has an ordinary answer and changes nothing."""
    client = client or peer.modern()
    answers = {method: client.request(method) for method, _ in lists(peer).values()}
    return {"server/discover": client.request("server/discover"), **answers, "tools/call": call_something(client)}


def call_something(client: Modern, **more: Any) -> Answer:
    """Call a tool that wants little and answers at once."""
    names = {tool["name"] for tool in client.request("tools/list").result["tools"]}
    if "test_simple_text" in names:
        return client.call("test_simple_text", **more)
    return client.call("echo", {"message": "hi"}, **more)


def without(message: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Take members out of a request: of its metadata, its params, or itself."""
    taken: dict[str, Any] = json.loads(json.dumps(message))
    params = taken.get("params", {})
    for place in (params.get("_meta", {}), params, taken):
        for key in keys:
            place.pop(key, None)
    return taken


def meta_keys(value: Any) -> set[str]:
    """Give every key of every `_meta` in a message."""
    if isinstance(value, list):
        return {key for item in value for key in meta_keys(item)}
    if not isinstance(value, dict):
        return set()
    return set(value.get("_meta") or {}) | {key for item in value.values() for key in meta_keys(item)}


@dataclass
class Turn:
    """One answer on a connection that goes on."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The one message in the body; the last one of a stream."""
        lines = [line[5:] for line in self.body.splitlines() if line.startswith(b"data:") and line[5:].strip()]
        message: dict[str, Any] = json.loads(lines[-1] if lines else self.body)
        return message

    @property
    def result(self) -> dict[str, Any]:
        """The result; fails where there is none."""
        assert "result" in self.message, self
        result: dict[str, Any] = self.message["result"]
        return result

    @property
    def code(self) -> int | None:
        """The code of the error, if it is one."""
        code: int | None = self.message.get("error", {}).get("code")
        return code


class Connection:
    """One connection that carries request after request."""

    def __init__(self, client: Modern) -> None:
        """Connect; `client` says what is sent."""
        parts = urlsplit(client.url)
        made = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._http = made(parts.netloc, timeout=client.timeout)
        self._http.connect()
        self._http.auto_open = 0
        self._path = parts.path
        self.client = client

    def send(self, message: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a message and don't wait."""
        fields = dict(self.client.usual_headers(message)) | dict(headers or {})
        if self.client.token is not None:
            fields["authorization"] = f"Bearer {self.client.token}"
        self._http.request("POST", self._path, json.dumps(message).encode(), fields)

    def receive(self) -> Turn:
        """Read the answer to what was sent."""
        answer = self._http.getresponse()
        return Turn(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def post(self, message: Any, headers: Mapping[str, str] | None = None) -> Turn:
        """Send a message and read its answer."""
        self.send(message, headers)
        return self.receive()

    def request(self, method: str, params: Mapping[str, Any] | None = None, **more: Any) -> Turn:
        """Send a request and read its answer."""
        return self.post(self.client.message(method, params, **more))

    def close(self) -> None:
        """Drop the connection."""
        self._http.close()


@contextmanager
def connection(client: Modern) -> Iterator[Connection]:
    """Give a connection that is dropped at the end."""
    made = Connection(client)
    try:
        yield made
    finally:
        made.close()
