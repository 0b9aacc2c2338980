"""An MCP client that says what a test wants said, in the era that the server's mode has."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.attacks.target import Target
from tests.attacks.wire import Reply, Stream, request_bytes

BOTH = "application/json, text/event-stream"
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
PREFIX = "io.modelcontextprotocol/"
TASKS = "io.modelcontextprotocol/tasks"
NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


@dataclass
class Speaker:
    """One client with one access token; a legacy one in its session, where there are sessions."""

    target: Target
    token: str | None
    modern: bool
    session: str | None = None

    def fields(self, **changes: str | None) -> dict[str, str | None]:
        """The headers of a POST; a name's underscores stand for hyphens, None leaves one out."""
        fields: dict[str, str | None] = {
            "Authorization": None if self.token is None else f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": BOTH,
            "MCP-Protocol-Version": MODERN if self.modern else None,
            "Mcp-Session-Id": self.session,
        }
        if not self.modern and self.session is not None:
            fields["MCP-Protocol-Version"] = LEGACY
        return fields | {name.replace("_", "-"): value for name, value in changes.items()}

    def message(self, method: str, params: Mapping[str, Any] | None = None, id_: object = 1) -> dict[str, Any]:
        """A request as this era writes it."""
        values = dict(params or {})
        if self.modern:
            capabilities: dict[str, Any] = {"elicitation": {"form": {}}, "extensions": {TASKS: {}}}
            meta = {f"{PREFIX}protocolVersion": MODERN, f"{PREFIX}clientCapabilities": capabilities}
            values["_meta"] = {**meta, **values.get("_meta", {})}
        return {"jsonrpc": "2.0", "id": id_, "method": method, "params": values}

    def mirrored(self, method: str, params: Mapping[str, Any]) -> dict[str, str | None]:
        """The headers that repeat the body, in the modern era."""
        if not self.modern:
            return {}
        name = params.get(NAMED.get(method, ""))
        return {"Mcp-Method": method, "Mcp-Name": encoded(name) if isinstance(name, str) else None}

    def ask(
        self, method: str, params: Mapping[str, Any] | None = None, id_: object = 1, **headers: str | None
    ) -> Reply:
        """Send a request."""
        fields = self.fields(**headers) | self.mirrored(method, params or {})
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post(json.dumps(self.message(method, params, id_)).encode(), fields)

    def post(self, body: bytes, fields: Mapping[str, str | None] | None = None, **more: Any) -> Reply:
        """Send these bytes."""
        return self.target.ask("POST", "/mcp", headers=self.fields() if fields is None else fields, body=body, **more)

    def call(self, name: str, arguments: Mapping[str, Any] | None = None, id_: object = 1, **more: Any) -> Reply:
        """Call a tool."""
        return self.ask("tools/call", {"name": name, "arguments": dict(arguments or {}), **more}, id_)

    def stream(self, method: str, params: Mapping[str, Any], id_: object = 1) -> Stream:
        """Send a request and read its answer as it comes."""
        fields = self.fields() | self.mirrored(method, params)
        return self.open("POST", fields, json.dumps(self.message(method, params, id_)).encode())

    def listen(self, **headers: str | None) -> Stream:
        """Open the session's standalone stream."""
        fields = self.fields(Accept="text/event-stream", Content_Type=None, **headers)
        return self.open("GET", fields)

    def open(self, method: str, fields: Mapping[str, str | None], body: bytes = b"") -> Stream:
        """Send a request whose answer is a stream."""
        pairs = [("Host", self.target.netloc), *((name, value) for name, value in fields.items() if value is not None)]
        pairs += [("Content-Length", str(len(body)))] if body else []
        return Stream.open(self.target.port, request_bytes(method, "/mcp", pairs, body), method)

    def initialize(self, revision: str = LEGACY, **headers: str | None) -> Reply:
        """Do the first half of the legacy handshake."""
        params = {
            "protocolVersion": revision,
            "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "t", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        return self.post(json.dumps(body).encode(), self.fields(**headers))

    def notify(self, method: str, params: Mapping[str, Any] | None = None) -> Reply:
        """Send a notification."""
        body = {"jsonrpc": "2.0", "method": method, "params": dict(params or {})}
        return self.post(json.dumps(body).encode())

    def end(self) -> Reply:
        """End the session."""
        return self.target.ask("DELETE", "/mcp", headers=self.fields(Content_Type=None))


def encoded(value: str) -> str:
    """How a value stands in a mirrored header."""
    if re.fullmatch(r"[!-~]([ -~]*[!-~])?", value):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'surrogatepass')).decode()}?="


def legacy(target: Target, token: str, revision: str = LEGACY) -> Speaker:
    """A legacy client after its handshake."""
    speaker = Speaker(target, token, modern=False)
    reply = speaker.initialize(revision)
    assert reply.status == 200, reply
    speaker.session = reply.header("mcp-session-id")
    if speaker.session is not None:
        target.keep_secret(speaker.session)
        assert speaker.notify("notifications/initialized").status == 202
    return speaker


def modern(target: Target, token: str | None) -> Speaker:
    """A modern client."""
    return Speaker(target, token, modern=True)


def speaker(target: Target, token: str) -> Speaker:
    """A client of the newest era that the server's mode has."""
    return modern(target, token) if target.modern else legacy(target, token)


def eras(target: Target, token: str) -> list[Speaker]:
    """A client of each era that the server's mode has."""
    return [legacy(target, token), *([modern(target, token)] if target.modern else [])]


def text_of(reply: Reply) -> str:
    """The text of a tool's result."""
    text: str = reply.message["result"]["content"][0]["text"]
    return text
