"""Draws requests: each is a good one of some endpoint, and most are then spoiled somewhere.

`draw` is hypothesis's: it gives an example of a strategy. Weights are written as repetitions.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")
Draw = Callable[[SearchStrategy[T]], T]
Made = tuple[dict[str, str], bytes]

BOTH = "application/json, text/event-stream"
FORM = "application/x-www-form-urlencoded"
REDIRECT = "http://127.0.0.1/callback"
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
# What a form of each endpoint holds where it is a good one; "" stands for what `Known` knows.
FORMS: dict[str, dict[str, list[str]]] = {
    "/token": {
        "grant_type": ["authorization_code", "refresh_token", "client_credentials", "password"],
        "client_id": [""],
        "client_secret": ["x"],
        "refresh_token": ["x", "A" * 43],
        "code": ["B" * 43],
        "code_verifier": ["v" * 43],
        "redirect_uri": [REDIRECT],
        "resource": [""],
        "scope": ["tools:call", "admin"],
        "x": ["x"],
    },
    "/revoke": {"token": ["x", "C" * 43, "a.b.c"], "token_type_hint": ["access_token"], "client_id": [""], "x": ["x"]},
    "/introspect": {"token": ["x", "a.b.c"], "token_type_hint": ["x"], "client_id": [""], "client_secret": ["x"]},
    "/authorize": {
        "response_type": ["code", "code", "token"],
        "client_id": ["", "", "https://127.0.0.1/client.json"],
        "redirect_uri": [REDIRECT, "http://127.0.0.1:8080/callback", "https://evil.example/"],
        "code_challenge": ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"],
        "code_challenge_method": ["S256", "S256", "plain"],
        "state": ["state"],
        "scope": ["tools:call", "tools:call admin"],
        "resource": [""],
        "prompt": ["login", "none", "consent"],
        "request": ["x"],
    },
    "/login": {"sealed": [""], "username": ["bob", "dave"], "password": ["demo", "wrong"]},
    "/consent": {"sealed": [""], "decision": ["allow", "deny"], "tick:tools:call": ["on"]},
    "/logout": {"sealed": [""]},
    "/account": {"sealed": [""]},
}
# What a client may well say of itself.
METADATA: dict[str, list[Any]] = {
    "redirect_uris": [["http://localhost/cb"], ["https://a.example/cb", REDIRECT]],
    "client_name": ["A client", "Näme"],
    "grant_types": [["authorization_code", "refresh_token"], ["authorization_code"]],
    "response_types": [["code"]],
    "token_endpoint_auth_method": ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"],
    "scope": ["tools:call", "admin x"],
    "contacts": [["me@a.example"]],
    "jwks": [{"keys": []}],
    "jwks_uri": ["https://a.example/keys"],
    "logo_uri": ["https://a.example/logo", "file:///etc/passwd"],
    "software_statement": ["e30.e30."],
    "application_type": ["native", "web"],
    "x": ["x"],
}
ODD_URIS = ["javascript:x", "http://a.example", "https://a@b.example", "", "\x00"]
DOCUMENTS = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource/mcp",
    "/jwks",
    "/openapi.json",
    "/audit/checkpoint",
    "/account",
    "/nothing",
]
PATHS = ["/mcp", "/register", *FORMS, *DOCUMENTS]
_WEIGHTED = ["/mcp"] * 12 + ["/token"] * 4 + ["/register"] * 4 + ["/authorize"] * 4 + [*FORMS, *DOCUMENTS]


@dataclass
class Known:
    """What is real, for the generator to mix in: most faults are one step from a good request."""

    tokens: dict[str, Any]
    client_id: str
    session: str | None
    resource: str
    cookie: str = ""
    """Of somebody who is logged in."""
    sealed: list[str] = field(default_factory=lambda: ["x"])
    """What forms of ours hold."""


class Generator:
    """Makes one request."""

    def __init__(self, draw: Draw[Any], known: Known) -> None:
        self._draw = draw
        self._known = known

    def request(self) -> tuple[str, str, dict[str, str], bytes]:
        """Give method, target, headers and body."""
        path = self._some(*_WEIGHTED)
        usual = "GET" if path in ("/authorize", *DOCUMENTS) else "POST"
        method = self._some(*[usual] * 20, "POST", "GET", "DELETE", "PUT", "HEAD", "OPTIONS")
        if method == "GET" and path == "/mcp":
            method = "PUT"  # a stream would be open until its token ends
        headers, body = self._made(path)
        body = self._spoiled(body)
        if path == "/authorize":
            # A target holds visible ASCII alone: what else was drawn would not leave our own client.
            query = "".join(chr(byte) if 33 <= byte <= 126 else f"%{byte:02x}" for byte in body)
            return method, f"{path}?{query}", headers, b""
        return method, path, headers, body

    def _made(self, path: str) -> Made:
        if path == "/mcp":
            return self._mcp()
        if path == "/register":
            return self._register()
        return self._form(path) if path in FORMS else (self._fewer(self._browser()), b"")

    def _spoiled(self, body: bytes) -> bytes:
        # A share and not a place: what is real differs in length, and hypothesis wants the same questions each time.
        if self._chance(3):
            body = body[: len(body) * self._number(1000) // 1000]
        if self._chance(3):
            at = len(body) * self._number(1000) // 1000
            body = body[:at] + self._draw(st.binary(min_size=3, max_size=3)) + body[at:]
        return body

    def _some(self, *values: Any) -> Any:
        return self._draw(st.sampled_from(values))

    def _number(self, most: int) -> int:
        return int(self._draw(st.integers(0, most)))

    def _chance(self, percent: int) -> bool:
        return bool(self._draw(st.sampled_from(range(100))) < percent)

    def _several(self, names: list[str], percent: int) -> list[str]:
        return [name for name in names if self._chance(percent)]

    def _json(self, depth: int = 0) -> Any:
        kind = self._number(7 if depth < 4 else 5)
        if kind == 6:
            return [self._json(depth + 1) for _ in range(self._number(3))]
        if kind == 7:
            return {self._some(*ODD_TEXT, "name", "id"): self._json(depth + 1) for _ in range(self._number(3))}
        return self._some(None, True, 0, -1, 2**63, 1.5, 1e308, self._some(*ODD_TEXT), self._number(1000))

    def _often(self, value: Any, percent: int = 97) -> Any:
        return value if self._chance(percent) else self._json()

    def _mcp(self) -> Made:
        method = self._some(*METHODS)
        revision = self._some(*REVISIONS, "2025-11-25", "2026-07-28", "2026-07-28")
        params = self._params(method, revision)
        message: Any = {"jsonrpc": self._often("2.0"), "id": self._often(7, 80), "method": self._often(method)}
        if self._chance(90):
            message["params"] = self._often(params, 95)
        if self._chance(15):
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
        return self._fewer(headers), json.dumps(self._often(message, 97)).encode()

    def _params(self, method: str, revision: str) -> dict[str, Any]:
        params: dict[str, Any] = {}
        if self._chance(60):
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
        if method == "tools/list" and self._chance(50):
            params["cursor"] = self._json()
        return params

    def _fewer(self, headers: dict[str, Any]) -> dict[str, str]:
        kept = {name: value for name, value in headers.items() if self._chance(98)}
        return {name: value for name, value in kept.items() if isinstance(value, str) and _may_be_sent(value)}

    def _browser(self) -> dict[str, str]:
        return {
            "cookie": self._known.cookie,
            "origin": self._known.resource.removesuffix("/mcp"),
            "sec-fetch-site": self._some(*["same-origin"] * 9, "cross-site"),
        }

    def _form(self, path: str) -> Made:
        good = FORMS[path]
        pairs = [(name, self._value(name, good[name])) for name in self._several(list(good), 85)]
        if self._chance(10) and pairs:
            pairs.append(pairs[0])
        headers: dict[str, Any] = {"content-type": self._some(*[FORM] * 9, "application/json")}
        if path in ("/token", "/revoke", "/introspect"):
            if self._chance(15):
                headers["authorization"] = self._some("Basic eDp5", "Basic !", "Basic", "Bearer x", "basic Og==")
        else:
            headers |= self._browser()
        return self._fewer(headers), "&".join(f"{name}={_quote(value)}" for name, value in pairs).encode()

    def _value(self, name: str, good: list[str]) -> str:
        if self._chance(20):
            return str(self._some(*ODD_TEXT))
        known = {
            "client_id": [self._known.client_id],
            "resource": [self._known.resource],
            "sealed": self._known.sealed,
        }
        number = self._number(15)
        return str(self._some(*good) or known[name][number % len(known[name])])

    def _register(self) -> Made:
        document = {name: self._often(self._some(*METADATA[name]), 92) for name in self._several(list(METADATA), 35)}
        if self._chance(85):
            document["redirect_uris"] = self._some(*METADATA["redirect_uris"] * 3, [self._some(*ODD_URIS)])
        kind = self._some(*["application/json"] * 9, "text/plain")
        return {"content-type": kind}, json.dumps(self._often(document, 95)).encode()


def _may_be_sent(value: str) -> bool:
    return value.isascii() and not {"\r", "\n", "\x00"} & set(value) and len(value) < 1000


def _quote(text: str) -> str:
    return "".join(
        c if c.isalnum() and c.isascii() else f"%{b:02x}" for c in text for b in c.encode("utf-8", "replace")
    )
