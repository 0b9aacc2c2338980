"""What ends a call from outside: its grant is gone, its client wants it no more, or has left."""

from enum import Enum

import trio


class Cause(Enum):
    """Why a call did not come to its end."""

    GRANT_ENDED = "grant_ended"
    CANCELLED = "cancelled"
    """Its client, or whoever holds the task, said so."""
    LEFT = "left"
    """The connection is gone, and the call with it (2026-07-28, cancellation)."""


class Cut:
    """The one scope that a call's function runs in, for all who may end it; the first of them says why."""

    __slots__ = ("cause", "scope")

    def __init__(self) -> None:
        self.scope: trio.CancelScope | None = None
        self.cause: Cause | None = None

    def open(self, deadline: float) -> trio.CancelScope:
        """Make the scope, to be entered at once; `deadline` is on trio's clock."""
        self.scope = trio.CancelScope(deadline=deadline)
        if self.cause is not None:
            self.scope.cancel()
        return self.scope

    def grant_ended(self) -> None:
        """The right to it is lost."""
        self._end(Cause.GRANT_ENDED)

    def cancel(self) -> None:
        """It is not wanted any more."""
        self._end(Cause.CANCELLED)

    def leave(self) -> None:
        """Nobody is there to take the answer."""
        self._end(Cause.LEFT)

    def _end(self, cause: Cause) -> None:
        self.cause = self.cause or cause
        if self.scope is not None:
            self.scope.cancel()


class GrantEnded(Exception):
    """The right to what is asked was lost under way: it is to be refused as if it came now."""
