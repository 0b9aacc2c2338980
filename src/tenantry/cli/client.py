"""A complete MCP client: finds the authorization server, signs in as a person would, and calls one tool.

It knows the server by what HTTP shows of it and shares no code with it but the names of the revisions, so that it
works against any server and is a second opinion about ours.
"""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from html.parser import HTMLParser
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx2
import trio

from tenantry.config import is_loopback
from tenantry.mcp import revisions
from tenantry.version import __version__

# Nobody listens there: the redirect is read, not followed (RFC 8252 section 7.3 lets the port be absent).
REDIRECT_URI = "http://127.0.0.1/callback"
# Between two pages; a login and a consent take four.
MAX_STEPS = 10
# A server gives a tool a minute; an answer that takes longer will not come.
TIMEOUT = httpx2.Timeout(10.0, read=90.0)
CLIENT_INFO = {"name": "tenantry-call", "version": __version__}

_MODERN = next(iter(revisions.MODERN))
_ACCEPT = {"accept": "application/json, text/event-stream"}
_INVALID_PARAMS = -32602
# What a server that knows no modern request makes of one: no JSON-RPC error, an invalid request, or the modern
# code for a version that it does not have (MCP 2026-07-28, versioning, backward compatibility).
_NOT_MODERN = (None, -32600, -32022)
_CHALLENGE_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

Json = dict[str, Any]
EraName = Literal["modern", "legacy"]


class Fault(Exception):
    """The call could not be made or its answer not be understood; the text is one line for a person."""


class Verdict(Enum):
    """How a call ended, as far as a client can tell."""

    SUCCEEDED = "succeeded"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a call, and the text that came with it."""

    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signs in, and for which scopes they are asked."""

    user: str
    password: str
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back from the MCP endpoint for one message."""

    status: int
    challenge: Mapping[str, str] = field(default_factory=dict)
    """The parameters of `WWW-Authenticate`."""
    message: Json | None = None
    """The JSON-RPC message in the body; None where there is none."""
    session_id: str | None = None


async def call_tool(url: str, person: Person, tool: str, arguments: Json, era: EraName | None = None) -> Outcome:
    """Sign in at the MCP server `url` and call `tool` once.

    Without an era the call is made as a modern client makes it, and again as a legacy one where the server knows no
    modern requests. Raises `Fault`.
    """
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
            endpoint = Endpoint(http, url, await sign_in(http, url, person))
            if era == "legacy":
                return outcome_of(await endpoint.call_legacy(tool, arguments))
            reply = await endpoint.call_modern(tool, arguments)
            if era is None and knows_no_modern(reply):
                reply = await endpoint.call_legacy(tool, arguments)
            return outcome_of(reply)
    except httpx2.ConnectError:
        raise Fault(f"nothing answers at {url}: is the server running?") from None
    except httpx2.TimeoutException:
        raise Fault(f"{url} took too long to answer") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.SSEError) as error:
        raise Fault(f"{url}: {error or type(error).__name__}") from None


# --- the authorization server


async def sign_in(http: httpx2.AsyncClient, url: str, person: Person) -> str:
    """Get an access token for the MCP server at `url` by the code flow with PKCE; raises `Fault`."""
    server = await discover(http, url)
    client_id = await _register(http, server)
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    request = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "scope": person.scope,
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "resource": url,
    }
    # A browser of its own: its cookies must not travel to the other endpoints.
    async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT) as browser:
        answer = await _browse(browser, _with_query(server["authorization_endpoint"], request), person)
    code = code_of(answer, state=state, server=server)
    form = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": REDIRECT_URI,
        "resource": url,
    }
    tokens = _object(await http.post(server["token_endpoint"], data=form), "the token endpoint")
    token = tokens.get("access_token")
    if not isinstance(token, str) or str(tokens.get("token_type")).lower() != "bearer":
        raise Fault("the token endpoint gave no bearer token")
    return token


async def discover(http: httpx2.AsyncClient, url: str) -> Json:
    """Find the authorization server's metadata by way of the 401 of `url` (RFC 9728 section 5, RFC 8414 section 3).

    Raises `Fault`, also where a document describes something else than what was asked for.
    """
    refusal = await http.post(url, json=_request(0, "server/discover", {}), headers=_ACCEPT)
    if refusal.status_code != 401:
        raise Fault(f"{url} is no protected MCP endpoint: it answered {refusal.status_code} where 401 was expected")
    challenge = parse_challenge(refusal.headers.get("www-authenticate", ""))
    where = challenge.get("resource_metadata") or well_known(url, "oauth-protected-resource")
    resource = _object(await http.get(_safe(where)), "the protected resource's metadata")
    return await _authorization_server(http, check_resource(resource, url))


async def _authorization_server(http: httpx2.AsyncClient, issuer: str) -> Json:
    where = well_known(_safe(issuer), "oauth-authorization-server")
    return check_server(_object(await http.get(where), "the authorization server's metadata"), issuer)


def check_resource(document: Json, url: str) -> str:
    """Give the issuer that protects `url`; raises `Fault` where the document is another's (RFC 9728 section 3.3)."""
    if document.get("resource") != url:
        raise Fault(f"the server at {url} calls itself {document.get('resource')}: use that with --url")
    servers = document.get("authorization_servers")
    if not isinstance(servers, list) or not servers or not isinstance(servers[0], str):
        raise Fault(f"{url} names no authorization server")
    return servers[0]


def check_server(document: Json, issuer: str) -> Json:
    """Give the metadata back; raises `Fault` where they are another's (RFC 8414 section 3.3) or lack PKCE with S256."""
    if document.get("issuer") != issuer:
        raise Fault(f"the authorization server at {issuer} says that it is {document.get('issuer')}")
    if "S256" not in (document.get("code_challenge_methods_supported") or ()):
        raise Fault("the authorization server does not offer PKCE with S256")
    for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint"):
        if not isinstance(document.get(name), str):
            raise Fault(f"the authorization server names no {name}")
        _safe(document[name])
    return document


async def _register(http: httpx2.AsyncClient, server: Json) -> str:
    # RFC 7591 section 2; native, because a loopback redirect belongs to a program on this machine.
    metadata = {
        "client_name": "tenantry call",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    answer = _object(await http.post(server["registration_endpoint"], json=metadata), "the registration endpoint")
    client_id = answer.get("client_id")
    if not isinstance(client_id, str):
        raise Fault("the registration endpoint gave no client id")
    return client_id


def code_of(answer: Mapping[str, str], *, state: str, server: Json) -> str:
    """Take the code out of the redirect's parameters; raises `Fault` for an error, a foreign state or issuer.

    RFC 6749 section 4.1.2, RFC 9207 section 2.4.
    """
    if answer.get("state") != state:
        raise Fault("the redirect carries another state than was sent")
    issuer = answer.get("iss")
    if issuer != server["issuer"] and (issuer or server.get("authorization_response_iss_parameter_supported")):
        raise Fault(f"the redirect comes from another issuer: {issuer}")
    if "error" in answer:
        raise Fault(
            f"the authorization server refused: {answer['error']} {answer.get('error_description', '')}".strip()
        )
    if not answer.get("code"):
        raise Fault("the redirect carries no code")
    return answer["code"]


def challenge_of(verifier: str) -> str:
    """The S256 code challenge (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def well_known(url: str, name: str) -> str:
    """Where the document `name` about `url` lives: between host and path (RFC 8414 section 3.1, RFC 9728)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/.well-known/{name}{parts.path.rstrip('/')}"


def parse_challenge(header: str) -> dict[str, str]:
    """The parameters of a Bearer challenge, names in lower case (RFC 9110 section 11.2); {} for another scheme."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        return {}
    found = _CHALLENGE_PARAMETER.findall(rest)
    return {name.lower(): token or re.sub(r"\\(.)", r"\1", quoted) for name, quoted, token in found}


def problem_with_url(url: str) -> str | None:
    """Say why nothing may be sent to `url`, or None: a password and a token go over https or stay on this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "that is no URL"
    if parts.scheme not in ("http", "https") or not host:
        return "give an http or https URL"
    return None if parts.scheme == "https" or is_loopback(host) else "http is for this machine only; use https"


def _safe(url: str) -> str:
    problem = problem_with_url(url)
    if problem is not None:
        raise Fault(f"the server leads to {url}: {problem}")
    return url


def _with_query(endpoint: str, parameters: Mapping[str, str]) -> str:
    # RFC 6749 section 3.1: an endpoint may have a query of its own, which stays.
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(parameters)}"


def _object(answer: httpx2.Response, where: str) -> Json:
    """The JSON object of a successful answer; raises `Fault`, with the OAuth error where there is one."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.status_code not in (200, 201):
        told = f"{body['error']} {body.get('error_description', '')}" if _is_error(body) else ""
        raise Fault(f"{where} answered {answer.status_code} {told}".strip())
    if not isinstance(body, dict):
        raise Fault(f"{where} answered no JSON object")
    return body


def _is_error(body: object) -> bool:
    return isinstance(body, dict) and isinstance(body.get("error"), str)


# --- the pages for people


@dataclass
class Form:
    """One form of a page: its fields with what they hold, and its buttons."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """Field name -> input type."""
    buttons: list[tuple[str, str]] = field(default_factory=list)

    def first(self, *kinds: str) -> str | None:
        """The name of the first field of one of these types, or None."""
        return next((name for name, kind in self.kinds.items() if kind in kinds), None)


@dataclass
class Page:
    """What of a page matters to somebody who only fills in forms."""

    forms: list[Form] = field(default_factory=list)
    problem: str = ""
    """The text of the element with the role `alert`."""

    @property
    def asks_password(self) -> bool:
        """Whether the page is a login page."""
        return any(form.first("password") for form in self.forms)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._form: Form | None = None
        self._alert: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if values.get("role") == "alert":
            self._alert = tag
        if tag == "form":
            self._form = Form(values.get("action", ""))
            self.page.forms.append(self._form)
        elif self._form is not None and values.get("name"):
            self._control(self._form, tag, values)

    def _control(self, form: Form, tag: str, values: Mapping[str, str]) -> None:
        kind = values.get("type", "submit" if tag == "button" else "text").lower()
        if kind == "submit" and tag in ("button", "input"):
            form.buttons.append((values["name"], values.get("value", "")))
        elif tag == "input":
            form.fields[values["name"]] = values.get("value", "")
            form.kinds[values["name"]] = kind

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        if tag == self._alert:
            self._alert = None

    def handle_data(self, data: str) -> None:
        if self._alert is not None:
            self.page.problem += data


def read_page(html: str) -> Page:
    """Read the forms of a page, and what it complains of."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.page.problem = " ".join(reader.page.problem.split())
    return reader.page


def fill(page: Page, person: Person) -> tuple[str, dict[str, str]]:
    """Do what the page asks for: log in, or allow. Gives the form's action and fields; raises `Fault`."""
    for form in page.forms:
        secret = form.first("password")
        if secret is not None:
            name = form.first("text", "email") or "username"
            return form.action, {**form.fields, name: person.user, secret: person.password, **dict(form.buttons[:1])}
        for button in form.buttons:
            if button[1] == "allow":
                return form.action, {**form.fields, **dict([button])}
    raise Fault(page.problem or "the authorization server shows a page that has neither a login nor a consent")


async def _browse(browser: httpx2.AsyncClient, url: str, person: Person) -> dict[str, str]:
    """Go from page to page until one leads back to us, and give the parameters that it brings along."""
    answer = await browser.get(url)
    logged_in = False
    for _ in range(MAX_STEPS):
        here = str(answer.url)
        if answer.has_redirect_location:
            target = urljoin(here, answer.headers["location"])
            if target.partition("?")[0] == REDIRECT_URI:
                return dict(parse_qsl(urlsplit(target).query))
            answer = await browser.get(_same_site(url, target))
            continue
        page = read_page(answer.text)
        action, fields = fill(page, person)
        if page.asks_password and logged_in:
            raise Fault(f"{person.user} can't log in: {page.problem or 'the login page came again'}")
        logged_in = page.asks_password
        answer = await browser.post(_same_site(url, urljoin(here, action)), data=fields)
    raise Fault("the authorization server leads from page to page without end")


def _same_site(url: str, target: str) -> str:
    # A page must not carry the password elsewhere.
    if urlsplit(url)[:2] != urlsplit(target)[:2]:
        raise Fault(f"the authorization server leads away to {target.partition('?')[0]}")
    return target


# --- the MCP endpoint


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The MCP endpoint `url`, spoken to with an access token."""

    http: httpx2.AsyncClient
    url: str
    token: str

    async def call_modern(self, tool: str, arguments: Json) -> Reply:
        """Call by a request that carries its own metadata (MCP 2026-07-28, Streamable HTTP)."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": _MODERN,
            "io.modelcontextprotocol/clientInfo": CLIENT_INFO,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        headers = {
            "mcp-protocol-version": _MODERN,
            "mcp-method": "tools/call",
            "mcp-name": encode_header_value(tool),
        }
        return await self._send(_call(1, tool, arguments, _meta=meta), headers)

    async def call_legacy(self, tool: str, arguments: Json) -> Reply:
        """Call inside of a session, or of a handshake without one (MCP 2025-11-25, lifecycle, transports)."""
        offered = revisions.NEWEST_LEGACY.name
        opening = {"protocolVersion": offered, "capabilities": {}, "clientInfo": CLIENT_INFO}
        opened = await self._send(_request(0, "initialize", opening), {})
        result = (opened.message or {}).get("result")
        if not isinstance(result, dict):
            return opened  # what refused the handshake refuses the call
        agreed = result.get("protocolVersion")
        if agreed not in revisions.LEGACY:
            raise Fault(f"the server wants revision {agreed}, which is unknown here")
        headers = {"mcp-protocol-version": agreed}
        if opened.session_id is not None:
            headers["mcp-session-id"] = opened.session_id
        try:
            await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
            return await self._send(_call(1, tool, arguments), headers)
        finally:
            if opened.session_id is not None:
                # A courtesy: a server may refuse it with 405 or be gone by now, and the call's end still counts.
                with suppress(httpx2.HTTPError):
                    await self.http.delete(self.url, headers={**headers, **self._authorization()})

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    async def _send(self, message: Json, headers: Mapping[str, str]) -> Reply:
        every = {**_ACCEPT, **self._authorization(), **headers}
        async with self.http.stream("POST", self.url, json=message, headers=every) as response:
            return Reply(
                status=response.status_code,
                challenge=parse_challenge(response.headers.get("www-authenticate", "")),
                message=await read_answer(response, message.get("id")),
                session_id=response.headers.get("mcp-session-id"),
            )


def _request(id_: int, method: str, params: Json) -> Json:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


def _call(id_: int, tool: str, arguments: Json, **more: object) -> Json:
    return _request(id_, "tools/call", {"name": tool, "arguments": arguments, **more})


def encode_header_value(text: str) -> str:
    """Write a value for a header that mirrors it (MCP 2026-07-28, Streamable HTTP, value encoding).

    Printable ASCII stays as it is; all else, and what only looks like the base64 form, becomes that form.
    """
    plain = text.isascii() and text.isprintable() and text == text.strip()
    if plain and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


async def read_answer(response: httpx2.Response, id_: int | None) -> Json | None:
    """Take the JSON-RPC answer to request `id_` out of a body that is JSON or a stream of events.

    None where the body holds no JSON-RPC message. Raises `Fault` where a stream ends before the answer.
    """
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream":
        return await _answer_in_stream(response, id_)
    return _message(await response.aread())


async def _answer_in_stream(response: httpx2.Response, id_: int | None) -> Json:
    answer: Json | None = None
    # Leaving the loop would leave generators half-read behind it; a cancelled read closes them all.
    with trio.CancelScope() as rest:
        async for event in httpx2.EventSource(response):
            message = _message(event.data)
            # Whatever else comes along, such as progress, is not asked for.
            if answer is None and message is not None and message.get("id") == id_ and "method" not in message:
                answer = message
                rest.cancel()
    if answer is None:
        raise Fault("the server ended the stream before the answer")
    return answer


def _message(text: str | bytes) -> Json | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("jsonrpc") == "2.0" else None


def knows_no_modern(reply: Reply) -> bool:
    """Tell whether a modern request met a server that only does handshakes."""
    error = (reply.message or {}).get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return reply.status in (400, 404, 405) and code in _NOT_MODERN


def outcome_of(reply: Reply) -> Outcome:
    """Judge the reply to a `tools/call`; raises `Fault` where the call neither ran nor was denied."""
    if reply.status == 403 and reply.challenge.get("error") == "insufficient_scope":
        scope = reply.challenge.get("scope", "")
        return Outcome(Verdict.DENIED, f'insufficient_scope: this needs --scope "{scope}"')
    message = reply.message or {}
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        return _outcome_of_error(error)
    if not isinstance(result, dict):
        told = " ".join(filter(None, (reply.challenge.get("error"), reply.challenge.get("error_description"))))
        raise Fault(f"the server answered {reply.status} {told}".rstrip() + ", and no result")
    if result.get("resultType", "complete") != "complete":
        raise Fault("the tool asks for more input, which this client can't give")
    text = text_of(result)
    if not result.get("isError"):
        return Outcome(Verdict.SUCCEEDED, text)
    if text.startswith("Denied:"):
        return Outcome(Verdict.DENIED, text.removeprefix("Denied:").strip())
    return Outcome(Verdict.FAILED, text)


def _outcome_of_error(error: Json) -> Outcome:
    code, told = error.get("code"), str(error.get("message"))
    if code == _INVALID_PARAMS and told.startswith("Unknown tool"):
        # Another tenant's tool must look exactly like one that does not exist.
        return Outcome(Verdict.DENIED, f"{told} ({code}): there is none of that name in this tenant")
    raise Fault(f"the server answered with the error {code}: {told}")


def text_of(result: Json) -> str:
    """The text of a tool's result; content that is no text stands there as JSON."""
    blocks = result.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Fault("the server answered a result without content")
    return "\n".join(str(block["text"]) if "text" in block else json.dumps(block) for block in blocks)
