"""`tenantry audit export`: everything that the records hold, for other programs."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.progress import Progress

from tenantry.audit import record
from tenantry.cli.audit.logs import chosen, complain, matching, microseconds, readable
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server import audit_log

_COLUMNS = ("log", "seq", *record.FIELDS)
# A spreadsheet takes a cell that begins with one of these for a formula, and names come from clients.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(
    *,
    data: Path = DEFAULT_DATA,
    log: str | None = None,
    format: Literal["jsonl", "csv"] = "jsonl",  # noqa: A002  # the option's name
    output: Path | None = None,
    tenant: str | None = None,
    since: datetime | None = None,
) -> int:
    """Write all records, or those of a tenant, to a file or to stdout; the terminal shows how far it is.

    Parameters
    ----------
    data
        The server's data directory.
    log
        Only the log of this name.
    format
        JSON lines, or CSV with a column for each field; there, text that a spreadsheet would take for a formula begins
        with an apostrophe.
    output
        The file to write; it must not exist.
    tenant
        Only this tenant's.
    since
        Only what happened then or later; a time without a zone is UTC.
    """
    paths = chosen(data, log)
    try:
        records = matching(paths, tenant=tenant, since_us=microseconds(since))
        write = _write_csv if format == "csv" else _write_lines
        with nullcontext(sys.stdout) if output is None else output.open("x", newline="") as file:
            write(_with_progress(records, paths), file)
    except BrokenPipeError:
        return 0
    except (audit_log.AuditLogUnreadable, OSError) as error:
        complain(error)
        return 1
    return 0


def _with_progress(records: Iterator[dict[str, Any]], paths: list[Path]) -> Iterator[dict[str, Any]]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        ends = {path: audit_log.size_of(path) for path in paths}
        task = bar.add_task("export", total=sum(ends.values()))
        reached: dict[str, int] = {}
        for number, entry in enumerate(records):
            reached[entry["log"]] = entry["seq"]
            if number % 1000 == 0:
                bar.update(task, completed=sum(reached.values()))
            yield {**entry, "time": readable(entry["time"])}


def _write_lines(records: Iterable[dict[str, Any]], file: TextIO) -> None:
    file.writelines(json.dumps(entry, ensure_ascii=True) + "\n" for entry in records)


def _write_csv(records: Iterable[dict[str, Any]], file: TextIO) -> None:
    writer = csv.DictWriter(file, _COLUMNS, restval="")
    writer.writeheader()
    for entry in records:
        writer.writerow({name: _cell(value) for name, value in entry.items()})


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=True)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
