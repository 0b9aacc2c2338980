"""Server-Sent Events on the wire (WHATWG HTML, server-sent events), and the ids by which streams are resumed.

An id names its stream and its place in it, so that a `Last-Event-ID` can't reach into another stream (MCP
2025-11-25, transports, resumability and redelivery).
"""

import re

_ID = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{1,12})\Z")


def event(data: bytes, *, id_: str | None = None) -> bytes:
    """Write one event; `data` is JSON without line breaks, as `jsonrpc.encode` gives it."""
    prefix = b"" if id_ is None else b"id: %b\n" % id_.encode()
    return b"%bdata: %b\n\n" % (prefix, data)


def priming(id_: str) -> bytes:
    """The first event of a resumable stream: an id and nothing else (MCP 2025-11-25, transports)."""
    return b"id: %b\ndata: \n\n" % id_.encode()


def retry(milliseconds: int) -> bytes:
    """Tell the client how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds


def event_id(stream: str, number: int) -> str:
    """The id of the event with that number in its stream."""
    return f"{stream}.{number}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Read an id of ours back, None for anything else."""
    found = _ID.match(text)
    return None if found is None else (found[1], int(found[2]))
