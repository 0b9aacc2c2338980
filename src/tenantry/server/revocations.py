"""Which grants have ended, known at once to every request of every process.

An access token carries its family, so one revocation ends all access tokens of a consent. What is remembered comes
out of the feed, and only for as long as access tokens that it concerns could be alive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantry.identity import Principal
from tenantry.server.feed import Feed
from tenantry.server.store.announcements import REMEMBER_S, Announcement, Kind

ENDINGS = (Kind.FAMILY_REVOKED, Kind.CONSENT_WITHDRAWN, Kind.SUBJECT_ENDED, Kind.CLIENT_ENDED)


class Revocations:
    """Families and clients that have ended, each until its last access token has expired."""

    def __init__(self, feed: Feed) -> None:
        self._families: dict[str, float] = {}
        self._clients: dict[str, float] = {}
        feed.subscribe(self._hear, *ENDINGS)

    def _hear(self, news: Sequence[Announcement]) -> None:
        for announcement in news:
            _remember(self._families, announcement.body["families"], announcement.at)
            if announcement.kind is Kind.CLIENT_ENDED:
                _remember(self._clients, [announcement.body["client"]], announcement.at)

    def is_revoked(self, principal: Principal) -> bool:
        """Tell whether the principal's access token was revoked with its family or its client."""
        return principal.family_id in self._families or principal.client_id in self._clients


def _remember(ended: dict[str, float], names: Iterable[str], at: float) -> None:
    # In the order of insertion the oldest come first, so that forgetting costs what was added.
    while ended and next(iter(ended.values())) < at:
        del ended[next(iter(ended))]
    for name in names:
        ended.setdefault(name, at + REMEMBER_S)


@dataclass(frozen=True, slots=True)
class Ended:
    """What some announcements ended, for those who hold things that must end with it."""

    families: frozenset[str]
    clients: frozenset[str] = frozenset()
    subjects: frozenset[tuple[str, str]] = frozenset()
    consents: frozenset[tuple[str, str, str]] = frozenset()

    @classmethod
    def of(cls, news: Sequence[Announcement]) -> "Ended":
        """Gather it out of announcements of the kinds in `ENDINGS`."""

        def bodies(kind: Kind) -> list[Mapping[str, Any]]:
            return [announcement.body for announcement in news if announcement.kind is kind]

        return cls(
            families=frozenset(family for announcement in news for family in announcement.body["families"]),
            clients=frozenset(body["client"] for body in bodies(Kind.CLIENT_ENDED)),
            subjects=frozenset((body["tenant"], body["subject"]) for body in bodies(Kind.SUBJECT_ENDED)),
            consents=frozenset(
                (body["tenant"], body["subject"], body["client"]) for body in bodies(Kind.CONSENT_WITHDRAWN)
            ),
        )

    def covers(self, binding: tuple[str, str, str], family_id: str) -> bool:
        """Tell whether what belongs to this tenant, subject and client, under that family, is to end."""
        tenant, subject, client_id = binding
        return (
            family_id in self.families
            or client_id in self.clients
            or (tenant, subject) in self.subjects
            or binding in self.consents
        )
