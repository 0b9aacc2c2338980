"""The states of the answer to one POST: a JSON object, until a message comes before the response."""

from enum import Enum


class State(Enum):
    """Where the answer stands."""

    PENDING = "pending"
    """Nothing was sent: it may still be a JSON object with a status of its own."""
    STREAMING = "streaming"
    RELEASED = "released"
    """The connection was ended and the call goes on; what follows is kept for a client that comes back."""
    FINISHED = "finished"


class Event(Enum):
    """What happens to the answer."""

    MESSAGE = "message"
    KEEP_ALIVE = "keep-alive"
    RELEASE = "release"
    RESPONSE = "response"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.PENDING: {
        Event.MESSAGE: State.STREAMING,
        Event.KEEP_ALIVE: State.STREAMING,
        Event.RELEASE: State.RELEASED,
        Event.RESPONSE: State.FINISHED,
    },
    State.STREAMING: {
        Event.MESSAGE: State.STREAMING,
        Event.KEEP_ALIVE: State.STREAMING,
        Event.RELEASE: State.RELEASED,
        Event.RESPONSE: State.FINISHED,
    },
    State.RELEASED: {Event.MESSAGE: State.RELEASED, Event.RELEASE: State.RELEASED, Event.RESPONSE: State.FINISHED},
    State.FINISHED: {},
}
