"""What a principal may do: one decision, asked by every list and by every use alike."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from tenantry.identity import Principal


class Feature(NamedTuple):
    """Something that a server offers."""

    kind: str
    """`tool`, `resource` or `prompt`."""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The boundary of isolation and what is inside it."""

    features: frozenset[Feature]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person: the tenant they belong to and the most that can be granted to them."""

    tenant: str
    scopes: frozenset[str]
    password_hash: str = field(default="", repr=False)
    """Empty for who can't log in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Who exists and which scopes each feature needs; configured or added by command."""

    needed: Mapping[Feature, frozenset[str]]
    tenants: Mapping[str, Tenant]
    users: Mapping[str, User]

    def with_users(self, users: Mapping[str, User]) -> "Directory":
        """The same with more users, who take the place of any of their name."""
        return replace(self, users={**self.users, **users})

    def without(self, names: Collection[str]) -> "Directory":
        """The same without the users of these names."""
        return replace(self, users={name: user for name, user in self.users.items() if name not in names})

    def scopes_of(self, tenant: str) -> frozenset[str]:
        """Every scope that something in this tenant needs."""
        return frozenset(scope for feature in self.tenants[tenant].features for scope in self.needed[feature])

    def knows(self, tenant: str, subject: str) -> bool:
        """Tell whether there is such a person in that tenant."""
        user = self.users.get(subject)
        return user is not None and user.tenant == tenant and tenant in self.tenants

    def grantable(self, tenant: str, subject: str) -> frozenset[str]:
        """The scopes that this person may have at most: none if they are gone or moved to another tenant."""
        return self.users[subject].scopes if self.knows(tenant, subject) else frozenset()


class Reason(Enum):
    """Why a call was denied, as the audit log says it."""

    UNKNOWN = "unknown"
    """There is no such thing anywhere."""
    FOREIGN = "foreign"
    """It exists, but not in this tenant; the client is told the same as for an unknown one."""
    STEP_UP = "insufficient_scope"
    """The access token lacks a scope that this person could be granted."""
    NOT_GRANTABLE = "scope_not_grantable"
    """It needs a scope that this person can't be granted, so asking for it again leads nowhere."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call may go on."""


ALLOWED = Allowed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """The call ends here; a value and not an error, because a denial is recorded like any outcome."""

    reason: Reason
    needed: frozenset[str] = frozenset()
    """Every scope that is needed, so that one challenge can ask for all of them."""

    @property
    def hides(self) -> bool:
        """Whether the principal must not learn that there is such a thing."""
        return self.reason in (Reason.UNKNOWN, Reason.FOREIGN)


Decision = Allowed | Denied


def decide(principal: Principal, feature: Feature, directory: Directory) -> Decision:
    """Say whether `principal` may use `feature`: the tenant first, then the token's scopes, then the person's.

    A scope that the configuration took from the person counts no longer, whatever the access token says.
    """
    needed = directory.needed.get(feature)
    if needed is None:
        return Denied(reason=Reason.UNKNOWN)
    tenant = directory.tenants.get(principal.tenant)
    if tenant is None or feature not in tenant.features:
        return Denied(reason=Reason.FOREIGN)
    grantable = directory.grantable(principal.tenant, principal.subject)
    if not needed <= grantable:
        return Denied(reason=Reason.NOT_GRANTABLE, needed=needed)
    if not needed <= principal.scopes:
        return Denied(reason=Reason.STEP_UP, needed=needed)
    return ALLOWED


def visible(principal: Principal, kind: str, names: Iterable[str], directory: Directory) -> list[str]:
    """Those of the names of one kind that the principal may know of, in the order given."""
    return [name for name in names if not _hidden(decide(principal, Feature(kind, name), directory))]


def _hidden(decision: Decision) -> bool:
    return isinstance(decision, Denied) and decision.hides
