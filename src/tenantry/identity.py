"""Who is calling: the value that passes between the protocol, the policy and the audit log."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """What one verified access token says of its bearer.

    A principal is passed down with its request; nobody looks it up again.
    """

    tenant: str
    subject: str
    client_id: str
    scopes: frozenset[str]
    token_id: str
    family_id: str
    expires_at: int
    """Seconds since the epoch, the access token's `exp`."""
    binding: tuple[str, str, str] = field(init=False, compare=False, repr=False)
    """What an MCP session belongs to: tenant, subject and client. It outlives one access token, so not its bytes."""

    def __post_init__(self) -> None:
        # Made with the principal, because one serves every request that bears its access token.
        object.__setattr__(self, "binding", (self.tenant, self.subject, self.client_id))


def parse_scope(text: str) -> tuple[str, ...]:
    """Split a scope string at spaces, keep the order, drop doubles (RFC 6749 section 3.3)."""
    return tuple(dict.fromkeys(text.split(" "))) if text.strip() else ()


def format_scope(scopes: frozenset[str] | tuple[str, ...]) -> str:
    """Join scopes for the wire; a set comes out sorted so that equal grants read equal."""
    return " ".join(sorted(scopes) if isinstance(scopes, frozenset) else scopes)
