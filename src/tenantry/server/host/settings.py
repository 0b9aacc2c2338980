"""hypercorn's settings, of which only those that its protocols read have a meaning here."""

import sys
import time
from email.utils import formatdate

from hypercorn.config import Config

from tenantry.server.host.limits import HostLimits

# What a client may send in one message; ours have nothing to say.
WEBSOCKET_BYTES = 4096


class Settings(Config):
    """The settings that `HostLimits` says."""

    def __init__(self, limits: HostLimits) -> None:
        self.limits = limits
        self.h11_max_incomplete_size = limits.header_bytes
        self.keep_alive_max_requests = sys.maxsize
        self.websocket_max_message_size = WEBSOCKET_BYTES
        self.accesslog = None
        self.errorlog = None
        self._date = (0, [(b"date", b"")])

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:  # noqa: ARG002
        """Give the Date field (RFC 9110 section 6.6.1), written once a second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, [(b"date", formatdate(now, usegmt=True).encode())])
        return self._date[1]
