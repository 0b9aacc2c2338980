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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class Form:
    """One form of a page: where it goes, and what a browser would send of it as it came."""

    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    """Hidden fields, and boxes that are ticked."""
    boxes: list[tuple[str, str]] = field(default_factory=list)
    """Every box, ticked or not."""
    buttons: list[tuple[str, str]] = field(default_factory=list)
    user_field: str = ""
    password_field: str = ""

    def filled(self, *, user: str = "", password: str = "", button: int = 0) -> list[tuple[str, str]]:
        """Give what is sent once the person has filled it in and pressed a button, the first as a rule."""
        typed = [(self.user_field, user), (self.password_field, password)] if self.password_field else []
        return self.fields + typed + self.buttons[button : button + 1]


class _Forms(html.parser.HTMLParser):
    """Every form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(values.get("action", "")))
        elif self.found and tag in ("input", "button"):
            self._take(self.found[-1], tag, values)

    def _take(self, form: Form, tag: str, values: dict[str, str]) -> None:
        name, value = values.get("name", ""), values.get("value", "")
        kind = values.get("type", "submit" if tag == "button" else "text")
        if kind == "password":
            form.password_field = name
        elif kind in ("text", "email"):
            form.user_field = name
        elif kind == "submit":
            form.buttons += [(name, value)] if "hidden" not in values else []
        elif kind == "checkbox":
            form.boxes.append((name, value))
            form.fields += [(name, value)] if "checked" in values else []
        elif name:
            form.fields.append((name, value))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object, **_more: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Page:
    """What a browser got."""

    url: str
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def forms(self) -> list[Form]:
        """The forms of the page."""
        reader = _Forms()
        reader.feed(self.text)
        return reader.found

    @property
    def target(self) -> str | None:
        """Where it sends the browser on to, if it does."""
        location = self.headers.get("location")
        return None if location is None else urljoin(self.url, location)


class Browser:
    """Keeps cookies and follows no redirect by itself."""

    def __init__(self) -> None:
        """Start without cookies."""
        self.cookies = http.cookiejar.CookieJar()
        keeping = urllib.request.HTTPCookieProcessor(self.cookies)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect, keeping)

    def ask(self, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Page:
        """GET a page, or POST `data`."""
        request = urllib.request.Request(url, data=data, headers=dict(headers or {}))
        try:
            answer = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Page(url, answer.status, answer.headers, answer.read())

    def submit(
        self, page: Page, form: Form, fields: Sequence[tuple[str, str]], headers: Mapping[str, str] | None = None
    ) -> Page:
        """Send a form of a page, as the browser that shows the page does; `headers` go over the usual ones."""
        origin = {"origin": "{0.scheme}://{0.netloc}".format(urlsplit(page.url))}
        return self.ask(urljoin(page.url, form.action), urlencode(fields).encode(), {**origin, **(headers or {})})


def _ask_json(url: str, data: bytes | None = None, **headers: str) -> dict[str, Any]:
    answer = Browser().ask(url, data, headers)
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{url} answers {answer.status}: {answer.body[:200]!r}")
    return answer.json


def _post_form(url: str, **fields: str) -> dict[str, Any]:
    return _ask_json(url, urlencode(fields).encode())


def sign_in(url: str, *, user: str, password: str) -> SignedIn:
    """Sign `user` in at the MCP endpoint `url` and give the grant; raises RuntimeError where a step fails."""
    challenge = Browser().ask(url, b"{}")
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
    back = agree(Browser(), f"{server['authorization_endpoint']}?{query}", REDIRECT_URI, user=user, password=password)
    code = parse_qs(urlsplit(back).query)["code"][0]
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


def agree(browser: Browser, url: str, redirect_uri: str, *, user: str, password: str) -> str:
    """Go from the authorization request `url` to its answer by agreeing to everything, and give the answer's URL.

    Raises RuntimeError where a page leads nowhere.
    """
    page = browser.ask(url)
    for _ in range(MAX_PAGES):
        if page.target is not None and page.target.startswith(redirect_uri):
            return page.target
        if page.target is not None:
            page = browser.ask(page.target)
        elif page.forms:
            form = page.forms[0]
            page = browser.submit(page, form, form.filled(user=user, password=password))
        else:
            raise RuntimeError(f"{page.url}: {page.status} and no form")
    raise RuntimeError("the login does not come to an end")
