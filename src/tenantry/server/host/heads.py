"""Heads that a connection knows: of the request that came last, and of the answers that are given again and again.

A client sends nearly the same head with every request, and what h11 makes of it, and what was checked of it, depends
on nothing but its bytes. So a head that comes again is not read again; only the digits of its Content-Length may
differ. Sections are those of RFC 9112.
"""

from functools import lru_cache
from typing import NamedTuple

import h11

from tenantry.server.asgi import Fields, Known, Message

# Answers of one kind and size have the same head for as long as their Date is the same.
ANSWERS_REMEMBERED = 64
# More digits than any body that fits into the packet of its head.
_DIGITS = 9
_END = b"\r\n\r\n"
_LENGTH = b"content-length"


class Head:
    """What the head of a request was, its scope, and what the application made of it."""

    __slots__ = ("_after", "_before", "known", "scope")

    def __init__(self, before: bytes, after: bytes, scope: Message) -> None:
        self._before = before
        self._after = after
        self.scope = scope
        self.known = Known()

    @classmethod
    def of(cls, packet: bytes, body: bytes, fields: Fields, scope: Message) -> "Head | None":
        """Remember the head of a request that came in one packet with its `body` and nothing else.

        None where it is not framed by its Content-Length alone (section 6.2), where it would have to be read closer
        to say where it ends, and where the answer has no body whatever its head says (RFC 9110 section 9.3.2).
        """
        if scope["method"] == "HEAD":
            return None
        size = len(packet) - len(body)
        head = packet[:size].lower()
        # Counted in the bytes: of two lines of the same length h11 makes one field.
        if head.find(_END) + len(_END) != size or head.count(b"\n" + _LENGTH) != 1:
            return None
        if any(name == b"transfer-encoding" for name, _ in fields):
            return None
        line = head.find(b"\r\n" + _LENGTH + b":")
        start = line + len(_LENGTH) + 3
        while head[start : start + 1] == b" ":
            start += 1
        end = head.find(b"\r\n", start)
        if line < 0 or not _is_length(head[start:end]):
            return None
        return cls(packet[:start], packet[end:size], scope)

    def body(self, packet: bytes) -> bytes | None:
        """Give the body of a packet that holds the same head, the whole body and nothing else; else None."""
        if not packet.startswith(self._before):
            return None
        end = packet.find(b"\r", len(self._before))
        digits = packet[len(self._before) : end]
        if not _is_length(digits) or not packet.startswith(self._after, end):
            return None
        body = packet[end + len(self._after) :]
        return body if len(body) == int(digits) else None


def _is_length(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _DIGITS


class AnswerHead(NamedTuple):
    """The head of an answer."""

    response: h11.Response
    length: int | None
    """What it says of the body's length, in bytes."""
    written: bytes
    """As it is sent where neither the request nor the answer ends the connection."""


@lru_cache(ANSWERS_REMEMBERED)
def of_answer(status: int, fields: tuple[tuple[bytes, bytes], ...]) -> AnswerHead:
    """Have h11 check a head, and write it; raises `h11.LocalProtocolError` for one that is none."""
    response = h11.Response(status_code=status, headers=list(fields))
    lengths = [int(value) for name, value in response.headers if name == _LENGTH]
    lines = [b"%b: %b\r\n" % item for item in response.headers.raw_items()]
    written = b"HTTP/1.1 %d \r\n%b\r\n" % (status, b"".join(lines))  # section 4: no reason is a reason too
    return AnswerHead(response, lengths[0] if lengths else None, written)
