"""The authorization server behind an MCP endpoint, as its clients and their browsers meet it.

It is found as the texts say, from the challenge of the endpoint on; nothing is known of it beforehand. What it does not
offer raises `NotApplicable`.
"""

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from conformance.client import JSON, Answer, Endpoint, Headers, NotApplicable
from conformance.login import Browser, Page, agree

FORM = "application/x-www-form-urlencoded"
REDIRECT_URI = "http://127.0.0.1/callback"
WELL_KNOWN = "/.well-known/oauth-authorization-server"
PROTECTED = "/.well-known/oauth-protected-resource"
PATIENCE_S = 90
"""How long the suite waits at most where a server limits registrations."""

Fields = Mapping[str, str | list[str] | None]
"""Parameters over the usual ones: None leaves one out, a list sends it more than once."""


def challenge_of(verifier: str) -> str:
    """The S256 code challenge of a code verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def encoded(fields: Fields) -> str:
    """Write parameters as a query or a form body."""
    pairs = [
        (name, each)
        for name, value in fields.items()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    ]
    return urlencode(pairs)


def inserted(url: str, well_known: str) -> str:
    """Put a well-known path between the host and the path of `url`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{well_known}{parts.path.rstrip('/')}"


def parse_challenge(value: str) -> tuple[str, list[tuple[str, str]]]:
    """Read a `WWW-Authenticate` value with one challenge: its scheme, and its parameters in order."""
    scheme, _, rest = value.partition(" ")
    found = re.findall(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', rest)
    return scheme, [(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain) for name, quoted, plain in found]


def claims_of(token: str, part: int = 1) -> dict[str, Any]:
    """Read the claims of a JWT, or its header (part 0), without checking anything; not applicable to other tokens."""
    segments = token.split(".")
    if len(segments) != 3:
        raise NotApplicable("the access tokens of this server are no JWTs")
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segments[part] + "=" * (-len(segments[part]) % 4)))
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client."""

    id: str
    secret: str | None = field(default=None, repr=False)
    method: str = "none"
    redirect_uri: str = REDIRECT_URI

    def proof(self) -> dict[str, str]:
        """The parameters by which it makes itself known in a form."""
        secret = {"client_secret": self.secret or ""} if self.method == "client_secret_post" else {}
        return {} if self.method == "client_secret_basic" else {"client_id": self.id, **secret}

    def headers(self) -> dict[str, str]:
        """The header fields by which it makes itself known."""
        if self.method != "client_secret_basic":
            return {}
        return {"authorization": basic(self.id, self.secret or "")}


def basic(user: str, password: str) -> str:
    """The `Authorization` value of the Basic scheme, as RFC 6749 section 2.3.1 has it encoded."""
    pair = ":".join(urlencode({"": each})[1:] for each in (user, password))
    return "Basic " + base64.b64encode(pair.encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An authorization response that granted something, and what is needed to redeem it."""

    client: Client
    verifier: str
    redirect_uri: str
    response: dict[str, list[str]]

    @property
    def code(self) -> str:
        """The authorization code."""
        return self.response["code"][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What came of a code."""

    client: Client
    answer: Answer

    @property
    def access_token(self) -> str:
        """The access token."""
        token: str = self.answer.json["access_token"]
        return token

    @property
    def refresh_token(self) -> str:
        """The refresh token; not applicable where the server gives none."""
        token: str | None = self.answer.json.get("refresh_token")
        if token is None:
            raise NotApplicable("the server gives no refresh tokens")
        return token


class Authority:
    """The authorization server of one MCP endpoint.

    `account` is who may sign in there, name and password; `service` gives id and secret of a client that an operator
    has made to act for itself.
    """

    def __init__(
        self, url: str, account: tuple[str, str] | None, service: Callable[[], tuple[str, str]] | None = None
    ) -> None:
        """Ask nothing yet."""
        self.url, self._account, self._service = url, account, service

    # What it says of itself

    @cached_property
    def refusal(self) -> Answer:
        """What the endpoint answers to somebody without a token."""
        return self.at(self.url).http("POST", b"{}", {"content-type": JSON, "accept": f"{JSON}, text/event-stream"})

    @cached_property
    def protected_url(self) -> str:
        """Where the challenge of the endpoint says that its metadata is, else where it has to be."""
        _, parameters = parse_challenge(self.refusal.header("www-authenticate") or "")
        return dict(parameters).get("resource_metadata") or inserted(self.url, PROTECTED)

    @cached_property
    def protected(self) -> dict[str, Any]:
        """The metadata of the protected resource (RFC 9728)."""
        return self._document(self.protected_url)

    @property
    def issuer(self) -> str:
        """The issuer identifier of the first authorization server."""
        issuer: str = self.protected["authorization_servers"][0]
        return issuer

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the authorization server (RFC 8414)."""
        return self._document(inserted(self.issuer, WELL_KNOWN))

    @property
    def resource(self) -> str:
        """The resource identifier of the endpoint."""
        resource: str = self.protected["resource"]
        return resource

    @property
    def scope(self) -> str:
        """Every scope that the resource says it has."""
        return " ".join(self.protected.get("scopes_supported", []))

    def endpoint(self, name: str) -> str:
        """The URL of an endpoint; not applicable where the metadata names none."""
        url: str | None = self.metadata.get(f"{name}_endpoint")
        if url is None:
            raise NotApplicable(f"the server has no {name} endpoint")
        return url

    def _document(self, url: str) -> dict[str, Any]:
        answer = self.get(url)
        assert answer.status == 200, f"{url}: {answer}"
        document: dict[str, Any] = answer.json
        return document

    # Requests

    def at(self, url: str, token: str | None = None) -> Endpoint:
        """A client for one URL."""
        return Endpoint(url, token)

    def get(self, url: str, headers: Headers | None = None) -> Answer:
        """GET a URL."""
        return self.at(url).http("GET", b"", headers)

    def form(self, url: str, fields: Fields, headers: Headers | None = None) -> Answer:
        """POST a form."""
        return self.at(url).http("POST", encoded(fields).encode(), {"content-type": FORM, **(headers or {})})

    def call(self, token: str | None, headers: Headers | None = None) -> Answer:
        """Ask the MCP endpoint for something that any token opens: `ping` of the legacy era."""
        usual = {"content-type": JSON, "accept": f"{JSON}, text/event-stream"}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()
        return self.at(self.url, token).http("POST", body, {**usual, **(headers or {})})

    def opens(self, token: str) -> bool:
        """Whether the resource server lets a token in, whatever it then says to the request."""
        answer = self.call(token)
        assert answer.status < 500, answer
        return answer.status not in {401, 403}

    # Clients

    def register(self, headers: Headers | None = None, /, **members: Any) -> Answer:
        """Ask for a registration; members over the usual ones, None leaves one out."""
        usual = {
            "client_name": "conformance",
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        }
        document = {name: value for name, value in {**usual, **members}.items() if value is not None}
        return self.register_raw(json.dumps(document).encode(), headers)

    def register_raw(self, body: bytes, headers: Headers | None = None) -> Answer:
        """POST bytes to the registration endpoint, once more where it asks for patience."""
        endpoint = self.at(self.endpoint("registration"))
        answer = endpoint.http("POST", body, {"content-type": JSON, **(headers or {})})
        if answer.status == 429 and (answer.header("retry-after") or "").isdigit():
            time.sleep(min(int(answer.header("retry-after") or 0), PATIENCE_S))
            answer = endpoint.http("POST", body, {"content-type": JSON, **(headers or {})})
        return answer

    def registered(self, **members: Any) -> Client:
        """Register a client; a method of authentication that the server replaces is not applicable."""
        answer = self.register(**members)
        assert answer.status == 201, answer
        got = answer.json
        wanted = members.get("token_endpoint_auth_method", "none")
        method = got.get("token_endpoint_auth_method", "client_secret_basic")
        if method != wanted:
            raise NotApplicable(f"the server registers no clients with {wanted}")
        uris = members.get("redirect_uris", [REDIRECT_URI])
        return Client(id=got["client_id"], secret=got.get("client_secret"), method=method, redirect_uri=uris[0])

    @cached_property
    def client(self) -> Client:
        """A public client that all tests share."""
        return self.registered()

    @cached_property
    def other_client(self) -> Client:
        """Another one."""
        return self.registered(client_name="conformance, another")

    @cached_property
    def site_client(self) -> Client:
        """One whose redirect URI is a site."""
        return self.registered(redirect_uris=["https://client.example/callback"])

    @cached_property
    def basic_client(self) -> Client:
        """A confidential client that proves itself in the header."""
        return self.registered(client_name="conformance, basic", token_endpoint_auth_method="client_secret_basic")

    @cached_property
    def post_client(self) -> Client:
        """A confidential client that proves itself in the form."""
        return self.registered(client_name="conformance, post", token_endpoint_auth_method="client_secret_post")

    @property
    def confidential(self) -> Client:
        """A confidential client, whichever the server registers."""
        try:
            return self.basic_client
        except NotApplicable:
            return self.post_client

    @cached_property
    def service(self) -> Client:
        """A client that acts for itself; not applicable where none is known."""
        if self._service is None:
            raise NotApplicable("the test needs a client that acts for itself, and none is known: say --service")
        name, secret = self._service()
        return Client(id=name, secret=secret, method="client_secret_basic")

    # The authorization endpoint

    def authorization_url(self, client: Client, verifier: str, over: Fields | None = None) -> str:
        """The authorization request of a client in good order, and what is put over that."""
        usual: Fields = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": client.redirect_uri,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            "state": "the state",
            "scope": self.scope or None,
            "resource": self.resource,
        }
        query = encoded({**usual, **(over or {})})
        url = self.endpoint("authorization")
        return f"{url}{'&' if urlsplit(url).query else '?'}{query}"

    def authorize(self, over: Fields | None = None, /, *, client: Client | None = None) -> Answer:
        """Send an authorization request as a browser without cookies."""
        return self.get(self.authorization_url(client or self.client, new_verifier(), over), {"accept": "text/html"})

    @property
    def account(self) -> tuple[str, str]:
        """Who may sign in; not applicable where nobody is known."""
        if self._account is None:
            raise NotApplicable("the test signs somebody in, and no account is known: say --user")
        return self._account

    @cached_property
    def browser(self) -> Browser:
        """A browser in which the account is signed in."""
        browser = Browser()
        self._agree(browser, self.authorization_url(self.client, new_verifier()), self.client.redirect_uri)
        return browser

    def _agree(self, browser: Browser, url: str, redirect_uri: str) -> str:
        user, password = self.account
        return agree(browser, url, redirect_uri, user=user, password=password)

    def consent_page(self, over: Fields | None = None, /, *, client: Client | None = None) -> Page:
        """The page that asks a person who is signed in already."""
        page = self.browser.ask(self.authorization_url(client or self.client, new_verifier(), over))
        if page.target is not None:
            raise NotApplicable("the server does not ask again what was allowed before")
        return page

    def code(self, over: Fields | None = None, /, *, client: Client | None = None) -> Code:
        """Get an authorization code by signing in and agreeing."""
        client, verifier = client or self.client, new_verifier()
        redirect_uri = (over or {}).get("redirect_uri", client.redirect_uri) or client.redirect_uri
        assert isinstance(redirect_uri, str)
        back = self._agree(self.browser, self.authorization_url(client, verifier, over), redirect_uri)
        response = parse_qs(urlsplit(back).query, keep_blank_values=True)
        assert "code" in response, response
        return Code(client=client, verifier=verifier, redirect_uri=redirect_uri, response=response)

    # The token endpoint

    def for_itself(self, client: Client, over: Fields | None = None, /) -> Answer:
        """Ask for an access token by client credentials."""
        return self.token(client, {"grant_type": "client_credentials", "resource": self.resource, **(over or {})})

    def token(self, client: Client | None, fields: Fields, headers: Headers | None = None) -> Answer:
        """Send a token request as a client; None as nobody."""
        known = {} if client is None else client.proof()
        proof = {} if client is None else client.headers()
        return self.form(self.endpoint("token"), {**known, **fields}, {**proof, **(headers or {})})

    def redeem(self, code: Code, over: Fields | None = None, /, *, client: Client | None = None) -> Answer:
        """Redeem a code as its client does, and what is put over that."""
        usual: Fields = {
            "grant_type": "authorization_code",
            "code": code.code,
            "code_verifier": code.verifier,
            "redirect_uri": code.redirect_uri,
            "resource": self.resource,
        }
        return self.token(client or code.client, {**usual, **(over or {})})

    def grant(self, over: Fields | None = None, /, *, client: Client | None = None) -> Grant:
        """Get tokens by signing in and agreeing."""
        code = self.code(over, client=client)
        answer = self.redeem(code)
        assert answer.status == 200, answer
        return Grant(client=code.client, answer=answer)

    def refresh(self, grant: Grant, over: Fields | None = None, /, *, client: Client | None = None) -> Answer:
        """Use a refresh token as its client does, and what is put over that."""
        usual = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, "resource": self.resource}
        return self.token(client or grant.client, {**usual, **(over or {})})


def new_verifier() -> str:
    """A code verifier of 256 bits."""
    return secrets.token_urlsafe(32)


def sent_back(answer: Answer, redirect_uri: str = REDIRECT_URI) -> dict[str, str]:
    """The parameters of a redirect to the client; fails where the answer is none."""
    location = answer.header("location") or ""
    assert answer.status in {302, 303}, answer
    assert location.split("?")[0] == redirect_uri, location
    pairs = parse_qsl(urlsplit(location).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), f"a parameter comes twice: {location}"
    return dict(pairs)


def refused(answer: Answer, *errors: str) -> bool:
    """Whether an answer is an error of RFC 6749 section 5.2, one of those named."""
    return answer.status in {400, 401} and answer.content_type == JSON and answer.json.get("error") in errors


def is_page(answer: Answer | Page, statuses: Sequence[int] = (400, 401, 403)) -> bool:
    """Whether an answer is an error shown to the person, and leads nowhere by itself."""
    kind = answer.content_type if isinstance(answer, Answer) else answer.headers.get_content_type()
    location = answer.header("location") if isinstance(answer, Answer) else answer.headers.get("location")
    return answer.status in statuses and kind in {"text/html", "text/plain", JSON} and location is None
