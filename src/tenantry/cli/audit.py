"""`tenantry audit`: read the audit log and check it, beside a running server or without one."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server import audit_log

audit = App(name="audit", help="Read the audit log and check it.")

_COLUMNS = ("seq", "time", "kind", "tenant", "subject", "tool", "decision", "reason", "outcome")


@audit.command(name="list")
def list_records(
    *,
    data: Path = DEFAULT_DATA,
    tenant: str | None = None,
    kind: str | None = None,
    tool: str | None = None,
    since: datetime | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Show the records that have all the given values, oldest first.

    Parameters
    ----------
    data
        The server's data directory.
    tenant
        Only this tenant's.
    kind
        Only this kind, such as tool_call or tool_denied.
    tool
        Only calls of this tool.
    since
        Only what happened then or later; a time without a zone is UTC.
    as_json
        One JSON object a line instead of a table.
    """
    since_us = None if since is None else int(_in_utc(since).timestamp() * 1_000_000)
    try:
        records = audit_log.matching(data / audit_log.FILE_NAME, tenant=tenant, kind=kind, tool=tool, since_us=since_us)
        if as_json:
            _print_lines(records)
        else:
            _print_table(records)
    except BrokenPipeError:
        return 0  # whoever reads has seen enough, as with `| head`
    except audit_log.AuditLogUnreadable as error:
        print(f"tenantry: {data / audit_log.FILE_NAME}: {error}", file=sys.stderr)
        return 1
    return 0


@audit.command
def verify(*, data: Path = DEFAULT_DATA) -> int:
    """Check the whole log: no record missing, every one well-formed. Exit status 0 if it stands, else 1.

    Parameters
    ----------
    data
        The server's data directory.
    """
    path = data / audit_log.FILE_NAME
    count, problem = audit_log.verify(path)
    if problem is None:
        print(f"{path}: {count} records, no hole, all well-formed")
        return 0
    print(f"{path}: {problem}; records 1 to {count} stand" if count else f"{path}: {problem}", file=sys.stderr)
    return 1


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _print_lines(records: Iterable[dict[str, Any]]) -> None:
    for entry in records:
        print(json.dumps({**entry, "time": _readable(entry["time"])}, ensure_ascii=True))


def _print_table(records: Iterable[dict[str, Any]]) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for entry in records:
        shown = {**entry, "time": _readable(entry["time"])}
        # Names come from clients: what a terminal would obey is shown as text.
        table.add_row(*(escape(_printable(str(shown.get(column, "")))) for column in _COLUMNS))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def _readable(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
