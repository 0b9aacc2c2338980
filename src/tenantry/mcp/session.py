"""The MCP session of a legacy client: its states, what moves it, and what it belongs to.

MCP 2025-11-25, lifecycle and transports, session management. A session never authenticates anybody: each request
does that by its access token, and the session must then be one of the same tenant, subject and client.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tenantry.identity import Principal


class State(Enum):
    """Where a session stands."""

    INITIALIZING = "initializing"
    OPEN = "open"
    ENDED = "ended"


class Event(Enum):
    """What happens to a session."""

    INITIALIZED = "initialized"
    """The client sent `notifications/initialized`."""
    DELETE = "delete"
    EXPIRE = "expire"


# A request moves nothing, and is served before `notifications/initialized` too: clients send both side by side, and
# the texts bind the client here, not the server.
TRANSITIONS: dict[State, dict[Event, State]] = {
    State.INITIALIZING: {
        Event.INITIALIZED: State.OPEN,
        Event.DELETE: State.ENDED,
        Event.EXPIRE: State.ENDED,
    },
    State.OPEN: {
        Event.INITIALIZED: State.OPEN,
        Event.DELETE: State.ENDED,
        Event.EXPIRE: State.ENDED,
    },
    State.ENDED: {},
}


@dataclass(slots=True, kw_only=True)
class Session:
    """One session as it lives in memory; the store keeps the same fields."""

    digest: bytes
    """SHA-256 of the session id: the id itself is kept nowhere."""
    binding: tuple[str, str, str]
    revision: str
    state: State
    last_seen: int
    """Seconds since the epoch."""
    family: str
    """The refresh family of the last access token that used it: with that family it ends."""
    capabilities: dict[str, Any] = field(default_factory=dict)
    """What the client declared in its handshake."""
    log_level: str | None = None
    subscriptions: set[str] = field(default_factory=set)
    """The URIs of the resources that it wants to hear of."""
    name: str = field(init=False)
    """What the audit log calls it: no secret."""

    def __post_init__(self) -> None:
        self.name = self.digest[:8].hex()

    def belongs_to(self, principal: Principal) -> bool:
        """Whether `principal` is the tenant, subject and client that opened it."""
        return self.binding == principal.binding

    def idle(self, now: float, *, limit_s: int) -> bool:
        """Whether nothing was heard of it for `limit_s` seconds."""
        return now - self.last_seen > limit_s
