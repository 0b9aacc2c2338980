"""What a host and the application say to each other: ASGI's messages, and what our host has beside them.

Names: ASGI 3.0, HTTP message format.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from tenantry import web

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Fields: TypeAlias = list[tuple[bytes, bytes]]
Departure: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]

BODY = "tenantry.body"
"""The extension of a scope that holds the whole body, from a host that had it already; no field announces it then."""
KNOWN = "tenantry.known"
"""The extension of a scope whose head may come again: a `Known` that comes again with it."""
ANSWER = "tenantry.answer"
"""The extension of a scope whose host takes a whole answer as one message of this type: status, headers and body."""
HELD = "tenantry.held"
"""In the beginning of an answer: its first bytes follow at once, and a host may send both together."""
LINE = "tenantry.line"
"""The extension of a scope that is told whose connection it is (`turns.Line`)."""
DEPARTURE = "tenantry.departure"
"""The extension of a scope whose host calls what it is given, within a block, when the client leaves."""

BODILESS = frozenset({202, 204, 304})
# RFC 9110 section 8.6: 204 must not have a Content-Length, and that of a 304 would be the omitted body's.
LENGTHLESS = frozenset({204, 304})


class Known:
    """What was made of a request's head."""

    __slots__ = ("request",)

    def __init__(self) -> None:
        self.request: web.Request | None = None


def start(status: int, fields: Fields, *, held: bool = False) -> Message:
    """The beginning of an answer."""
    return {"type": "http.response.start", "status": status, "headers": fields, HELD: held}


def body_part(data: bytes, *, more: bool = False) -> Message:
    """A part of an answer's body, the last one unless there is `more`."""
    return {"type": "http.response.body", "body": data, "more_body": more}
