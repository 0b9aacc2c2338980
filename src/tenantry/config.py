"""The configuration file as values: who the tenants and users are, which tools exist, how the server is reached.

One TOML file that a person can read. `load` takes its text, so that this module reads no file; everything that
contradicts itself is refused here, with the key and the reason, before anything starts.
"""

import re
import tomllib
from enum import Enum
from ipaddress import ip_address
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tenantry.forwarded import Proxies, network
from tenantry.oauth.token import RefreshRules
from tenantry.policy import Directory, Feature, Tenant, User
from tenantry.web import Sites

_BROWSERS_SCHEMES = frozenset(
    {
        *("http", "https", "ws", "wss", "ftp", "file", "data", "blob", "about", "javascript", "vbscript", "mailto"),
        *("tel", "sms", "view-source", "intent", "chrome", "filesystem"),
    }
)


def check_private_scheme(scheme: str) -> str:
    """Give `scheme` back, or raise ValueError where it can't be one program's own."""
    if scheme in _BROWSERS_SCHEMES:
        raise ValueError("a browser knows what this scheme means: it can't be one program's own")
    return scheme


# RFC 6749 section 3.3: %x21 / %x23-5B / %x5D-7E
ScopeName = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,64}$")]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
# MCP 2026-07-28, tools, tool names
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
# SHA-256, hexadecimal
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# RFC 3986 section 3.1, in lower case; what browsers give a meaning of their own is no program's.
PrivateScheme = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*$"), AfterValidator(check_private_scheme)]
# Table of the file -> kind of feature.
_FEATURES = {"tools": "tool", "resources": "resource", "prompts": "prompt"}
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class ConfigError(Exception):
    """A configuration that can't be served; `reasons` holds one `key: reason` each."""

    def __init__(self, source: str, reasons: list[str]) -> None:
        super().__init__("\n".join(f"{source}: {reason}" for reason in reasons))
        self.reasons = reasons


class Mode(Enum):
    """What the MCP endpoint offers at its one URL."""

    SESSIONFUL = "sessionful"
    STATELESS = "stateless"
    DUAL = "dual"

    @property
    def modern(self) -> bool:
        """Whether requests with per-request metadata (2026-07-28) are served."""
        return self is not Mode.SESSIONFUL

    @property
    def sessions(self) -> bool:
        """Whether a legacy client gets an MCP session."""
        return self is not Mode.STATELESS


class RegistrationPolicy(Enum):
    """Who may register a client by RFC 7591."""

    OPEN = "open"
    INITIAL_ACCESS_TOKEN = "initial_access_token"  # noqa: S105
    CLOSED = "closed"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Lifetimes(_Section):
    """How long things are valid, all in seconds."""

    access_token_s: Annotated[int, Field(ge=60, le=3600)] = 600
    authorization_code_s: Annotated[int, Field(ge=10, le=600)] = 60
    refresh_idle_s: Annotated[int, Field(ge=60)] = 14 * 86_400
    refresh_absolute_s: Annotated[int, Field(ge=60)] = 90 * 86_400
    # Many processes of one client refresh the same token at once; less than a minute was seen to log people out.
    refresh_grace_s: Annotated[int, Field(ge=0, le=300)] = 120
    login_session_s: Annotated[int, Field(ge=60)] = 8 * 3600
    mcp_session_idle_s: Annotated[int, Field(ge=1)] = 24 * 3600
    # Long enough for a person to find their password, too short for strangers to fill the store.
    unused_client_s: Annotated[int, Field(ge=60)] = 3600
    idle_client_s: Annotated[int, Field(ge=3600)] = 90 * 86_400

    @property
    def refresh_rules(self) -> RefreshRules:
        """What of it refresh tokens are held to."""
        return RefreshRules(
            idle_s=self.refresh_idle_s, absolute_s=self.refresh_absolute_s, grace_s=self.refresh_grace_s
        )


class Limits(_Section):
    """Bounds on what clients may make the server hold or do."""

    body_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    sessions_per_tenant: Annotated[int, Field(ge=1)] = 1000
    registrations_per_minute: Annotated[int, Field(ge=1)] = 120
    """By one address."""
    registrations_per_minute_in_all: Annotated[int, Field(ge=1)] = 1200
    unused_clients: Annotated[int, Field(ge=1)] = 10_000
    """Registrations that nobody consented to yet; beyond that the network that sent the most loses its oldest."""
    failed_logins: Annotated[int, Field(ge=1)] = 5
    failed_logins_window_s: Annotated[int, Field(ge=1)] = 60
    calls_at_once: Annotated[int, Field(ge=1)] = 256
    """Requests of one tenant that are served at once; further ones wait."""
    calls_waiting: Annotated[int, Field(ge=1)] = 1024
    """Requests of one tenant that wait, for at most `call_wait_s`; further ones are told to come again."""
    call_wait_s: Annotated[float, Field(gt=0)] = 10.0
    streams_per_tenant: Annotated[int, Field(ge=1)] = 2000
    body_bytes_at_once: Annotated[int, Field(ge=1024)] = 64 * 1024 * 1024
    """Of the requests of one tenant that are served or wait, by what they declare."""
    tool_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    audit_queue: Annotated[int, Field(ge=1)] = 4096
    # In a minute, of one person for one tool and one reason; those behind are counted.
    denials_recorded: Annotated[int, Field(ge=1)] = 100
    audit_deadline_s: Annotated[float, Field(gt=0)] = 10.0


class ClientsSection(_Section):
    """How OAuth clients become known to the authorization server."""

    registration: RegistrationPolicy = RegistrationPolicy.OPEN
    initial_access_tokens: tuple[Digest, ...] = ()
    """SHA-256 digests of the tokens that admit to registration."""
    client_id_metadata_documents: bool = False
    """Whether a client's id may be the URL of a document about it, which the server then fetches."""
    private_schemes: tuple[PrivateScheme, ...] = ()
    """Schemes beside https that redirect URIs may have, as in `com.example.app:/callback` (RFC 8252 section 7.1)."""
    introspecting: tuple[str, ...] = ()
    """Ids of clients with a secret, such as a gateway's, that may ask about every access token (RFC 7662)."""
    document_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)

    @field_validator("registration", mode="before")
    @classmethod
    def _policy_by_name(cls, value: object) -> object:
        return by_name(RegistrationPolicy, value)

    @model_validator(mode="after")
    def _tokens_are_asked_for(self) -> Self:
        if bool(self.initial_access_tokens) != (self.registration is RegistrationPolicy.INITIAL_ACCESS_TOKEN):
            raise ValueError('initial_access_tokens go with registration = "initial_access_token", and only with it')
        return self


class FeatureSection(_Section):
    """What a token must hold for one tool, resource or prompt."""

    scopes: tuple[ScopeName, ...]


class TenantSection(_Section):
    """One tenant: the boundary of isolation."""

    title: str = ""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Its share while tenants wait for each other, against the others' weights."""
    calls_per_s: Annotated[float, Field(gt=0)] | None = None
    """The most requests over time; None sets no bound."""
    tools: tuple[ToolName, ...] = ()
    resources: tuple[ToolName, ...] = ()
    prompts: tuple[ToolName, ...] = ()


class UserSection(_Section):
    """One person: where they belong and the most that may be granted to them."""

    tenant: Name
    scopes: tuple[ScopeName, ...]
    password_hash: Annotated[str, Field(pattern=r"^\$argon2id\$")]


class Config(_Section):
    """The whole file."""

    public_url: str = ""
    """Where clients reach the server; empty until `at` says so, for a server on this machine."""
    mode: Mode = Mode.DUAL
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    """Networks of the proxies whose word on where a request comes from is taken."""
    tool_modules: tuple[str, ...] = ()
    # The consent page has a tick for each; together they must fit into one form.
    scopes: Annotated[dict[ScopeName, str], Field(max_length=40)] = {}
    tools: dict[ToolName, FeatureSection] = {}
    resources: dict[ToolName, FeatureSection] = {}
    prompts: dict[ToolName, FeatureSection] = {}
    tenants: dict[Name, TenantSection] = {}
    users: dict[Name, UserSection] = {}
    lifetimes: Lifetimes = Lifetimes()
    limits: Limits = Limits()
    clients: ClientsSection = ClientsSection()

    @field_validator("mode", mode="before")
    @classmethod
    def _mode_by_name(cls, value: object) -> object:
        return by_name(Mode, value)

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, url: str) -> str:
        return check_public_url(url) if url else url

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            network(text)
        return texts

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        problems = [
            *(
                f"{table}.{name}.scopes: {scope!r} is not described under [scopes]"
                for table in _FEATURES
                for name, section in getattr(self, table).items()
                for scope in section.scopes
                if scope not in self.scopes
            ),
            *(
                f"tenants.{tenant}.{table}: there is no [{table}.{name}]"
                for tenant, section in self.tenants.items()
                for table in _FEATURES
                for name in getattr(section, table)
                if name not in getattr(self, table)
            ),
            *(
                f"users.{user}.tenant: there is no [tenants.{section.tenant}]"
                for user, section in self.users.items()
                if section.tenant not in self.tenants
            ),
            *(
                f"users.{user}.scopes: {scope!r} is not described under [scopes]"
                for user, section in self.users.items()
                for scope in section.scopes
                if scope not in self.scopes
            ),
        ]
        if problems:
            raise _Problems(problems)
        return self

    def at(self, public_url: str) -> Self:
        """The same configuration, reached at another URL; raises ValueError as `check_public_url` does."""
        return self.model_copy(update={"public_url": check_public_url(public_url)})

    def behind(self, *networks: str) -> Self:
        """The same configuration behind more trusted proxies; raises ValueError for what is no network."""
        return self.model_copy(update={"trusted_proxies": (*self.trusted_proxies, *self._networks(networks))})

    @property
    def proxies(self) -> Proxies:
        """The proxies that are believed."""
        return Proxies(tuple(map(network, self.trusted_proxies)))

    @property
    def issuer(self) -> str:
        """The authorization server's identifier (RFC 8414 section 2)."""
        return self.public_url

    @property
    def resource(self) -> str:
        """The MCP endpoint's identifier: the only audience of its access tokens (RFC 8707, RFC 9728)."""
        return f"{self.public_url}/mcp"

    @property
    def secure(self) -> bool:
        """Whether browsers reach the server over https."""
        return self.public_url.startswith("https://")

    @property
    def https_for_good(self) -> bool:
        """Whether browsers may be told to use https alone (RFC 6797); that holds for all ports of a name.

        So localhost is never told: other servers of that machine would be out of reach.
        """
        return self.secure and not is_loopback(urlsplit(self.public_url).hostname or "")

    def weight_of(self, tenant: str) -> float:
        """The tenant's share of the turns; that of whoever is not known yet is 1."""
        section = self.tenants.get(tenant)
        return 1.0 if section is None else section.weight

    def sites(self, *, bound_port: int, bound_to_loopback: bool, scheme: str = "http") -> Sites:
        """Say by which Host and Origin the server may be addressed; `scheme` is the listening socket's.

        On loopback every spelling of this machine counts; elsewhere only what the file names.
        """
        urls = [self.public_url, *(f"{scheme}://{host}" for host in self.allowed_hosts)]
        if bound_to_loopback:
            urls += [f"{scheme}://{name}:{bound_port}" for name in _LOOPBACK_NAMES]
        return Sites.of(*urls)

    @property
    def needed_scopes(self) -> tuple[str, ...]:
        """The scopes that some tool, resource or prompt needs, in the order in which they are described."""
        features = [section for table in _FEATURES for section in getattr(self, table).values()]
        return tuple(name for name in self.scopes if any(name in section.scopes for section in features))

    def directory(self) -> Directory:
        """Build what `policy.decide` looks things up in."""
        return Directory(
            needed={
                Feature(kind, name): frozenset(section.scopes)
                for table, kind in _FEATURES.items()
                for name, section in getattr(self, table).items()
            },
            tenants={
                name: Tenant(
                    features=frozenset(
                        Feature(kind, item) for table, kind in _FEATURES.items() for item in getattr(tenant, table)
                    ),
                    title=tenant.title,
                )
                for name, tenant in self.tenants.items()
            },
            users={
                name: User(tenant=user.tenant, scopes=frozenset(user.scopes), password_hash=user.password_hash)
                for name, user in self.users.items()
            },
        )


def by_name(kind: type[Enum], value: object) -> object:
    """Give the member of `kind` that the file names; anything else is given back for the model to refuse."""
    return kind(value) if value in [member.value for member in kind] else value


class _Problems(ValueError):
    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def check_public_url(url: str) -> str:
    """Give `url` back, or raise ValueError where it can't be an issuer (RFC 8414 section 2).

    https, no path, query or fragment; http only for loopback, our documented exception for a machine of one's own.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or url != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("give scheme, host and port only, as in https://mcp.example.com")
    if "@" in parts.netloc or parts.netloc != parts.netloc.lower():
        raise ValueError("give the host in lower case, without a user name")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("http is for localhost only; everywhere else the URL must be https")
    return url


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address literal means this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load(text: str, *, source: str) -> Config:
    """Read a configuration from TOML text; `source` names it in errors.

    Raises `ConfigError` with every contradiction found, each with its key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [f"not valid TOML: {error}"]) from None
    return build(document, source=source)


def build(document: dict[str, object], *, source: str) -> Config:
    """Build a configuration from a parsed document; raises as `load` does."""
    try:
        return Config.model_validate(_tuples(document))
    except ValidationError as error:
        raise ConfigError(source, _reasons(error)) from None


def _tuples(value: object) -> object:
    # TOML has arrays only; the model holds tuples, because a configuration does not change.
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _reasons(error: ValidationError) -> list[str]:
    reasons: list[str] = []
    for problem in error.errors():
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, _Problems):
            reasons += cause.problems
            continue
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        message = re.sub(r"^Value error, ", "", problem["msg"])
        reasons.append(f"{key}: {message}")
    return reasons
