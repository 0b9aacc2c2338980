"""The server under test, as a test sees it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import h11

from conformance.authority import Authority
from conformance.clauses import DUAL, SESSIONFUL, STATELESS
from conformance.client import Endpoint, Legacy, Modern, NotApplicable, Recorder
from conformance.schemas import LEGACY, MODERN
from conformance.serving import PASSWORD, Server

ADVERTISED = {
    "tools": "tools",
    "resources": "resources",
    "prompts": "prompts",
    "completion": "completions",
    "logging": "logging",
}
"""Feature of a clause -> capability that says the server has it."""
WITH_SESSIONS = frozenset({"sessions", "resume"})
TASKS = "io.modelcontextprotocol/tasks"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the matrix: a revision, and the mode of the server that it is spoken to in."""

    revision: str
    mode: str
    fault: str | None = None
    """What of `broken/` stands between, in a run that shows that tests are able to fail."""

    @property
    def id(self) -> str:
        """Its name in the ids of tests."""
        return "-".join(part for part in (self.revision, self.mode, self.fault) if part)

    @property
    def server_mode(self) -> str:
        """The mode in which a server for it is started."""
        return STATELESS if self.mode == STATELESS else DUAL


COLUMNS = (
    *(Column(revision, mode) for revision in LEGACY for mode in (SESSIONFUL, STATELESS)),
    *(Column(revision, mode) for revision in MODERN for mode in (DUAL, STATELESS)),
)


@dataclass(frozen=True)
class Site:
    """One server, in one mode."""

    url: str
    token: str | None = field(repr=False)
    mode: str
    """`dual`: with sessions for legacy clients. `stateless`: without."""
    server: Server | None = field(default=None, repr=False)
    """The process, where the suite started it; None where `broken/` stands between."""
    accounts: Server | None = field(default=None, repr=False)
    """Where users of the demo sign in, if that is known."""
    account: tuple[str, str] | None = field(default=None, repr=False)
    """Name and password of somebody who may sign in, if that is known."""
    service: Callable[[], tuple[str, str]] | None = field(default=None, repr=False)
    """Gives id and secret of a client that acts for itself, if that is known."""
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)
    _probed: dict[str, tuple[str, Mapping[str, Any]] | None] = field(default_factory=dict, repr=False)

    @property
    def issuer(self) -> str:
        """Scheme and authority of the URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @cached_property
    def authority(self) -> Authority:
        """The authorization server, to which the account signs in."""
        return Authority(self.url, self.account, self.service)

    def authority_for(self, user: str) -> Authority:
        """The authorization server, to which another user of the demo signs in."""
        if self.accounts is None:
            raise NotApplicable("the test needs a second user, and the server is not ours")
        return Authority(self.url, (user, PASSWORD))

    def probed(self, revision: str) -> tuple[str, Mapping[str, Any]] | None:
        """What the server says when it is asked for a revision; it is asked once."""
        if revision not in self._probed:
            self._probed[revision] = quietly(probe, self.url, self.token, revision)
        return self._probed[revision]

    def token_of(self, user: str) -> str:
        """Give an access token of another user of the demo, signed in once; only where the suite started the server."""
        if self.accounts is None:
            raise NotApplicable("the test needs a second user, and the server is not ours")
        if user not in self._tokens:
            self._tokens[user] = self.accounts.sign_in(user).access_token
        return self._tokens[user]


@dataclass
class Peer:
    """The server under test in one column; each test has its own."""

    site: Site
    revision: str
    mode: str
    capabilities: Mapping[str, Any] | None = field(repr=False)
    """What the server advertises in this revision; None = it could not be asked, so everything is tried."""
    recorder: Recorder = field(default_factory=Recorder, repr=False)
    _endings: list[tuple[Endpoint, Callable[[], object]]] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        """The MCP endpoint."""
        return self.site.url

    @property
    def token(self) -> str | None:
        """The access token."""
        return self.site.token

    @property
    def issuer(self) -> str:
        """Scheme and authority of the URL."""
        return self.site.issuer

    @property
    def is_modern(self) -> bool:
        """Whether the revision belongs to the era without sessions."""
        return self.revision in MODERN

    @property
    def sessionful(self) -> bool:
        """Whether this column has MCP sessions."""
        return self.mode == SESSIONFUL

    @cached_property
    def features(self) -> frozenset[str]:
        """The features that the server says it has, of those that are advertised at all."""
        return features(self.capabilities or {})

    def has(self, feature: str | None) -> bool:
        """Whether clauses of a feature apply; what is not advertised anywhere always does."""
        if feature in WITH_SESSIONS:
            return self.sessionful
        advertised = {*ADVERTISED, "subscriptions", "tasks"}
        return self.capabilities is None or feature not in advertised or feature in self.features

    # Clients

    def connect(self, *, token: str | None = ..., **more: Any) -> Modern | Legacy:  # type: ignore[assignment]
        """Give a client of this revision that is ready for requests, after the handshake where there is one."""
        if self.is_modern:
            return self.modern(token=token, **more)
        client = self.legacy(token=token, **more)
        answer = client.initialize()
        assert answer.status == 200, f"initialize: {answer}"
        return client

    def modern(self, *, token: str | None = ..., **more: Any) -> Modern:  # type: ignore[assignment]
        """Give a modern client."""
        revision = more.pop("revision", self.revision if self.is_modern else MODERN[-1])
        return Modern(self.url, self._token(token), revision, recorder=self.recorder, **more)

    def legacy(self, *, token: str | None = ..., **more: Any) -> Legacy:  # type: ignore[assignment]
        """Give a legacy client that has not shaken hands yet; its session is ended after the test."""
        revision = more.pop("revision", LEGACY[-1] if self.is_modern else self.revision)
        client = Legacy(self.url, self._token(token), revision, recorder=self.recorder, **more)
        self.afterwards(client, lambda: client.session and client.delete())
        return client

    def endpoint(self, *, token: str | None = ..., **more: Any) -> Endpoint:  # type: ignore[assignment]
        """Give a client that sends no header and no metadata by itself."""
        return Endpoint(self.url, self._token(token), self.revision, recorder=self.recorder, **more)

    def _token(self, token: Any) -> str | None:
        return self.token if token is ... else token

    def afterwards(self, client: Endpoint, end: Callable[[], object]) -> None:
        """Have the client end what it left on the server, once the test is over: a server holds only so much."""
        self._endings.append((client, end))

    def close(self) -> None:
        """End what the test left on the server, whatever the server says to it."""
        for client, end in self._endings:
            client.recorder = Recorder()  # the test is over, and with it what counts against the server
            quietly(end)

    # What a test needs of the server

    def needs(self, *features: str) -> None:
        """Make the test not applicable where the server does not advertise a feature."""
        for feature in features:
            if not self.has(feature):
                raise NotApplicable(f"the server does not advertise {feature}")

    def needs_tool(self, name: str) -> dict[str, Any]:
        """Give the listing of a tool; the test is not applicable where the server lacks it."""
        return self._listed("tools", "tools/list", "tools", "name", name)

    def needs_prompt(self, name: str) -> dict[str, Any]:
        """Give the listing of a prompt; the test is not applicable where the server lacks it."""
        return self._listed("prompts", "prompts/list", "prompts", "name", name)

    def needs_resource(self, uri: str) -> dict[str, Any]:
        """Give the listing of a resource; the test is not applicable where the server lacks it."""
        return self._listed("resources", "resources/list", "resources", "uri", uri)

    def _listed(self, feature: str, method: str, member: str, key: str, wanted: str) -> dict[str, Any]:
        self.needs(feature)
        found = listing(self.connect(), method, member)
        for each in found:
            if each[key] == wanted:
                return each
        raise NotApplicable(f"the server has no {wanted}")


def listing(client: Modern | Legacy, method: str, member: str) -> list[dict[str, Any]]:
    """Give every item of a list, over all its pages."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        result = client.request(method, cursor).result
        items += result[member]
        if "nextCursor" not in result:
            return items
        cursor = {"cursor": result["nextCursor"]}


def features(capabilities: Mapping[str, Any]) -> frozenset[str]:
    """Translate the capabilities of a server to features of clauses."""
    found = {feature for feature, name in ADVERTISED.items() if name in capabilities}
    parts = [part for part in capabilities.values() if isinstance(part, dict)]
    if any(part.get("listChanged") or part.get("subscribe") for part in parts):
        found.add("subscriptions")
    if "tasks" in capabilities or TASKS in capabilities.get("extensions", {}):
        found.add("tasks")
    return frozenset(found)


def probe(url: str, token: str | None, revision: str) -> tuple[str, Mapping[str, Any]] | None:
    """Ask a server for one revision: its mode and capabilities, or None where it does not speak that."""
    if revision in MODERN:
        return _probe_modern(url, token, revision)
    client = Legacy(url, token, revision)
    answer = client.initialize()
    if client.negotiated != revision:
        _refused(answer.status)
        return None
    mode = STATELESS if client.session is None else SESSIONFUL
    if client.session is not None:
        client.delete()
    return mode, client.initialized.get("capabilities", {})


def _probe_modern(url: str, token: str | None, revision: str) -> tuple[str, Mapping[str, Any]] | None:
    answer = Modern(url, token, revision).request("server/discover")
    _refused(answer.status)
    if answer.status != 200 or not answer.messages or "result" not in answer.response:
        return None
    if revision not in answer.result.get("supportedVersions", [revision]):
        return None
    legacy = [found for each in reversed(LEGACY) if (found := quietly(probe, url, token, each))]
    mode = DUAL if legacy and legacy[0][0] == SESSIONFUL else STATELESS
    return mode, answer.result.get("capabilities", {})


def _refused(status: int) -> None:
    if status in {401, 403}:
        raise PermissionError(f"the server answers {status}: give an access token with --token")


def quietly(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Give what `ask` gives, None where the server answers nonsense."""
    try:
        return ask(*arguments)
    except (AssertionError, ValueError, KeyError, TypeError, AttributeError, h11.ProtocolError, ConnectionError):
        return None


def columns_of(url: str, token: str | None, revisions: Iterable[str], mode: str | None) -> list[Column]:
    """Find the columns that a running server offers; raises OSError where nobody listens, PermissionError for 401."""
    Endpoint(url).raw(b"").close()
    found = []
    for revision in revisions:
        probed = quietly(probe, url, token, revision)
        if probed is not None:
            found.append(Column(revision, probed[0]))
    return [column for column in found if mode is None or mode in {column.mode, column.server_mode}]
