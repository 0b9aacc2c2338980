"""What a principal may do: one decision, asked by the list of tools and by the call alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from tenantry.identity import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The boundary of isolation and the tools inside it."""

    tools: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person: the tenant they belong to and the most that can be granted to them."""

    tenant: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Who exists and which scopes each tool needs; made from the configuration."""

    tool_scopes: Mapping[str, frozenset[str]]
    tenants: Mapping[str, Tenant]
    users: Mapping[str, User]

    def grantable(self, tenant: str, subject: str) -> frozenset[str]:
        """The scopes that this person may have at most: none if they are gone or moved to another tenant."""
        user = self.users.get(subject)
        return user.scopes if user is not None and user.tenant == tenant else frozenset()


class Reason(Enum):
    """Why a call was denied, as the audit log says it."""

    UNKNOWN_TOOL = "unknown_tool"
    """There is no such tool anywhere."""
    FOREIGN_TOOL = "foreign_tool"
    """It exists, but not in this tenant; the client is told the same as for an unknown one."""
    STEP_UP = "insufficient_scope"
    """The access token lacks a scope that this person could be granted."""
    NOT_GRANTABLE = "scope_not_grantable"
    """The tool needs a scope that this person can't be granted, so asking for it again leads nowhere."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The call ends here; a value and not an error, because a denial is recorded like any outcome."""

    reason: Reason
    needed: frozenset[str] = frozenset()
    """Every scope that the tool needs, so that one challenge can ask for all of them."""

    @property
    def hides_tool(self) -> bool:
        """Whether the principal must not learn that the tool exists."""
        return self.reason in (Reason.UNKNOWN_TOOL, Reason.FOREIGN_TOOL)


def decide(principal: Principal, tool: str, directory: Directory) -> Allowed | Denied:
    """Say whether `principal` may call `tool`: the tenant first, then the token's scopes, then the person's.

    A scope that the configuration took from the person counts no longer, whatever the access token says.
    """
    needed = directory.tool_scopes.get(tool)
    if needed is None:
        return Denied(reason=Reason.UNKNOWN_TOOL)
    tenant = directory.tenants.get(principal.tenant)
    if tenant is None or tool not in tenant.tools:
        return Denied(reason=Reason.FOREIGN_TOOL)
    grantable = directory.grantable(principal.tenant, principal.subject)
    if not needed <= grantable:
        return Denied(reason=Reason.NOT_GRANTABLE, needed=needed)
    if not needed <= principal.scopes:
        return Denied(reason=Reason.STEP_UP, needed=needed)
    return Allowed()


def visible(principal: Principal, tools: Iterable[str], directory: Directory) -> list[str]:
    """Those of `tools` that the principal may know of, in the order given."""
    return [tool for tool in tools if not _hidden(decide(principal, tool, directory))]


def _hidden(decision: Allowed | Denied) -> bool:
    return isinstance(decision, Denied) and decision.hides_tool
