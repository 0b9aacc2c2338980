"""How commands look into a server's data and change it, and what they say where that can't be done."""

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenantry.server.administration import Administration, NoData, administration, existing_state
from tenantry.server.audit_log import AuditLogDamaged
from tenantry.server.store import Store
from tenantry.server.store.database import DatabaseError

AsJson = Annotated[bool, Parameter(name="--json", negative="")]
Id = Annotated[str, Parameter(allow_leading_hyphen=True)]
"""An id that the server made: one in sixty-four begins with a hyphen."""


class Refused(Exception):
    """The command can't be done; the text says why."""


def look(data: Path, work: Callable[[Store], Awaitable[None]]) -> int:
    """Run a command that changes nothing, and give its exit status."""

    async def run() -> None:
        store = Store.open(existing_state(data))
        try:
            await work(store)
        finally:
            store.close()

    return _status(run)


def change(data: Path, work: Callable[[Administration], Awaitable[None]]) -> int:
    """Run a command that changes something, and give its exit status."""

    async def run() -> None:
        with administration(data) as admin:
            await work(admin)

    return _status(run)


def _status(run: Callable[[], Awaitable[None]]) -> int:
    try:
        trio.run(run)
    except BrokenPipeError:
        return 0  # whoever reads has seen enough, as with `| head`
    except (Refused, NoData, AuditLogDamaged, OSError, RuntimeError, DatabaseError) as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 1
    return 0


async def require_offered(store: Store, tenant: str, scopes: Sequence[str]) -> None:
    """Raise `Refused` unless there is such a tenant, and something in it needs each of the scopes."""
    known = {each.name: each.scopes for each in await store.people.tenants()}
    if tenant not in known:
        raise Refused(f"there is no tenant {tenant}; there are: {', '.join(known)}")
    unknown = sorted(set(scopes) - set(known[tenant]))
    if unknown:
        raise Refused(f"nothing in {tenant} needs {', '.join(unknown)}; there are: {', '.join(known[tenant])}")


def moment(time_s: float | None) -> str:
    """Write seconds since the epoch down for people and programs; nothing where there is no such time."""
    return "" if time_s is None else f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def show(rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    """Print rows, all with the same keys: as a table, or one JSON object a line."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    if not rows:
        return
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        # Names come from clients: what a terminal would obey is shown as text.
        table.add_row(*(escape(_printable(str(value))) for value in row.values()))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
