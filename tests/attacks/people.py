"""A person's browser and an OAuth client, both of which do exactly what a test says; all their secrets are noted."""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from tests.attacks.target import Target, password_of
from tests.attacks.wire import Reply

CALLBACK = "http://127.0.0.1/callback"
# A browser follows each of them; which one it must be is a row of its own.
LEADS_ON = (302, 303, 307)


def challenge_of(verifier: str) -> str:
    """The S256 challenge."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Form:
    """One form of a page."""

    action: str
    hidden: dict[str, str] = field(default_factory=dict)
    ticks: list[tuple[str, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    buttons: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(urlsplit(attributes["action"]).path))
        elif tag in ("input", "button") and self.forms and "name" in attributes:
            form, name, value = self.forms[-1], attributes["name"], attributes.get("value", "")
            form.names.add(name)
            if attributes.get("type") == "hidden":
                form.hidden[name] = value
            elif attributes.get("type") == "checkbox":
                form.ticks.append((name, value or "on"))
            elif tag == "button":
                form.buttons.setdefault(name, value)


def posted_forms(page: Reply) -> list[Form]:
    """The forms of a page in their order."""
    parser = _Forms()
    parser.feed(page.text)
    return parser.forms


def forms_of(page: Reply) -> dict[str, Form]:
    """The forms of a page by where they are sent; of several to one place the last."""
    return {form.action: form for form in posted_forms(page)}


@dataclass
class Browser:
    """Keeps cookies; goes where it is told."""

    target: Target
    cookies: dict[str, str] = field(default_factory=dict)
    source: str | None = None
    host: str | None = None

    def ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str | None] = {}
    ) -> Reply:
        """Send one request with the cookies, and keep those that come back."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields = {"Cookie": cookie or None, "Host": self.host or self.target.netloc, **headers}
        reply = self.target.ask(method, path, headers=fields, body=body, source=self.source)
        for line in reply.all("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            self.target.keep_secret(value)
            if "max-age=0" in line.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return reply

    def get(self, url: str) -> Reply:
        """Open a page; the server's own address may stand before the path."""
        return self.ask("GET", url.removeprefix(self.target.issuer))

    def post(
        self, path: str, values: Mapping[str, str] | list[tuple[str, str]], headers: Mapping[str, str | None] = {}
    ) -> Reply:
        """Send a form as a page of the server does."""
        fields = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": self.target.issuer,
            "Sec-Fetch-Site": "same-origin",
            **headers,
        }
        return self.ask("POST", path, body=urlencode(values).encode(), headers=fields)

    def log_in(self, page: Reply, user: str = "alice", password: str | None = None, **headers: str | None) -> Reply:
        """Fill in a login page and send it."""
        form = forms_of(page)["/login"]
        password = password_of(user) if password is None else password
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post("/login", {**form.hidden, "username": user, "password": password}, sent)

    def decide(self, page: Reply, decision: str = "allow", **headers: str | None) -> Reply:
        """Tick everything on a consent page and send it."""
        form = forms_of(page)["/consent"]
        values = [*form.hidden.items(), *form.ticks, ("decision", decision)]
        return self.post("/consent", values, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Tokens:
    """What a token endpoint gave."""

    client: "Client"
    access: str
    refresh: str
    scope: str
    answer: dict[str, Any]


@dataclass
class Client:
    """A registered client, and the browser of the person in front of it."""

    target: Target
    client_id: str
    redirect_uri: str = CALLBACK
    browser: Browser = field(init=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    def __post_init__(self) -> None:
        self.browser = Browser(self.target)
        self.target.keep_secret(self.verifier)

    @classmethod
    def new(cls, target: Target, **metadata: object) -> "Client":
        """Register one."""
        reply = target.register(**metadata)
        assert reply.status == 201, reply
        return cls(target, reply.json["client_id"], reply.json["redirect_uris"][0])

    def authorization(self, **changes: str | None) -> str:
        """The path of an authorization request; None leaves a parameter out."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "code_challenge": challenge_of(self.verifier),
            "code_challenge_method": "S256",
            "state": "state-of-the-client",
            "scope": "tools:call",
            "resource": self.target.resource,
            **changes,
        }
        values = {name: value for name, value in parameters.items() if value is not None}
        return "/authorize?" + urlencode(values, errors="surrogatepass", quote_via=quote)

    def consent_page(self, user: str = "alice", **changes: str | None) -> Reply:
        """Sign in and stop in front of the decision."""
        page = self.browser.get(self.authorization(**changes))
        if "/login" in forms_of(page):
            answer = self.browser.log_in(page, user)
            assert answer.status in LEADS_ON, answer
            page = self.browser.get(answer.header("location") or "")
        return page

    def authorize(self, user: str = "alice", *, decision: str = "allow", **changes: str | None) -> Reply:
        """Sign in and decide; gives the answer that leads back to the client."""
        page = self.consent_page(user, **changes)
        return self.browser.decide(page, decision) if page.status == 200 else page

    def code(self, user: str = "alice", **changes: str | None) -> str:
        """Sign in, allow, and give the authorization code."""
        code = answer_of(self.authorize(user, **changes))["code"]
        self.target.keep_secret(code)
        return code

    def token(self, **values: str | None) -> Reply:
        """Send a token request of this client."""
        form = {"client_id": self.client_id, **values}
        reply = self.target.form("/token", {name: value for name, value in form.items() if value is not None})
        if reply.status == 200:
            self.target.keep_secret(reply.json["access_token"], reply.json.get("refresh_token", ""))
            self.target.keep_secret(reply.json["access_token"].rpartition(".")[2])
        return reply

    def redeem(self, code: str, **changes: str | None) -> Reply:
        """Redeem a code."""
        values: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self.verifier,
            "redirect_uri": self.redirect_uri,
            "resource": self.target.resource,
        }
        return self.token(**(values | changes))

    def refresh(self, refresh_token: str, **changes: str | None) -> Reply:
        """Redeem a refresh token."""
        values: dict[str, str | None] = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self.token(**(values | changes))

    def sign_in(self, user: str = "alice", **changes: str | None) -> Tokens:
        """The whole way."""
        return self.tokens(self.redeem(self.code(user, **changes)))

    def tokens(self, reply: Reply) -> Tokens:
        """Read the token endpoint's answer."""
        assert reply.status == 200, reply
        answer = reply.json
        return Tokens(self, answer["access_token"], answer.get("refresh_token", ""), answer["scope"], answer)

    def revoke(self, token: str, **changes: str | None) -> Reply:
        """Revoke a token."""
        values = {"client_id": self.client_id, "token": token, **changes}
        return self.target.form("/revoke", {name: value for name, value in values.items() if value is not None})


def answer_of(reply: Reply) -> dict[str, str]:
    """The parameters of the URL that an answer leads to."""
    assert reply.status in LEADS_ON, reply
    query = urlsplit(reply.header("location") or "").query
    return {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}


def sign_in(target: Target, user: str = "alice", **changes: str | None) -> Tokens:
    """Tokens of a person by a client of their own."""
    return Client.new(target).sign_in(user, **changes)


def hidden_value(page: Reply, name: str) -> str:
    """What a page's hidden field of that name holds."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, page.text
    return found[1]
