"""The table of faults of an authorization server and its resource: what goes wrong, and which clauses must catch it."""

import base64
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from conformance.authority import basic, challenge_of, claims_of
from conformance.broken.proxy import JSON, Fault, Headers, Message, Reply, Request, value_of, without

AUTHORIZE, TOKEN, REGISTER, REVOKE, INTROSPECT, MCP = (
    "/authorize",
    "/token",
    "/register",
    "/revoke",
    "/introspect",
    "/mcp",
)
SERVER = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"
CALLBACK = "http://127.0.0.1/callback"
VERIFIER = "v" * 43

Pairs = list[tuple[str, str]]
SpoilRequest = Callable[[Request], Request]
SpoilReply = Callable[[Request, Reply], Reply]


def path_of(request: Request) -> str:
    """The path that is asked for, without its query."""
    return urlsplit(request.path).path


def pairs_of(request: Request) -> Pairs:
    """The parameters of a request: its query for GET, its form for POST."""
    text = request.body.decode("latin-1") if request.method == "POST" else urlsplit(request.path).query
    return parse_qsl(text, keep_blank_values=True)


def parameter(request: Request, name: str) -> str | None:
    """The first value of a parameter."""
    return next((value for key, value in pairs_of(request) if key == name), None)


def asked(change: Callable[[Pairs], Pairs], *paths: str) -> SpoilRequest:
    """Show the server other parameters than were sent."""

    def spoil(request: Request) -> Request:
        if path_of(request) not in paths or "json" in (request.header("content-type") or ""):
            return request
        text = urlencode(change(pairs_of(request)))
        if request.method == "POST":
            return replace(request, body=text.encode())
        return replace(request, path=f"{path_of(request)}?{text}")

    return spoil


def lacking(*names: str) -> Callable[[Pairs], Pairs]:
    """Take parameters out."""
    return lambda pairs: [(name, value) for name, value in pairs if name not in names]


def having(**more: str) -> Callable[[Pairs], Pairs]:
    """Put parameters in place of what was sent under their names."""
    return lambda pairs: [*lacking(*more)(pairs), *more.items()]


def told(change: Callable[[Message], Any], *paths: str, statuses: tuple[int, ...] = (200, 201)) -> SpoilReply:
    """Spoil the JSON that the server answers at some paths."""

    def spoil(request: Request, reply: Reply) -> Reply:
        if not path_of(request).startswith(paths) or reply.status not in statuses or not reply.body.startswith(b"{"):
            return reply
        return replace(reply, body=json.dumps(change(json.loads(reply.body))).encode())

    return spoil


def without_members(*names: str) -> Callable[[Message], Message]:
    """Take members out."""
    return lambda document: {name: value for name, value in document.items() if name not in names}


def with_members(**more: Any) -> Callable[[Message], Message]:
    """Put members in."""
    return lambda document: {**document, **more}


def led(change: Callable[[Pairs], Pairs]) -> SpoilReply:
    """Spoil the parameters with which the server sends somebody back to a client."""

    def spoil(_request: Request, reply: Reply) -> Reply:
        location = reply.header("location") or ""
        base, _, query = location.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        if not {"code", "error"} & {name for name, _ in pairs} or not base.startswith("http"):
            return reply
        return with_header(reply, "location", f"{base}?{urlencode(change(pairs))}")

    return spoil


def with_header(reply: Reply, name: str, value: str | None) -> Reply:
    """Put a header field in place of the server's; None leaves it out."""
    return replace(reply, headers=[*without(reply.headers, name), *([] if value is None else [(name, value)])])


def field(name: str, value: str | None, *paths: str, statuses: tuple[int, ...] = ()) -> SpoilReply:
    """Put a header field in place of the server's at some paths."""

    def spoil(request: Request, reply: Reply) -> Reply:
        if not path_of(request).startswith(paths) or (statuses and reply.status not in statuses):
            return reply
        return with_header(reply, name, value)

    return spoil


def status(old: int, new: int, *paths: str) -> SpoilReply:
    """Answer one status in place of another at some paths."""

    def spoil(request: Request, reply: Reply) -> Reply:
        fits = reply.status == old and path_of(request).startswith(paths)
        return replace(reply, status=new) if fits else reply

    return spoil


def challenged(change: Callable[[str], str]) -> SpoilReply:
    """Spoil the challenges of the resource."""

    def spoil(_request: Request, reply: Reply) -> Reply:
        value = reply.header("www-authenticate")
        return reply if value is None else with_header(reply, "www-authenticate", change(value))

    return spoil


def paged(change: Callable[[str], str]) -> SpoilReply:
    """Spoil the text of pages."""

    def spoil(_request: Request, reply: Reply) -> Reply:
        if not (reply.header("content-type") or "").startswith("text/html"):
            return reply
        return replace(reply, body=change(reply.body.decode()).encode())

    return spoil


def refusing(wanted: Callable[[Request], bool], error: str = "invalid_request") -> SpoilReply:
    """Refuse what the server would have taken."""
    body = json.dumps({"error": error}).encode()
    return lambda request, reply: Reply(400, [("content-type", JSON)], body) if wanted(request) else reply


def both(first: SpoilReply, second: SpoilReply) -> SpoilReply:
    """Spoil an answer in two ways."""
    return lambda request, reply: second(request, first(request, reply))


# Faults that have to remember something


class Memory:
    """What a fault has seen go by: which client each code and token was given to, and which secret each client has."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.client_of: dict[str, str] = {}
        self.secret_of: dict[str, str] = {}
        self.token_of: dict[str, str] = {}
        self.given: dict[str, Reply] = {}
        self.sent: dict[str, bytes] = {}
        self.session: dict[str, str] = {}
        self.cookie = self.asking = self.service = ""

    def watch(self, request: Request, reply: Reply) -> Reply:
        """Remember what goes by, and change nothing."""
        document = json.loads(reply.body) if reply.body.startswith(b"{") and reply.status in {200, 201} else {}
        path = path_of(request)
        if path == AUTHORIZE:
            self.asking = parameter(request, "client_id") or self.asking
            self.cookie = request.header("cookie") or self.cookie
        if path == REGISTER and "client_secret" in document:
            self.secret_of[document["client_id"]] = document["client_secret"]
        code = dict(parse_qsl(urlsplit(reply.header("location") or "").query)).get("code")
        if code:
            self.client_of[code] = self.asking
        if path == TOKEN and "access_token" in document:
            self._watch_tokens(request, document)
        if session := reply.header("mcp-session-id"):
            self.session[session] = request.header("authorization") or ""
        return reply

    def _watch_tokens(self, request: Request, document: Message) -> None:
        for name in ("access_token", "refresh_token"):
            if name in document:
                self.client_of[document[name]] = parameter(request, "client_id") or ""
        self.token_of[claims_of(document["access_token"])["jti"]] = document["access_token"]
        if parameter(request, "grant_type") == "client_credentials":
            self.service = request.header("authorization") or ""


def remembering(build: Callable[[Memory], tuple[SpoilRequest, SpoilReply]]) -> dict[str, Any]:
    """Make the two halves of a fault that share a memory."""
    memory = Memory()
    request, reply = build(memory)
    return {"request": request, "reply": lambda asked, reply_: reply(asked, memory.watch(asked, reply_))}


def as_sent(request: Request) -> Request:
    """Leave a request as it is."""
    return request


def as_answered(_request: Request, reply: Reply) -> Reply:
    """Leave an answer as it is."""
    return reply


def owned(*names: str) -> Callable[[Memory], tuple[SpoilRequest, SpoilReply]]:
    """Take everybody for the client that a code or a token was given to."""

    def build(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
        def change(pairs: Pairs) -> Pairs:
            owner = next((memory.client_of.get(value) for name, value in pairs if name in names), None)
            return having(client_id=owner)(pairs) if owner else pairs

        return asked(change, TOKEN, REVOKE), as_answered

    return build


def codes_again(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Answer the second use of a code as the first."""

    def spoil(request: Request, reply: Reply) -> Reply:
        code = parameter(request, "code") if path_of(request) == TOKEN else None
        if code is not None and reply.status == 200:
            memory.given[code] = reply
        return memory.given.get(code or "", reply)

    return as_sent, spoil


def reuse_forgiven(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Keep the second use of a code from the server, and refuse it all the same."""

    def spoil(request: Request) -> Request:
        code = parameter(request, "code") if path_of(request) == TOKEN else None
        if code is None or code not in memory.sent:
            memory.sent[code or ""] = b""
            return request
        return replace(request, body=urlencode(having(code="nothing")(pairs_of(request))).encode())

    return spoil, as_answered


def any_replay_revokes(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Take every second use of a code for one that is right in everything."""

    def spoil(request: Request) -> Request:
        code = parameter(request, "code") if path_of(request) == TOKEN else None
        if code is None:
            return request
        return replace(request, body=memory.sent.setdefault(code, request.body))

    return spoil, as_answered


def secrets_known(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Take everybody for the client that they name."""

    def spoil(request: Request) -> Request:
        if path_of(request) not in {TOKEN, REVOKE, INTROSPECT}:
            return request
        named = [name for name in memory.secret_of if name in (parameter(request, "client_id"), basic_user(request))]
        if not named:
            return request
        body = urlencode(lacking("client_id", "client_secret")(pairs_of(request))).encode()
        proof = ("authorization", basic(named[0], memory.secret_of[named[0]]))
        return replace(request, body=body, headers=[*without(request.headers, "authorization"), proof])

    return spoil, as_answered


def basic_user(request: Request) -> str | None:
    """Who the Basic scheme names; the ids of this server need no decoding."""
    kind, _, encoded = (request.header("authorization") or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded).decode().partition(":")[0]
    except ValueError:
        return None


def service_for_all(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Give every client what only the operator's may have."""

    def spoil(request: Request) -> Request:
        if parameter(request, "grant_type") != "client_credentials" or not memory.service:
            return request
        body = urlencode(lacking("client_id", "client_secret")(pairs_of(request))).encode()
        headers = [*without(request.headers, "authorization"), ("authorization", memory.service)]
        return replace(request, body=body, headers=headers)

    return spoil, as_answered


def signatures_ignored(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Take a token for what it says it is."""

    def spoil(request: Request) -> Request:
        token = (request.header("authorization") or "").partition(" ")[2]
        try:
            known = memory.token_of.get(claims_of(".".join(token.split(".")[:3])).get("jti", ""))
        except Exception:  # noqa: BLE001  # not a token at all
            return request
        if known is None or path_of(request) != MCP:
            return request
        return replace(
            request, headers=[*without(request.headers, "authorization"), ("authorization", f"Bearer {known}")]
        )

    return spoil, as_answered


def sessions_open(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Take who has a session for who opened it."""

    def spoil(request: Request) -> Request:
        owner = memory.session.get(request.header("mcp-session-id") or "")
        if owner is None:
            return request
        return replace(request, headers=[*without(request.headers, "authorization"), ("authorization", owner)])

    return spoil, as_answered


def any_browser(memory: Memory) -> tuple[SpoilRequest, SpoilReply]:
    """Take a consent for the last person's who was asked, whatever browser and page it came from."""

    def spoil(request: Request) -> Request:
        if path_of(request) != "/consent":
            return request
        strangers = ("cookie", "origin", "sec-fetch-site")
        headers: Headers = [(name, value) for name, value in request.headers if name.lower() not in strangers]
        return replace(request, headers=[*headers, ("cookie", memory.cookie)])

    return spoil, as_answered


# Faults of one request or answer


def open_redirector(request: Request, reply: Reply) -> Reply:
    """Carry people to wherever the link says."""
    target = parameter(request, "redirect_uri") if path_of(request) == AUTHORIZE else None
    if reply.status != 400 or target is None or not target.isprintable() or not target.isascii():
        return reply
    return Reply(303, [("location", target)])


def code_for_nothing(request: Request, reply: Reply) -> Reply:
    """Give a code to whoever asks."""
    if path_of(request) != AUTHORIZE or reply.status not in {200, 302, 303}:
        return reply
    return Reply(303, [("location", f"{parameter(request, 'redirect_uri')}?code=c&state=s")])


def everywhere(request: Request) -> Request:
    """Describe the resource at every path."""
    return replace(request, path=f"{RESOURCE}/mcp") if request.path.startswith(RESOURCE) else request


def token_by_get(request: Request) -> Request:
    """Take a GET for a POST."""
    if path_of(request) not in {TOKEN, REVOKE, INTROSPECT} or request.method == "POST":
        return request
    headers = [*without(request.headers, "content-type"), ("content-type", "application/x-www-form-urlencoded")]
    return Request("POST", path_of(request), headers, urlsplit(request.path).query.encode())


def query_in_form(request: Request) -> Request:
    """Take parameters out of the URL of the token endpoint."""
    if path_of(request) != TOKEN or not urlsplit(request.path).query:
        return request
    body = "&".join(part for part in (request.body.decode(), urlsplit(request.path).query) if part)
    return replace(request, path=TOKEN, body=body.encode())


def token_in_query(request: Request) -> Request:
    """Take an access token out of the query."""
    parts = urlsplit(request.path)
    token = dict(parse_qsl(parts.query)).get("access_token")
    if parts.path != MCP or token is None:
        return request
    return replace(request, path=parts.path, headers=[*without(request.headers, "authorization"), bearer(token)])


def token_in_cookie(request: Request) -> Request:
    """Take an access token out of a cookie."""
    cookie = request.header("cookie") or ""
    found = [part.strip().partition("=")[2] for part in cookie.split(";") if part.strip().startswith("access_token=")]
    return replace(request, headers=[*request.headers, bearer(found[0])]) if found else request


def bearer(token: str) -> tuple[str, str]:
    """The header field of an access token."""
    return "authorization", f"Bearer {token}"


def one_token(request: Request) -> Request:
    """Take the first of several tokens."""
    first = (request.header("authorization") or "").split(",")[0].split(" ")[:2]
    if len(first) < 2 or path_of(request) != MCP:
        return request
    return replace(
        request, path=MCP, headers=[*without(request.headers, "authorization"), ("authorization", " ".join(first))]
    )


def first_of_each(pairs: Pairs) -> Pairs:
    """Take the first of parameters that come twice."""
    return list(dict(reversed(pairs)).items())


def never_plain(pairs: Pairs) -> Pairs:
    """Take every method for S256."""
    return having(code_challenge_method="S256")(pairs) if dict(pairs).get("code_challenge") else pairs


def challenge_made_up(pairs: Pairs) -> Pairs:
    """Make up a challenge where there is none."""
    if dict(pairs).get("code_challenge"):
        return pairs
    return having(code_challenge=challenge_of(VERIFIER), code_challenge_method="S256")(pairs)


def pkce_ignored(request: Request) -> Request:
    """Take every verifier for the right one."""
    challenge = having(code_challenge=challenge_of(VERIFIER), code_challenge_method="S256")
    return asked(having(code_verifier=VERIFIER), TOKEN)(asked(challenge, AUTHORIZE)(request))


def registering(change: Callable[[Message], Message]) -> SpoilRequest:
    """Show the server another registration than was sent."""

    def spoil(request: Request) -> Request:
        if path_of(request) != REGISTER or not isinstance(request.message, dict):
            return request
        return replace(request, body=json.dumps(change(request.message)).encode())

    return spoil


def echoed(request: Request, reply: Reply) -> Reply:
    """Answer a registration with everything that was sent."""
    if path_of(request) != REGISTER or reply.status != 201:
        return reply
    return replace(reply, body=json.dumps({**json.loads(reply.body), **request.message}).encode())


def unseen(request: Request) -> Request:
    """Let nothing be revoked."""
    return asked(having(token="nothing"), REVOKE)(request)


def hint_obeyed(pairs: Pairs) -> Pairs:
    """Look for a token only where the hint says."""
    fields = dict(pairs)
    is_jwt = fields.get("token", "").count(".") == 2
    wrong = {"access_token": not is_jwt, "refresh_token": is_jwt}.get(fields.get("token_type_hint", ""), False)
    return having(token="nothing")(pairs) if wrong else pairs


def forwarded(request: Request, reply: Reply) -> Reply:
    """Believe whoever says to be a proxy."""
    host = request.header("x-forwarded-host")
    ours = value_of(request.headers, "host") or ""
    if host is None:
        return reply
    headers = [(name, value.replace(ours, host)) for name, value in reply.headers]
    return replace(reply, headers=headers, body=reply.body.replace(ours.encode(), host.encode()))


def shown(request: Request, reply: Reply) -> Reply:
    """Repeat on pages what was asked for, as it came."""
    return paged(lambda text: text + " ".join(value for _, value in pairs_of(request)))(request, reply)


def retyped(document: Message) -> Message:
    """Call access tokens plain JWTs."""
    if "access_token" not in document:
        return document
    head = {**claims_of(document["access_token"], 0), "typ": "JWT"}
    first = base64.urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")
    return {**document, "access_token": ".".join([first, *document["access_token"].split(".")[1:]])}


def quoted(document: Message) -> Message:
    """Put a quote into the description of an error."""
    return {**document, "error_description": 'say "no"'} if "error" in document else document


def fetched_blindly(request: Request) -> Request:
    """Connect to the host of a client id."""
    url = urlsplit(parameter(request, "client_id") or "")
    if path_of(request) == AUTHORIZE and url.scheme == "https" and url.port is not None:
        with contextlib.suppress(OSError), socket.create_connection((url.hostname or "", url.port), 1):
            pass
    return request


def is_at(*paths: str) -> Callable[[Request], bool]:
    """Whether a request goes to one of some paths."""
    return lambda request: path_of(request) in paths


OAUTH_FAULTS: dict[str, Fault] = {
    # Metadata
    "issuer-with-slash": Fault(
        does="ends its issuer with a slash in the metadata alone",
        clauses=("rfc8414:3.3:issuer-identical",),
        reply=told(lambda document: {**document, "issuer": document["issuer"] + "/"}, SERVER),
    ),
    "issuer-with-query": Fault(
        does="has a query in its issuer",
        clauses=("rfc8414:2:issuer-bare", "rfc9207:2:iss-bare"),
        reply=told(lambda document: {**document, "issuer": document["issuer"] + "?a=b"}, SERVER),
    ),
    "empty-members": Fault(
        does="lists what it has not as an empty array",
        clauses=("rfc8414:3.2:no-empty", "rfc9728:3.2:no-empty"),
        reply=told(with_members(ui_locales_supported=[]), SERVER, RESOURCE),
    ),
    "metadata-as-text": Fault(
        does="answers its metadata as plain text",
        clauses=("rfc8414:3.2:status-and-type", "rfc9728:3.2:status-and-type"),
        reply=field("content-type", "text/plain", SERVER, RESOURCE),
    ),
    "pkce-unannounced": Fault(
        does="does not say that it has PKCE",
        clauses=(
            "rfc8414:2:code-challenge-methods",
            "rfc9700:2.1.1:pkce-detectable",
            "mcp-authorization:pkce:advertised",
        ),
        reply=told(without_members("code_challenge_methods_supported"), SERVER),
    ),
    "implicit-by-default": Fault(
        does="leaves its grants out, so that the implicit one is meant",
        clauses=("rfc8414:2:grant-types", "rfc9700:2.1.2:no-implicit"),
        reply=told(without_members("grant_types_supported"), SERVER),
    ),
    "basic-by-default": Fault(
        does="leaves out how clients prove themselves, so that Basic alone is meant",
        clauses=("rfc8414:2:token-auth-methods", "rfc8414:2:revocation-auth-methods"),
        reply=told(
            without_members("token_endpoint_auth_methods_supported", "revocation_endpoint_auth_methods_supported"),
            SERVER,
        ),
    ),
    "fragments-by-default": Fault(
        does="leaves its response modes out, so that fragments are meant too",
        clauses=("rfc8414:2:response-modes",),
        reply=told(without_members("response_modes_supported"), SERVER),
    ),
    "assertions-without-algorithms": Fault(
        does="takes client assertions and does not say which",
        clauses=("rfc8414:2:token-auth-algs",),
        reply=told(with_members(token_endpoint_auth_methods_supported=["private_key_jwt"]), SERVER),
    ),
    "private-keys": Fault(
        does="publishes a private key",
        clauses=("rfc8414:2:jwks-uri",),
        reply=told(lambda document: {"keys": [{**each, "d": "AA"} for each in document["keys"]]}, "/jwks"),
    ),
    "foreign-keys": Fault(
        does="publishes other keys than it signs with",
        clauses=("rfc9068:2.1:signed", "rfc9068:4:metadata"),
        reply=told(lambda document: {"keys": [{**each, "kid": "other"} for each in document["keys"]]}, "/jwks"),
    ),
    "iss-unannounced": Fault(
        does="does not say that it sends iss",
        clauses=("rfc9207:2.3:supported", "mcp-authorization:response:iss-advertised"),
        reply=told(without_members("authorization_response_iss_parameter_supported"), SERVER),
    ),
    "resource-elsewhere": Fault(
        does="describes another resource than was asked for",
        clauses=("rfc9728:3.3:resource-as-called", "rfc9728:2:resource"),
        reply=told(lambda document: {**document, "resource": document["resource"] + "/"}, RESOURCE),
    ),
    "resource-everywhere": Fault(
        does="describes its one resource at every well-known path",
        clauses=("rfc9728:3.3:resource-identical",),
        request=everywhere,
    ),
    "no-authorization-server": Fault(
        does="names no authorization server",
        clauses=("rfc9728:2:authorization-servers", "mcp-authorization:discovery:authorization-servers"),
        reply=told(with_members(authorization_servers=[]), RESOURCE),
    ),
    "omnibus-scope": Fault(
        does="has a scope for everything",
        clauses=("mcp-authorization:scopes:no-omnibus",),
        reply=told(with_members(scopes_supported=["*"]), RESOURCE),
    ),
    "nameless-resource": Fault(
        does="has no name for people",
        clauses=("rfc9728:2:resource-name",),
        reply=told(without_members("resource_name"), RESOURCE),
    ),
    # Challenges
    "mute-401": Fault(
        does="answers 401 without a challenge",
        clauses=(
            "rfc6750:3:www-authenticate",
            "rfc6750:3:www-authenticate-bad-token",
            "oauth-2.1:5.3.1:www-authenticate",
            "mcp-authorization:discovery:one-way-at-least",
        ),
        reply=field("www-authenticate", None, MCP),
    ),
    "challenge-without-metadata": Fault(
        does="does not say where its metadata is",
        clauses=("rfc9728:5.1:parameter",),
        reply=challenged(lambda value: value.replace("resource_metadata=", "x=")),
    ),
    "challenge-without-scope": Fault(
        does="names no scope in its challenge",
        clauses=("mcp-authorization:scopes:in-challenge", "rfc6750:3:scope"),
        reply=challenged(lambda value: value.replace("scope=", "x=")),
    ),
    "always-an-error": Fault(
        does="calls a missing token an invalid one",
        clauses=("rfc6750:3.1:no-error-without-token", "oauth-2.1:5.3.2:no-error"),
        reply=challenged(lambda value: value if "error=" in value else f'{value}, error="invalid_token"'),
    ),
    "doubled-parameter": Fault(
        does="names the scope twice in a challenge",
        clauses=("rfc6750:3:scope-once", "oauth-2.1:5.3.1:once"),
        reply=challenged(lambda value: f'{value}, scope="x"'),
    ),
    "wordless-refusal": Fault(
        does="does not say what is wrong with a token",
        clauses=("rfc6750:3:error", "rfc6750:3.1:invalid-token", "oauth-2.1:5.3.1:error", "rfc9068:4:errors"),
        reply=challenged(lambda value: value.replace("error=", "x=")),
    ),
    "bad-token-400": Fault(
        does="answers a bad token with 400",
        clauses=("rfc6750:3.1:invalid-token", "mcp-authorization:tokens:invalid-401"),
        reply=status(401, 400, MCP),
    ),
    "insufficient-401": Fault(
        does="answers a missing scope with 401",
        clauses=("rfc6750:3.1:insufficient-scope", "mcp-authorization:scopes:insufficient"),
        reply=status(403, 401, MCP),
    ),
    "scope-by-scope": Fault(
        does="names one of the scopes that are missing",
        clauses=("mcp-authorization:scopes:all-at-once", "mcp-authorization:scopes:insufficient-names"),
        reply=challenged(lambda value: value.replace("admin tools:call", "admin")),
    ),
    # Access tokens
    "token-in-query": Fault(
        does="takes an access token out of the query",
        clauses=("oauth-2.1:5.1:query-ignored", "mcp-authorization:tokens:not-in-query"),
        request=token_in_query,
    ),
    "token-in-cookie": Fault(
        does="takes an access token out of a cookie",
        clauses=("rfc6750:5.2:no-cookies", "oauth-2.1:7.1.1:no-cookies"),
        request=token_in_cookie,
    ),
    "one-of-several-tokens": Fault(
        does="takes the first of several tokens",
        clauses=("rfc6750:3.1:invalid-request", "rfc6750:3.1:one-method", "oauth-2.1:5.3.2:invalid-request"),
        request=one_token,
    ),
    "signatures-ignored": Fault(
        does="takes a token for what it says it is, whoever signed it",
        clauses=(
            "rfc9068:4:signature",
            "rfc9068:4:none",
            "rfc9068:4:keys",
            "rfc6750:5.2:integrity",
            "oauth-2.1:1.4:no-forgery",
        ),
        **remembering(signatures_ignored),
    ),
    "plain-jwt": Fault(
        does="gives tokens of no particular type",
        clauses=("rfc9068:2.1:typ", "rfc9068:2.1:typ-short"),
        reply=told(retyped, TOKEN),
    ),
    "eternal-tokens": Fault(
        does="gives tokens for ever",
        clauses=("rfc6750:5.3:short-lived", "mcp-authorization:security:short-lived", "oauth-2.1:7.1.3:short-lived"),
        reply=told(with_members(expires_in=10**9), TOKEN),
    ),
    "sessions-for-tokens": Fault(
        does="takes who has a session for who opened it",
        clauses=("mcp-security:handles:no-authentication", "mcp-security:handles:bound"),
        **remembering(sessions_open),
    ),
    "believes-proxies": Fault(
        does="believes whoever says to be a proxy",
        clauses=("rfc9700:4.13:headers-not-trusted",),
        reply=forwarded,
    ),
    # The authorization endpoint
    "any-redirect-uri": Fault(
        does="never looks at the redirect URI",
        clauses=(
            "rfc6749:3.1.2.3:simple-comparison",
            "oauth-2.1:2.3.1:exact",
            "rfc9700:4.1.3:equal",
            "mcp-authorization:redirection:exact",
            "mcp-security:consent:redirect-exact",
        ),
        request=asked(having(redirect_uri=CALLBACK), AUTHORIZE),
    ),
    "open-redirector": Fault(
        does="carries people to wherever a faulty link says",
        clauses=(
            "rfc6749:4.1.2.1:no-redirect",
            "oauth-2.1:2.3.5:no-redirect",
            "rfc9700:4.11.2:no-redirect",
            "rfc6749:10.15:no-open-redirector",
            "mcp-authorization:redirection:untrusted",
        ),
        reply=open_redirector,
    ),
    "one-port": Fault(
        does="holds loopback URIs to one port",
        clauses=("oauth-2.1:8.4.2:any-port", "rfc9700:4.1.3:localhost-port"),
        reply=refusing(
            lambda request: is_at(AUTHORIZE)(request) and ":8765" in (parameter(request, "redirect_uri") or "")
        ),
    ),
    "code-for-nothing": Fault(
        does="gives a code to whoever asks",
        clauses=("rfc6749:3.1:authenticated-first", "rfc6749:10.12:no-silent", "rfc9700:4.11.2:authenticated-first"),
        reply=code_for_nothing,
    ),
    "stateless-answers": Fault(
        does="forgets the state",
        clauses=("rfc6749:4.1.2:state", "rfc6749:4.1.2.1:state", "oauth-2.1:4.1.2:state", "oauth-2.1:4.1.2.1:state"),
        reply=led(lacking("state")),
    ),
    "anonymous-answers": Fault(
        does="does not say who answers",
        clauses=(
            "rfc9207:2:iss-in-response",
            "rfc9207:2:iss-in-error",
            "mcp-authorization:response:iss",
            "mcp-security:mix-up:iss",
        ),
        reply=led(lacking("iss")),
    ),
    "another-issuer": Fault(
        does="answers in another's name",
        clauses=("rfc9207:2.3:iss-is-issuer",),
        reply=led(having(iss="https://elsewhere.example")),
    ),
    "doubled-answers": Fault(
        does="answers one parameter twice",
        clauses=("oauth-2.1:3.1:response-no-repetition", "rfc6749:4.1.2.1:error"),
        reply=led(lambda pairs: [*pairs, pairs[0]]),
    ),
    "any-response-type": Fault(
        does="takes every response type for code",
        clauses=(
            "rfc6749:3.1.1:response-type-missing",
            "rfc6749:3.1.1:response-type-unknown",
            "rfc6749:4.2:implicit-refused",
        ),
        request=asked(having(response_type="code"), AUTHORIZE),
    ),
    "plain-taken": Fault(
        does="takes every method of PKCE",
        clauses=("rfc7636:4.4.1:transform", "rfc7636:7.2:plain-not-used", "oauth-2.1:4.1.2.1:transform"),
        request=asked(never_plain, AUTHORIZE),
    ),
    "pkce-optional": Fault(
        does="does not ask for a challenge",
        clauses=("rfc7636:4.4.1:required", "oauth-2.1:4.1.2.1:challenge-required", "mcp-authorization:pkce:required"),
        request=asked(challenge_made_up, AUTHORIZE),
    ),
    "pkce-ignored": Fault(
        does="takes every verifier for the right one",
        clauses=(
            "rfc7636:4.6:not-equal",
            "rfc7636:4.6:missing",
            "rfc7636:4.4:associated",
            "oauth-2.1:4.1.3:verifier-verified",
            "rfc9700:2.1.1:verifier-enforced",
            "rfc9700:4.5.3:code-injection",
        ),
        request=pkce_ignored,
    ),
    "any-resource": Fault(
        does="never looks at the resource",
        clauses=("rfc8707:2:invalid-target", "rfc8707:2.2:invalid-target", "mcp-authorization:tokens:only-own"),
        request=asked(lacking("resource"), AUTHORIZE, TOKEN),
    ),
    "unknown-refused": Fault(
        does="refuses parameters that it does not know",
        clauses=("rfc6749:3.1:unknown-ignored", "rfc6749:3.2:unknown-ignored"),
        reply=refusing(lambda request: parameter(request, "nobody_knows") is not None),
    ),
    "first-of-each": Fault(
        does="takes the first of parameters that come twice",
        clauses=("rfc6749:3.1:no-repetition", "rfc6749:3.2:no-repetition", "rfc7009:2.1:token-missing"),
        request=asked(first_of_each, AUTHORIZE, TOKEN, REVOKE),
    ),
    "cors": Fault(
        does="lets pages of every origin read the authorization endpoint",
        clauses=("oauth-2.1:3.1:no-cors", "rfc9700:2.6:no-cors"),
        reply=field("access-control-allow-origin", "*", AUTHORIZE),
    ),
    # Pages
    "framed": Fault(
        does="lets its pages be framed",
        clauses=("rfc9700:4.16:no-frames", "oauth-2.1:7.10:no-frames", "mcp-security:consent:no-frames"),
        reply=both(field("content-security-policy", "frame-ancestors *", ""), field("x-frame-options", None, "")),
    ),
    "no-policy": Fault(
        does="has no Content Security Policy",
        clauses=("rfc9700:4.16:csp", "oauth-2.1:7.10:csp"),
        reply=field("content-security-policy", None, ""),
    ),
    "referrer": Fault(
        does="lets the address of its pages out",
        clauses=("rfc9700:4.2.4:referrer",),
        reply=field("referrer-policy", "unsafe-url", ""),
    ),
    "foreign-picture": Fault(
        does="loads a picture of somebody else into its pages",
        clauses=("rfc9700:4.2.4:no-third-party", "rfc7591:5:urls-safe"),
        reply=paged(lambda text: text + '<img src="https://evil.example/logo">'),
    ),
    "readable-cookies": Fault(
        does="lets scripts read its cookies",
        clauses=("mcp-security:consent:cookie-http-only",),
        reply=lambda _request, reply: replace(
            reply, headers=[(name, value.replace("; HttpOnly", "")) for name, value in reply.headers]
        ),
    ),
    "password-by-307": Fault(
        does="sends the form with the password on by 307",
        clauses=("rfc9700:4.12:no-307", "rfc9700:4.12:303", "oauth-2.1:7.5.4:no-307"),
        reply=status(303, 307, "/login"),
    ),
    "hostless-consent": Fault(
        does="does not show where the answer goes",
        clauses=(
            "mcp-authorization:consent:redirect-host",
            "mcp-security:consent:redirect-uri-shown",
            "rfc7591:5:self-asserted",
        ),
        reply=paged(lambda text: text.replace("client.example", "").replace("evil.example", "")),
    ),
    "nameless-consent": Fault(
        does="does not show which client asks",
        clauses=("mcp-security:consent:client-named", "rfc6749:10.2:owner-informed"),
        reply=paged(lambda text: text.replace("A client", "Something")),
    ),
    "scopeless-consent": Fault(
        does="does not show which scopes are asked for",
        clauses=("mcp-security:consent:scopes-shown",),
        reply=paged(lambda text: text.replace(">tools:call<", "><").replace("tools:call</", "</")),
    ),
    "unescaped": Fault(
        does="repeats on pages what was sent, as it came",
        clauses=("rfc6749:10.14:sanitized", "oauth-2.1:7.11:sanitized"),
        reply=shown,
    ),
    "any-browser": Fault(
        does="takes a consent from whatever browser and page it comes",
        clauses=("rfc6749:10.12:csrf-authorization", "mcp-security:consent:csrf"),
        **remembering(any_browser),
    ),
    "no-means-yes": Fault(
        does="takes a refusal for consent",
        clauses=("rfc6749:4.1.2.1:access-denied", "oauth-2.1:4.1.2.1:access-denied"),
        request=asked(lambda pairs: [(k, "allow" if k == "decision" else v) for k, v in pairs], "/consent"),
    ),
    # Codes
    "codes-again": Fault(
        does="answers the second use of a code as the first",
        clauses=("rfc6749:4.1.2:second-denied", "oauth-2.1:4.1.3:once", "rfc9700:4.2.4:code-once"),
        **remembering(codes_again),
    ),
    "reuse-forgiven": Fault(
        does="takes nothing away when a code is used twice",
        clauses=("rfc6749:4.1.2:second-revokes", "oauth-2.1:4.1.3:second-revokes", "rfc9700:4.2.4:code-reuse-revokes"),
        **remembering(reuse_forgiven),
    ),
    "any-replay-revokes": Fault(
        does="takes tokens away whoever sends a code a second time",
        clauses=("oauth-2.1:7.5.3:invalid-replay",),
        **remembering(any_replay_revokes),
    ),
    "codes-of-anybody": Fault(
        does="lets every client redeem a code",
        clauses=("rfc6749:4.1.3:same-client", "oauth-2.1:4.1.3:same-client"),
        **remembering(owned("code")),
    ),
    "redirect-uri-forgotten": Fault(
        does="does not compare the redirect URI at the token endpoint",
        clauses=("rfc6749:4.1.3:redirect-uri-identical", "oauth-2.1:10.2:redirect-uri-enforced"),
        request=asked(lacking("redirect_uri"), TOKEN),
    ),
    # The token endpoint
    "stored-tokens": Fault(
        does="lets tokens be stored on the way",
        clauses=("rfc6749:5.1:no-store", "oauth-2.1:3.2.3:no-store"),
        reply=field("cache-control", "max-age=60", TOKEN),
    ),
    "no-pragma": Fault(
        does="forgets caches of old",
        clauses=("rfc6749:5.1:pragma",),
        reply=field("pragma", None, TOKEN),
    ),
    "silent-scope": Fault(
        does="does not say which scopes it gave",
        clauses=("rfc6749:5.1:scope", "oauth-2.1:3.2.3:scope", "rfc6749:3.3:told"),
        reply=told(without_members("scope"), TOKEN),
    ),
    "errors-200": Fault(
        does="answers errors with status 200",
        clauses=("rfc6749:5.2:status-400", "oauth-2.1:3.2.4:status-400", "rfc7009:2.2.1:errors"),
        reply=status(400, 200, TOKEN, REVOKE),
    ),
    "quoted-errors": Fault(
        does="puts a quote into the description of an error",
        clauses=("rfc6749:5.2:error-characters", "oauth-2.1:3.2.4:description-characters"),
        reply=told(quoted, TOKEN, statuses=(400, 401)),
    ),
    "one-error": Fault(
        does="has one error for everything",
        clauses=(
            "rfc6749:5.2:invalid-grant",
            "rfc6749:5.2:unsupported-grant-type",
            "rfc6749:5.2:invalid-client",
            "rfc6749:5.2:invalid-scope",
        ),
        reply=told(with_members(error="invalid_request"), TOKEN, statuses=(400, 401)),
    ),
    "unchallenged-client": Fault(
        does="answers a failed proof in the header without a challenge",
        clauses=("rfc6749:5.2:invalid-client-401", "oauth-2.1:3.2.4:invalid-client-401"),
        reply=field("www-authenticate", None, TOKEN),
    ),
    "tokens-by-get": Fault(
        does="takes a GET for a POST",
        clauses=("rfc6749:3.2:post-only", "oauth-2.1:3.2:post-only", "rfc7009:2:post"),
        request=token_by_get,
    ),
    "query-as-form": Fault(
        does="takes parameters and secrets out of the URL",
        clauses=("rfc6749:2.3.1:not-in-uri", "oauth-2.1:2.4.1:not-in-uri"),
        request=query_in_form,
    ),
    # Refresh tokens
    "refresh-tokens-stay": Fault(
        does="gives the same refresh token again and again",
        clauses=("rfc9700:2.2.2:rotation", "oauth-2.1:4.3:rotation-for-public", "mcp-authorization:refresh:rotated"),
        reply=lambda request, reply: (
            told(with_members(refresh_token=parameter(request, "refresh_token")), TOKEN)(request, reply)
            if parameter(request, "refresh_token")
            else reply
        ),
    ),
    "refresh-of-anybody": Fault(
        does="lets every client use a refresh token",
        clauses=("rfc6749:6:bound", "oauth-2.1:4.3:binding-verified"),
        **remembering(owned("refresh_token")),
    ),
    "wide-refresh": Fault(
        does="never looks at the scope of a refresh",
        clauses=("rfc6749:6:scope-not-wider", "oauth-2.1:4.3.1:scope-not-wider", "rfc9700:4.14.2:bound"),
        request=asked(lacking("scope"), TOKEN),
    ),
    "refresh-for-all": Fault(
        does="gives every client a refresh token",
        clauses=("rfc9700:4.14.2:risk", "rfc6749:4.4.3:no-refresh-token"),
        reply=told(lambda document: {"refresh_token": "r", **document}, TOKEN),
    ),
    # Registration
    "any-registration": Fault(
        does="registers what is not safe",
        clauses=(
            "rfc7591:3.2.2:invalid-redirect-uri",
            "rfc7591:5:redirects-safe",
            "mcp-authorization:communication:redirects-safe",
        ),
        request=registering(with_members(redirect_uris=[CALLBACK])),
    ),
    "metadata-untold": Fault(
        does="does not say what it registered",
        clauses=("rfc7591:3.2.1:all-metadata", "rfc7591:2:grant-types-default"),
        reply=told(without_members("grant_types", "response_types"), REGISTER),
    ),
    "registered-200": Fault(
        does="answers a registration with status 200",
        clauses=("rfc7591:3.2.1:201",),
        reply=status(201, 200, REGISTER),
    ),
    "one-id": Fault(
        does="gives every client one id",
        clauses=("rfc7591:3.2.1:client-id-unique", "rfc6749:2.2:id-unique"),
        reply=told(with_members(client_id="everybody"), REGISTER),
    ),
    "secret-for-public": Fault(
        does="gives public clients a secret",
        clauses=("rfc7591:3.2.1:no-secret-for-public", "rfc6749:10.1:no-secret-for-native"),
        reply=told(with_members(client_secret="s" * 43, client_secret_expires_at=0), REGISTER),
    ),
    "one-secret": Fault(
        does="gives all clients one secret",
        clauses=("rfc7591:3.2.1:secret-unique", "rfc7591:5:secret-shared"),
        reply=told(lambda said: {**said, "client_secret": "s" * 43} if "client_secret" in said else said, REGISTER),
    ),
    "short-secret": Fault(
        does="gives secrets that can be guessed",
        clauses=("rfc6749:2.3.1:brute-force", "oauth-2.1:2.4.1:brute-force"),
        reply=told(
            lambda said: {**said, "client_secret": said["client_secret"][:6]} if "client_secret" in said else said,
            REGISTER,
        ),
    ),
    "secret-for-ever": Fault(
        does="does not say when a secret ends",
        clauses=("rfc7591:3.2.1:secret-expires-at",),
        reply=told(without_members("client_secret_expires_at"), REGISTER),
    ),
    "echoes-registrations": Fault(
        does="registers whatever is sent",
        clauses=("rfc7591:2:unknown-ignored",),
        reply=echoed,
    ),
    "registration-stored": Fault(
        does="lets the answer to a registration be stored",
        clauses=("rfc7591:3.2.1:no-store",),
        reply=field("cache-control", None, REGISTER),
    ),
    # Clients
    "secrets-unchecked": Fault(
        does="takes everybody for the client that they name",
        clauses=(
            "rfc6749:2.2:id-no-proof",
            "rfc6749:3.2.1:authenticated",
            "rfc6749:6:authenticated",
            "oauth-2.1:3.2.1:confidential-authenticate",
            "oauth-2.1:4.3.1:confidential-authenticate",
            "rfc7009:2.1:client-authenticated",
        ),
        **remembering(secrets_known),
    ),
    "service-for-all": Fault(
        does="lets every client act for itself",
        clauses=("rfc6749:4.4.2:authenticated", "oauth-2.1:4.2.1:authenticated"),
        **remembering(service_for_all),
    ),
    # Revocation
    "nothing-revoked": Fault(
        does="says that it revoked, and did not",
        clauses=(
            "rfc7009:2:refresh-tokens",
            "rfc7009:2:access-tokens",
            "rfc7009:2.1:at-once",
            "rfc6750:3.1:revoked-token",
        ),
        request=unseen,
    ),
    "revoked-for-anybody": Fault(
        does="lets every client revoke a token",
        clauses=("rfc7009:2.1:issued-to-client",),
        **remembering(owned("token")),
    ),
    "unknown-400": Fault(
        does="tells unknown tokens from known ones",
        clauses=("rfc7009:2.2:200-unknown",),
        reply=refusing(
            lambda request: is_at(REVOKE)(request) and len(parameter(request, "token") or "") in range(1, 20)
        ),
    ),
    "hints-obeyed": Fault(
        does="looks for a token only where the hint says",
        clauses=("rfc7009:2.1:hint-wrong",),
        request=asked(hint_obeyed, REVOKE, INTROSPECT),
    ),
    # Introspection
    "all-active": Fault(
        does="calls every token active",
        clauses=("rfc7662:2.2:inactive", "rfc7662:4:revoked", "rfc7662:4:signature"),
        reply=told(with_members(active=True), INTROSPECT),
    ),
    "talkative": Fault(
        does="says why a token is not active",
        clauses=("rfc7662:2.2:inactive-bare",),
        reply=told(lambda said: said if said["active"] else {**said, "reason": "revoked"}, INTROSPECT),
    ),
    "inactive-400": Fault(
        does="calls a question about a dead token an error",
        clauses=("rfc7662:2.3:not-an-error",),
        reply=lambda request, reply: (
            replace(reply, status=400) if b'"active": false' in reply.body and is_at(INTROSPECT)(request) else reply
        ),
    ),
    "open-introspection": Fault(
        does="tells everybody about every token",
        clauses=("rfc7662:2.1:authorized", "rfc7662:4:caller-authenticated", "rfc7662:4:caller-authorized"),
        reply=lambda request, reply: (
            Reply(200, [("content-type", JSON)], b'{"active": true}') if is_at(INTROSPECT)(request) else reply
        ),
    ),
    "foreign-subject": Fault(
        does="names another subject and another audience than the token",
        clauses=("rfc7662:2.2:sub", "rfc7662:2.2:aud"),
        reply=told(with_members(sub="somebody", aud="https://elsewhere.example"), INTROSPECT),
    ),
    "introspection-by-get": Fault(
        does="answers questions by GET",
        clauses=("rfc7662:4:no-get",),
        request=token_by_get,
    ),
    # Client documents
    "fetches-anything": Fault(
        does="asks whatever address a client id names",
        clauses=("mcp-authorization:registration:client-id-ssrf", "mcp-security:ssrf:authorization-server"),
        request=fetched_blindly,
    ),
}
