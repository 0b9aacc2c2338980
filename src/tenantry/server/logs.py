"""What the server says of itself: logfmt on stderr."""

import io
import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


def log_to_stderr() -> None:
    """Write everything from level info up, a line an event."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _Lossy(sys.stderr))),
    )


class _Lossy(io.TextIOBase):
    """Drops the lines that can't be written: a log on a full disk must not fail a request, or the audit's writer."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()
