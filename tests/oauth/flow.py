"""What the tests of the authorization server share: a world with a store, and a browser that fills forms in."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import argon2
import jsonschema

from tenantry import config as configuration
from tenantry import web
from tenantry.audit.denials import Denial
from tenantry.identity import Principal
from tenantry.oauth import openapi, pkce
from tenantry.oauth.client_documents import Location
from tenantry.policy import Directory
from tenantry.server.app import App
from tenantry.server.authentication import Authentication
from tenantry.server.client_documents import Fetch, KnownClients
from tenantry.server.exchange import Exchange
from tenantry.server.feed import Feed
from tenantry.server.fetch import Fetched, FetchFailed
from tenantry.server.keys import SigningKeys
from tenantry.server.login import Login
from tenantry.server.oauth_endpoints import OAuthEndpoints
from tenantry.server.people import peopled
from tenantry.server.services import Services
from tenantry.server.store import Store

ISSUER = "http://localhost:3000"
PASSWORD = "correct horse battery staple"
# Cheap on purpose: what it costs is the business of one test, not of all.
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
REDIRECT = "http://localhost:51000/callback"
VERIFIER = "v" * 43
FORM = "application/x-www-form-urlencoded"
PEER = "192.0.2.1"
START = 1_800_000_000.0


def config(**changes: object) -> configuration.Config:
    """Two tenants, three people, three scopes."""
    document: dict[str, object] = {
        "public_url": ISSUER,
        "scopes": {"docs:read": "Read documents", "docs:export": "Export reports", "admin": "Purge everything"},
        "tools": {"search": {"scopes": ["docs:read"]}},
        "tenants": {"acme": {"title": "Acme Ltd", "tools": ["search"]}, "globex": {"tools": []}},
        "users": {
            "alice": {"tenant": "acme", "scopes": ["docs:read", "docs:export"], "password_hash": HASH},
            "bob": {"tenant": "globex", "scopes": ["docs:read"], "password_hash": HASH},
            "nobody": {"tenant": "acme", "scopes": [], "password_hash": HASH},
        },
        **changes,
    }
    return configuration.build(document, source="test")


class Recorded:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.alike: list[dict[str, Any]] = []
        """What each denial was alike in."""

    async def append_denial(self, entry: bytes, denial: Denial) -> None:
        self.alike.append(json.loads(denial.about))
        await self.append(entry)

    async def append(self, entry: bytes) -> None:
        self.rows.append(json.loads(entry))

    def kinds(self) -> list[str]:
        return [row["kind"] for row in self.rows]


async def nothing_there(_location: Location) -> Fetched:
    """The net, for a server that must not ask for anything."""
    raise FetchFailed("there is no net")


@dataclass
class World:
    """An authorization server over a store at `path`, with a clock that stands still."""

    path: Path
    config: configuration.Config = field(default_factory=config)
    now: float = START
    audit: Recorded = field(default_factory=Recorded)
    fetch: Fetch = nothing_there
    numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start, or start again over the same file."""
        self.store = Store.open(self.path)
        self.feed = Feed(self.store.announcements)
        self.keys = SigningKeys(self.store, feed=self.feed, clock=lambda: self.now)
        self.authentication = Authentication(
            keys=self.keys, feed=self.feed, directory=self.directory, config=self.config, clock=lambda: self.now
        )
        services = Services(
            config=self.config,
            directory=self.directory,
            store=self.store,
            clients=KnownClients(config=self.config, store=self.store, fetch=self.fetch, clock=lambda: self.now),
            audit=self.audit,
            keys=self.keys,
            authentication=self.authentication,
            feed=self.feed,
            clock=lambda: self.now,
            fresh=self.fresh,
        )
        self.oauth = OAuthEndpoints(services)
        self.login = Login(services)
        self.description = openapi.describe(
            issuer=self.config.issuer,
            resource=self.config.resource,
            version="1",
            scopes=self.config.scopes,
            registration="/register" in self.oauth.routes(),
        )
        sites = self.config.sites(bound_port=3000, bound_to_loopback=not self.config.secure)
        self.app = App({**self.oauth.routes(), **self.login.routes()}, sites)

    def directory(self) -> Directory:
        """Who exists by now: tests change the configuration under way."""
        return peopled(self.config.directory(), self.store)

    def restart(self) -> None:
        self.store.close()
        self.start()

    def fresh(self) -> str:
        return f"random-{next(self.numbers):06d}-0123456789abcdefghijkl"

    async def send(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        peer: str = PEER,
    ) -> web.Response:
        """Send one request through the application."""
        path, _, query = target.partition("?")
        host = urlsplit(self.config.issuer).netloc
        fields = {"host": host, "content-length": str(len(body)), **(headers or {})}
        request = web.Request(
            method=method,
            path=path,
            query=query,
            headers=web.Headers(fields.items()),
            scheme="http",
            peer=peer,
        )

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        answer = await self.app.handle(Exchange(request, receive, _send_nothing))
        assert isinstance(answer, web.Response)
        assert undescribed(self.description, method, path, answer) == []
        return answer

    async def post_form(
        self, path: str, form: Mapping[str, str | None], *, headers: Mapping[str, str] | None = None, peer: str = PEER
    ) -> web.Response:
        body = urlencode({name: value for name, value in form.items() if value is not None}).encode()
        return await self.send("POST", path, body=body, headers={"content-type": FORM, **(headers or {})}, peer=peer)

    async def register(self, **metadata: object) -> str:
        """Register a client unlike any other and give its id."""
        document = {"redirect_uris": [REDIRECT], "client_name": "Test client", "software_id": self.fresh(), **metadata}
        answer = await self.send(
            "POST", "/register", body=json.dumps(document).encode(), headers={"content-type": "application/json"}
        )
        assert answer.status == 201, answer.body
        return str(json.loads(answer.body)["client_id"])

    async def code(self, client_id: str, *, user: str = "alice", **changes: str | None) -> str:
        """Go through login and consent and give the authorization code."""
        answer = await Browser(self).consent(authorization_url(client_id, **changes), user=user)
        return query_of(answer)["code"]

    async def redeem(self, client_id: str, code: str, **changes: str | None) -> web.Response:
        form = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": REDIRECT,
            "resource": self.config.resource,
            **changes,
        }
        return await self.post_form("/token", form)

    async def refresh(self, client_id: str, refresh_token: str, **changes: str | None) -> web.Response:
        form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": refresh_token, **changes}
        return await self.post_form("/token", form)

    async def tokens(self, client_id: str, *, user: str = "alice", **changes: str | None) -> dict[str, Any]:
        """The whole flow, up to the answer of the token endpoint."""
        answer = await self.redeem(client_id, await self.code(client_id, user=user, **changes))
        assert answer.status == 200, answer.body
        return dict(json.loads(answer.body))

    def principal(self, access_token: str) -> Principal:
        """What the resource server makes of an access token; raises `web.HttpError`."""
        request = web.Request(
            method="POST",
            path="/mcp",
            query="",
            headers=web.Headers([("authorization", f"Bearer {access_token}")]),
            scheme="http",
            peer=PEER,
        )
        return self.authentication.principal(request)


def undescribed(description: dict[str, Any], method: str, path: str, answer: web.Response) -> list[str]:
    """What of an answer the OpenAPI document does not say; nothing where it does not speak of the request."""
    operation = description["paths"].get(path, {}).get(method.lower())
    if operation is None:
        return []
    said = operation["responses"].get(str(answer.status))
    if said is None:
        return [f"{method} {path} answers {answer.status}"]
    kind = (answer.headers.get("content-type") or "").partition(";")[0]
    content = said.get("content", {})
    if (kind or None) not in (set(content) or {None}):
        return [f"{method} {path} answers {answer.status} in {kind!r}"]
    if kind != "application/json":
        return []
    schema = {**content[kind]["schema"], "components": description["components"]}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(json.loads(answer.body))]


def authorization_url(client_id: str, /, **changes: str | None) -> str:
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT,
        "code_challenge": pkce.challenge_of(VERIFIER),
        "code_challenge_method": "S256",
        "state": "state of the client",
        "resource": f"{ISSUER}/mcp",
        **changes,
    }
    return "/authorize?" + urlencode({name: value for name, value in parameters.items() if value is not None})


def query_of(answer: web.Response) -> dict[str, str]:
    """The parameters of the URL that an answer leads to."""
    assert answer.status == 303, (answer.status, answer.body)
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def error_of(answer: web.Response) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            assert attributes["method"] == "post"
            self.forms.append(Form(attributes["action"]))
        elif tag == "input":
            self.forms[-1].fields[attributes["name"]] = attributes.get("value", "")
        elif tag == "button" and "name" in attributes:
            self.forms[-1].buttons.append((attributes["name"], attributes["value"]))


def forms_of(answer: web.Response) -> list[Form]:
    parser = _Forms()
    parser.feed(answer.body.decode())
    return parser.forms


class Browser:
    """Keeps cookies and fills in the first form of each page, as a person in a hurry does."""

    def __init__(self, world: World, *, peer: str = PEER) -> None:
        self.world = world
        self.peer = peer
        self.cookies: dict[str, str] = {}

    async def get(self, target: str) -> web.Response:
        return self._keep(await self.world.send("GET", target, headers=self._headers(), peer=self.peer))

    async def post(
        self, path: str, form: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        own = {"origin": self.world.config.issuer, "sec-fetch-site": "same-origin"}
        sent = {**self._headers(), **own, **(headers or {})}
        return self._keep(await self.world.post_form(path, form, headers=sent, peer=self.peer))

    def _headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}

    def _keep(self, answer: web.Response) -> web.Response:
        for cookie in answer.cookies:
            match = re.match(r"([^=]+)=([^;]*); Max-Age=(\d+)", cookie)
            assert match is not None
            if match[3] == "0":
                self.cookies.pop(match[1], None)
            else:
                self.cookies[match[1]] = match[2]
        return answer

    async def log_in(self, url: str, *, user: str = "alice", password: str = PASSWORD) -> web.Response:
        """Open the login page and send it; gives the answer to that."""
        (form,) = forms_of(await self.get(url))
        return await self.post(form.action, {**form.fields, "username": user, "password": password})

    async def consent_page(self, url: str, *, user: str = "alice") -> web.Response:
        answer = await self.log_in(url, user=user)
        assert answer.status == 303, answer.body
        return await self.get(answer.headers["location"])

    async def consent(self, url: str, *, user: str = "alice", decision: str = "allow") -> web.Response:
        """Log in, decide, and give the answer that leads back to the client."""
        page = await self.consent_page(url, user=user)
        form = forms_of(page)[0]
        assert ("decision", decision) in form.buttons, page.body
        return await self.post(form.action, {**form.fields, "decision": decision})


async def _send_nothing(_: object) -> None:
    raise AssertionError("an endpoint of the authorization server answers in one piece")
