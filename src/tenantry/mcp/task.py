"""The states of a task (the tasks extension, task status)."""

from enum import Enum


class Status(Enum):
    """Where a task stands; the values are those on the wire."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(Enum):
    """What happens to a task."""

    ASK = "ask"
    ANSWER = "answer"
    RESULT = "result"
    ERROR = "error"
    CANCEL = "cancel"


_ENDS = {Event.RESULT: Status.COMPLETED, Event.ERROR: Status.FAILED, Event.CANCEL: Status.CANCELLED}
TRANSITIONS: dict[Status, dict[Event, Status]] = {
    Status.WORKING: {Event.ASK: Status.INPUT_REQUIRED, **_ENDS},
    # Asked again with fewer questions where a client answers some of them.
    Status.INPUT_REQUIRED: {Event.ASK: Status.INPUT_REQUIRED, Event.ANSWER: Status.WORKING, **_ENDS},
    Status.COMPLETED: {},
    Status.FAILED: {},
    Status.CANCELLED: {},
}
