"""`GET /audit/checkpoint`: how large each log is and its root, signed, for whoever wants to keep it.

Public, because it tells nothing of what is in the logs; kept for a moment, because anybody may ask.
"""

import time
from collections.abc import Callable
from pathlib import Path

import trio

from tenantry import web
from tenantry.server import audit_log
from tenantry.server.app import Routes
from tenantry.server.exchange import Answer, Exchange

KEPT_S = 1.0
_HEADERS = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}


class AuditEndpoint:
    """Answers with the newest checkpoint of every log in the data directory, one note after another."""

    def __init__(self, data: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._data = data
        self._clock = clock
        self._one_at_a_time = trio.Lock()
        self._kept = b""
        self._until = -KEPT_S

    def routes(self) -> Routes:
        """What is served where."""
        return {"/audit/checkpoint": {"GET": self._checkpoints}}

    async def _checkpoints(self, _: Exchange) -> Answer:
        async with self._one_at_a_time:
            if self._clock() >= self._until:
                self._kept = await trio.to_thread.run_sync(self._read)
                self._until = self._clock() + KEPT_S
        return web.Response(status=200, headers=_HEADERS, body=self._kept)

    def _read(self) -> bytes:
        notes = [audit_log.latest_checkpoint(path) for path in audit_log.logs_in(self._data)]
        return "\n".join(note for note in notes if note is not None).encode()
