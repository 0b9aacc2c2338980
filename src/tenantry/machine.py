"""State machines as tables: a state and an event that the table has no entry for are a fault of ours.

The diagrams in `spec/machines` are drawn from the same tables.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class LocalProtocolError(Exception):
    """We drove a state machine in a way that its table does not have."""


def step(table: Mapping[S, Mapping[E, S]], state: S, event: E) -> S:
    """Give the state that `event` leads to; raises `LocalProtocolError` where the table has none."""
    try:
        return table[state][event]
    except KeyError:
        raise LocalProtocolError(f"{type(state).__name__}: {state.value} takes no {event.value}") from None
