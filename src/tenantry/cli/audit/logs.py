"""What the commands share: which logs there are, and the records of several in one order."""

import heapq
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenantry.server import audit_log
from tenantry.server.audit_key import name_of

SERVER = "0"
"""The name of the log that a bare sequence number means."""


def chosen(data: Path, name: str | None) -> list[Path]:
    """Give the log of that name, or all; the server's own where there is none, so that its lack is said."""
    if name is not None:
        return [audit_log.path_of(data, name)]
    return audit_log.logs_in(data) or [data / audit_log.FILE_NAME]


def matching(paths: list[Path], **wanted: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Give the records of all logs by their time, each with its log's name as `log`; raises as one log's reading."""

    def of(path: Path) -> Iterator[dict[str, Any]]:
        for entry in audit_log.matching(path, **wanted):
            yield {"log": name_of(path), **entry}

    return heapq.merge(*map(of, paths), key=lambda entry: entry["time"])


def place(reference: str) -> tuple[str, int]:
    """Read `SEQ` or `NAME:SEQ`; raises ValueError."""
    name, _, seq = reference.rpartition(":")
    return name or SERVER, int(seq)


def shown_place(entry: dict[str, Any]) -> str:
    """Write a record's place the way `place` reads it."""
    return str(entry["seq"]) if entry["log"] == SERVER else f"{entry['log']}:{entry['seq']}"


def readable(time_us: int) -> str:
    """Write a time for people and programs: UTC, to the millisecond."""
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def microseconds(time: datetime | None) -> int | None:
    """Give microseconds since the epoch; a time without a zone is UTC."""
    if time is None:
        return None
    return int((time.replace(tzinfo=UTC) if time.tzinfo is None else time).timestamp() * 1_000_000)


def complain(text: object) -> None:
    """Say to stderr what is wrong."""
    print(f"tenantry: {text}", file=sys.stderr)
