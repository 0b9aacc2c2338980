"""What one process tells all others that have the same store open.

An announcement is written in the transaction of the change that it tells of, so that nobody hears of what did not
happen, and nobody sees what they have not heard of.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from tenantry.oauth.access_token import LEEWAY_S, MAX_LIFETIME_S

T = TypeVar("T")

# An announcement of a revocation is needed until the last access token that it concerns has expired.
REMEMBER_S = MAX_LIFETIME_S + LEEWAY_S


class Kind(Enum):
    """What has changed."""

    FAMILY_REVOKED = "family_revoked"
    """`families`"""
    CONSENT_WITHDRAWN = "consent_withdrawn"
    """`tenant`, `subject`, `client`, `families`"""
    SUBJECT_ENDED = "subject_ended"
    """`tenant`, `subject`, `families`: the person is gone, disabled, or has another password."""
    CLIENT_ENDED = "client_ended"
    """`client`, `families`"""
    KEYS_CHANGED = "keys_changed"
    PEOPLE_CHANGED = "people_changed"
    CATALOGUE_CHANGED = "catalogue_changed"


@dataclass(frozen=True, slots=True)
class Announcement:
    """One change; `at` is seconds since the epoch."""

    seq: int
    kind: Kind
    body: Mapping[str, Any]
    at: float


def announce(connection: sqlite3.Connection, kind: Kind, *, now: float, **body: object) -> None:
    """Add an announcement to the transaction that `connection` is in, and drop those that nobody needs any more."""
    connection.execute("DELETE FROM announcement WHERE at < ?", (now - REMEMBER_S,))
    connection.execute(
        "INSERT INTO announcement (kind, body, at) VALUES (?, ?, ?)", (kind.value, json.dumps(body), now)
    )


class Announcements:
    """The reading end, on a connection of its own: only so does SQLite tell whether anything was committed."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, which must be there. Blocking, as all methods: each takes microseconds."""
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)

    def version(self) -> int:
        """A number that differs after every commit, of whichever process."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def after(self, seq: int) -> list[Announcement]:
        """The announcements behind `seq`, in the order of their commits."""
        rows = self._connection.execute(
            "SELECT seq, kind, body, at FROM announcement WHERE seq > ? ORDER BY seq", (seq,)
        )
        return [Announcement(seq, Kind(kind), json.loads(body), at) for seq, kind, body, at in rows]

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a short question on this connection, for whoever has heard of a change."""
        return work(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
