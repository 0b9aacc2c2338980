"""`tenantry audit list`."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenantry.cli.audit.logs import chosen, complain, matching, microseconds, readable, shown_place
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server import audit_log

_COLUMNS = ("seq", "time", "kind", "tenant", "subject", "tool", "decision", "reason", "outcome")


def list_records(
    *,
    data: Path = DEFAULT_DATA,
    log: str | None = None,
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
    log
        Only the log of this name: 0, 1, ... of the server's processes, admin of the command line.
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
    try:
        records = matching(chosen(data, log), tenant=tenant, kind=kind, tool=tool, since_us=microseconds(since))
        if as_json:
            _print_lines(records)
        else:
            _print_table(records)
    except BrokenPipeError:
        return 0  # whoever reads has seen enough, as with `| head`
    except audit_log.AuditLogUnreadable as error:
        complain(error)
        return 1
    return 0


def _print_lines(records: Iterable[dict[str, Any]]) -> None:
    for entry in records:
        print(json.dumps({**entry, "time": readable(entry["time"])}, ensure_ascii=True))


def _print_table(records: Iterable[dict[str, Any]]) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for entry in records:
        shown = {**entry, "seq": shown_place(entry), "time": readable(entry["time"])}
        # Names come from clients: what a terminal would obey is shown as text.
        table.add_row(*(escape(printable(str(shown.get(column, "")))) for column in _COLUMNS))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def printable(text: str) -> str:
    """Write out what a terminal would obey; names come from clients."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
