"""`tenantry grants`: what people granted to clients."""

from pathlib import Path

from cyclopts import App

from tenantry.audit.record import Kind
from tenantry.cli.data import AsJson, Id, Refused, change, look, moment, show
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server.administration import Administration
from tenantry.server.store import Store

grants = App(
    name="grants", help="See what people granted to clients, and end it; a running server hears of it at once."
)


@grants.command(name="list")
def list_grants(
    *,
    tenant: str | None = None,
    user: str | None = None,
    client: Id | None = None,
    data: Path = DEFAULT_DATA,
    as_json: AsJson = False,
) -> int:
    """Show the grants that nobody has ended, oldest first.

    Parameters
    ----------
    tenant
        Only this tenant's.
    user
        Only this user's.
    client
        Only those to the client of this id.
    data
        The server's data directory.
    as_json
        One JSON object a line instead of a table.
    """

    async def work(store: Store) -> None:
        rows: list[dict[str, object]] = [
            {
                "grant": grant.family_id,
                "tenant": grant.tenant,
                "user": grant.subject,
                "client": grant.client_id,
                "name": grant.client_name,
                "scopes": " ".join(grant.scopes),
                "since": moment(grant.since),
                "last used": moment(grant.last_used),
            }
            for grant in await store.grants.standing(tenant=tenant, subject=user, client_id=client)
        ]
        show(rows, as_json=as_json)

    return look(data, work)


@grants.command
def revoke(grant: Id, *, data: Path = DEFAULT_DATA) -> int:
    """End one grant with all its tokens, MCP sessions and streams.

    Parameters
    ----------
    grant
        Which, as `grants list` names it.
    data
        The server's data directory.
    """

    async def work(admin: Administration) -> None:
        standing = [each for each in await admin.store.grants.standing() if each.family_id == grant]
        if not standing:
            raise Refused(f"there is no grant {grant} that stands")
        with admin.recording(
            Kind.GRANT_REVOKED,
            tenant=standing[0].tenant,
            subject=standing[0].subject,
            client=standing[0].client_id,
            family=grant,
        ):
            await admin.store.endings.family(grant, now=admin.now)

    return change(data, work)
