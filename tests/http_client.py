"""A person's browser and a program's connections over real sockets, for tests that race, flood and kill."""

import base64
import hashlib
import http.client
import json
import re
import secrets
import socket
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

REDIRECT_URI = "http://127.0.0.1/callback"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Somebody who signs in: keeps cookies and fills in forms."""

    origin: str
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=30)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields = {**({"cookie": cookie} if cookie else {}), **headers}
        if body is not None:
            fields = {"content-type": "application/x-www-form-urlencoded", "origin": self.origin, **fields}
        connection.request(method, path, body=body, headers=fields)
        response = connection.getresponse()
        for line in response.headers.get_all("set-cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def submit(self, page: Answer, **values: str | None) -> Answer:
        """Send the first form of a page with its hidden fields, its ticks and the given values; None takes one off."""
        form = page.body.decode().split("<form", 1)[1].split("</form>")[0]
        action = re.search(r'action="([^"]+)"', form)
        assert action, form
        inputs = re.findall(r'type="(?:hidden|checkbox)" name="([^"]+)" value="([^"]*)"', form)
        hidden = {unescape(name): unescape(value) for name, value in inputs}
        assert hidden, form
        fields = {name: value for name, value in {**hidden, **values}.items() if value is not None}
        return self.ask("POST", urlsplit(action[1]).path, urlencode(fields))


@dataclass
class Client:
    """An OAuth client that somebody has registered, and the person in front of it."""

    origin: str
    browser: Browser
    client_id: str
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @classmethod
    def register(cls, origin: str) -> "Client":
        """Register a client unlike any other at the server."""
        browser = Browser(origin)
        metadata = {"redirect_uris": [REDIRECT_URI], "client_name": "test", "software_id": secrets.token_hex(8)}
        body = json.dumps(metadata)
        answer = browser.ask("POST", "/register", body, **{"content-type": "application/json"})
        assert answer.status == 201, answer
        return cls(origin, browser, answer.json["client_id"])

    def authorize(self, *, user: str = "alice", password: str = "demo", scope: str = "tools:call") -> str:
        """Go to the authorization endpoint, sign in where asked to, consent, and give the code."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.client_id,
                "redirect_uri": REDIRECT_URI,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                "state": "state",
                "scope": scope,
            }
        )
        page = self.browser.ask("GET", f"/authorize?{query}")
        if b'type="password"' in page.body:
            back = self.browser.submit(page, username=user, password=password)
            assert back.status == 303, back
            page = self.browser.ask("GET", back.headers["location"].removeprefix(self.origin))
        answer = self.browser.submit(page, decision="allow")
        assert answer.status == 303, answer
        return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]

    def code_form(self, code: str) -> str:
        """The token request that redeems `code`."""
        return urlencode(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": self.verifier,
                "redirect_uri": REDIRECT_URI,
                "client_id": self.client_id,
            }
        )

    def refresh_form(self, refresh_token: str) -> str:
        """The token request that refreshes."""
        return urlencode({"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self.client_id})

    def token(self, form: str) -> Answer:
        """Send a token request."""
        return self.browser.ask("POST", "/token", form)

    def sign_in(self, **how: str) -> dict[str, Any]:
        """The whole way to tokens."""
        answer = self.token(self.code_form(self.authorize(**how)))
        assert answer.status == 200, answer
        tokens: dict[str, Any] = answer.json
        return tokens


def call_message(number: int | str, name: str = "echo", **arguments: object) -> bytes:
    """A modern tools/call."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments or {"message": "hi"}, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


def call_headers(token: str, name: str = "echo") -> dict[str, str]:
    """The headers of a modern tools/call."""
    return {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
    }


def all_at_once(origin: str, path: str, form: str, count: int) -> list[Answer]:
    """Send `count` equal form posts whose last byte leaves only when all else is at the server."""
    netloc = urlsplit(origin).netloc
    host, _, port = netloc.partition(":")
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {netloc}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        f"content-length: {len(form)}\r\nconnection: close\r\n\r\n"
    )
    socks = [socket.create_connection((host, int(port)), timeout=30) for _ in range(count)]
    for sock in socks:
        sock.sendall((head + form[:-1]).encode())
    for sock in socks:
        sock.sendall(form[-1:].encode())
    return [_read(sock) for sock in socks]


def _read(sock: socket.socket) -> Answer:
    with sock:
        response = http.client.HTTPResponse(sock)
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def legacy_headers(token: str, session: str | None) -> dict[str, str]:
    """The headers of a legacy request, in its session where there is one."""
    return {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        **({} if session is None else {"mcp-session-id": session}),
    }


def send_initialize(browser: Browser, token: str) -> Answer:
    """Send the first half of the legacy handshake."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    return browser.ask("POST", "/mcp", body, **legacy_headers(token, None))


def initialize(browser: Browser, token: str) -> str | None:
    """Do the legacy handshake; give the session id where the server keeps sessions."""
    answer = send_initialize(browser, token)
    assert answer.status == 200, answer
    return answer.headers.get("mcp-session-id")


def legacy_call(browser: Browser, token: str, session: str | None) -> Answer:
    """Call echo as a legacy client."""
    params = {"name": "echo", "arguments": {"message": "hi"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    return browser.ask("POST", "/mcp", body, **legacy_headers(token, session))
