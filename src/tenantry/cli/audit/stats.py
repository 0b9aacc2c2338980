"""`tenantry audit stats`: how many calls, by tenant, tool and outcome."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenantry.cli.audit.bars import Bar, bars
from tenantry.cli.audit.listing import printable
from tenantry.cli.audit.logs import chosen, complain, matching, microseconds
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server import audit_log

Tally = dict[tuple[str, str], Counter[str]]
"""Tenant and what was called -> outcome -> how often."""
_CALLED = ("tool", "prompt", "resource")


def stats(
    *,
    data: Path = DEFAULT_DATA,
    log: str | None = None,
    tenant: str | None = None,
    since: datetime | None = None,
    svg: Path | None = None,
) -> int:
    """Count calls by tenant, tool and outcome; with --svg also as a picture.

    Parameters
    ----------
    data
        The server's data directory.
    log
        Only the log of this name.
    tenant
        Only this tenant's.
    since
        Only what happened then or later; a time without a zone is UTC.
    svg
        A file to draw the counts into.
    """
    try:
        tally = count(matching(chosen(data, log), tenant=tenant, since_us=microseconds(since)))
        if svg is not None:
            rows = [Bar(f"{whose} · {what}", dict(outcomes)) for (whose, what), outcomes in sorted(tally.items())]
            svg.write_text(bars(rows, title="Calls by tenant, tool and outcome"))
    except (audit_log.AuditLogUnreadable, OSError) as error:
        complain(error)
        return 1
    _print(tally)
    return 0


def count(records: Iterable[dict[str, Any]]) -> Tally:
    """Count the records of calls; one that sums up denials counts for as many as it says."""
    tally: Tally = {}
    for entry in records:
        called = next((entry[kind] for kind in _CALLED if kind in entry), None)
        if called is not None and "outcome" in entry:
            outcomes = tally.setdefault((entry.get("tenant", ""), called), Counter())
            outcomes[entry["outcome"]] += entry.get("count", 1)
    return tally


def _print(tally: Tally) -> None:
    names = sorted({outcome for outcomes in tally.values() for outcome in outcomes})
    table = Table("tenant", "called", *names, "all", box=None, pad_edge=False)
    for (tenant, called), outcomes in sorted(tally.items()):
        cells = [str(outcomes[name] or "") for name in names]
        table.add_row(escape(printable(tenant)), escape(printable(called)), *cells, str(outcomes.total()))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)
