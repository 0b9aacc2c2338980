"""The one path whose requests can become WebSockets (RFC 6455), by hypercorn's own class."""

import h11
from hypercorn.protocol.events import Body, Data, Event
from hypercorn.protocol.ws_stream import WSStream

PATH = b"/audit/tail"


class Socket(WSStream):
    """A WebSocket whose client waits for the answer to its handshake (section 4.1): what it says before is dropped.

    hypercorn refuses such a client while the application may be accepting it.
    """

    async def handle(self, event: Event) -> None:
        """Take what came from the connection."""
        if isinstance(event, Body | Data) and not self.handshake.accepted:
            return
        await super().handle(event)


def is_wanted(request: h11.Request) -> bool:
    """Tell whether the request wishes for a WebSocket where there may be one."""
    if request.target.partition(b"?")[0] != PATH or request.method != b"GET":
        return False
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in request.headers)


def fields(request: h11.Request) -> list[tuple[bytes, bytes]]:
    """The request's fields without extensions: compression costs memory for each connection, and nobody needs it."""
    return [(name, value) for name, value in request.headers if name != b"sec-websocket-extensions"]
