"""Sign in as a person would: discovery, registration, PKCE, the login form, consent."""

import base64
import hashlib
import html.parser
import http.cookiejar
import json
import re
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

REDIRECT_URI = "http://127.0.0.1/callback"
MAX_PAGES = 6
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class SignedIn:
    """One grant: what is needed to call and to refresh."""

    access_token: str
    refresh_token: str
    client_id: str
    token_endpoint: str
    resource: str

    def refreshed(self) -> "SignedIn":
        """Get a new access token by the refresh token."""
        tokens = _post_form(
            self.token_endpoint,
            grant_type="refresh_token",
            refresh_token=self.refresh_token,
            client_id=self.client_id,
            resource=self.resource,
        )
        return SignedIn(
            tokens["access_token"], tokens["refresh_token"], self.client_id, self.token_endpoint, self.resource
        )


class _Forms(html.parser.HTMLParser):
    """The first form of a page: where it goes, its fields, and its first button that agrees."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.user_field = self.password_field = ""
        self._forms = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._forms += 1
            if self._forms == 1:
                self.action = values.get("action", "")
        elif self._forms == 1 and tag in ("input", "button"):
            self._take(tag, values)

    def _take(self, tag: str, values: dict[str, str]) -> None:
        name, kind = values.get("name", ""), values.get("type", "submit" if tag == "button" else "text")
        if kind == "password":
            self.password_field = name
        elif kind in ("text", "email"):
            self.user_field = name
        elif name and name not in self.fields:
            self.fields[name] = values.get("value", "")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_more: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class _Browser:
    """Keeps cookies and follows no redirect by itself."""

    def __init__(self) -> None:
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect, cookies)

    def ask(self, url: str, data: bytes | None = None, **headers: str) -> _Answer:
        request = urllib.request.Request(url, data=data, headers=headers)
        try:
            answer = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return _Answer(answer.status, answer.headers, answer.read())


def _ask_json(url: str, data: bytes | None = None, **headers: str) -> dict[str, Any]:
    answer = _Browser().ask(url, data, **headers)
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{url} answers {answer.status}: {answer.body[:200]!r}")
    return answer.json


def _post_form(url: str, **fields: str) -> dict[str, Any]:
    return _ask_json(url, urlencode(fields).encode())


def sign_in(url: str, *, user: str, password: str) -> SignedIn:
    """Sign `user` in at the MCP endpoint `url` and give the grant; raises RuntimeError where a step fails."""
    challenge = _Browser().ask(url, b"{}")
    found = re.search(r'resource_metadata="([^"]+)"', challenge.headers.get("www-authenticate", ""))
    if found is None:
        raise RuntimeError(f"{url} does not say where to sign in")
    protected = _ask_json(found.group(1))
    issuer = protected["authorization_servers"][0]
    server = _ask_json(f"{issuer}/.well-known/oauth-authorization-server")
    metadata = {
        "client_name": "conformance",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    registered = _ask_json(
        server["registration_endpoint"], json.dumps(metadata).encode(), **{"content-type": "application/json"}
    )
    client_id = registered["client_id"]
    verifier = secrets.token_urlsafe(48)
    query = urlencode(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": REDIRECT_URI,
            "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("="),
            "code_challenge_method": "S256",
            "state": secrets.token_urlsafe(16),
            "scope": " ".join(protected.get("scopes_supported", [])),
            "resource": protected["resource"],
        }
    )
    code = _agree(f"{server['authorization_endpoint']}?{query}", user=user, password=password)
    tokens = _post_form(
        server["token_endpoint"],
        grant_type="authorization_code",
        code=code,
        code_verifier=verifier,
        redirect_uri=REDIRECT_URI,
        client_id=client_id,
        resource=protected["resource"],
    )
    return SignedIn(
        tokens["access_token"],
        tokens.get("refresh_token", ""),
        client_id,
        server["token_endpoint"],
        protected["resource"],
    )


def _agree(url: str, *, user: str, password: str) -> str:
    browser, data = _Browser(), None
    for _ in range(MAX_PAGES):
        answer = browser.ask(url, data)
        data = None
        target = urljoin(url, answer.headers.get("location", ""))
        if target.startswith(REDIRECT_URI):
            return parse_qs(urlsplit(target).query)["code"][0]
        if answer.status in (302, 303):
            url = target
            continue
        form = _Forms()
        form.feed(answer.body.decode())
        if form.action is None:
            raise RuntimeError(f"{url}: no form")
        fields = form.fields | ({form.user_field: user, form.password_field: password} if form.password_field else {})
        url, data = urljoin(url, form.action), urlencode(fields).encode()
    raise RuntimeError("the login does not come to an end")
