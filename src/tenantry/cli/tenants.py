"""`tenantry tenants`: the tenants of a server."""

from pathlib import Path

from cyclopts import App

from tenantry.cli.data import AsJson, look, show
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server.store import Store

tenants = App(name="tenants", help="See the tenants of a server; they stand in its configuration.")


@tenants.command(name="list")
def list_tenants(*, data: Path = DEFAULT_DATA, as_json: AsJson = False) -> int:
    """Show the tenants as the server last read them.

    Parameters
    ----------
    data
        The server's data directory.
    as_json
        One JSON object a line instead of a table.
    """

    async def work(store: Store) -> None:
        people = [person.tenant for person in await store.people.everybody() if not person.disabled]
        rows: list[dict[str, object]] = [
            {
                "name": tenant.name,
                "title": tenant.title,
                "scopes": " ".join(tenant.scopes),
                "users": people.count(tenant.name),
            }
            for tenant in await store.people.tenants()
        ]
        show(rows, as_json=as_json)

    return look(data, work)
