"""Which refresh families are revoked, known at once to every request of this process.

An access token carries its family, so one revocation ends all access tokens of a consent. Only families whose
access tokens could still be alive are remembered. Other processes would learn of a revocation from the store's
`revoked_families`; with one process `revoke` is all there is.
"""

from collections.abc import Iterable

from tenantry.identity import Principal
from tenantry.oauth.access_token import LEEWAY_S, MAX_LIFETIME_S
from tenantry.server.store import Store

REMEMBER_S = MAX_LIFETIME_S + LEEWAY_S


class Revocations:
    """Revoked families, each until its last access token has expired; all times in seconds since the epoch."""

    def __init__(self, revoked: Iterable[tuple[str, float]] = ()) -> None:
        """Start from pairs of a family and the time of its revocation, oldest first."""
        self._until = {family: at + REMEMBER_S for family, at in revoked}

    @classmethod
    def load(cls, store: Store, *, now: float) -> "Revocations":
        """Take those that still matter out of the store. Blocking: for start-up."""
        return cls(store.grants.revoked_families(since=now - REMEMBER_S))

    def revoke(self, family_id: str, *, now: float) -> None:
        """Refuse the family's access tokens from this moment on."""
        # In the order of insertion the oldest come first, so that forgetting costs what was added.
        while self._until and next(iter(self._until.values())) < now:
            del self._until[next(iter(self._until))]
        self._until.setdefault(family_id, now + REMEMBER_S)

    def is_revoked(self, principal: Principal) -> bool:
        """Tell whether the principal's access token was revoked with its family."""
        return principal.family_id in self._until
