"""`tenantry clients`: the OAuth clients of a server."""

import hashlib
import secrets
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tenantry.audit.record import Kind
from tenantry.cli.data import AsJson, Id, Refused, change, look, moment, require_offered, show
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.oauth import token
from tenantry.oauth.clients import ServiceAccount, is_presentable
from tenantry.server.administration import Administration
from tenantry.server.store import Store

clients = App(name="clients", help="Look after the OAuth clients of a server.")

# A character that no name in a configuration can have, so that a service account is never taken for a person.
SERVICE_PREFIX = "service~"


@clients.command
def invite() -> int:
    """Make an initial access token for registration, and the line of the configuration that admits it.

    The token is shown this once and kept nowhere: the configuration holds its digest alone.
    """
    initial = secrets.token_urlsafe(32)
    digest = hashlib.sha256(initial.encode()).hexdigest()
    print(f"token, for whoever may register a client:  {initial}")
    print("configuration, under [clients], and then a restart:")
    print('registration = "initial_access_token"')
    print(f'initial_access_tokens = ["{digest}"]')
    return 0


@clients.command(name="add-service")
def add_service(
    *, tenant: str, name: str, scope: Annotated[list[str], Parameter(negative="")], data: Path = DEFAULT_DATA
) -> int:
    """Make a service account: a client that acts for itself inside of a tenant, without a person.

    Its id and secret are shown this once; the running server knows it at once. It gets access tokens at the token
    endpoint by the grant type client_credentials; `tenantry clients revoke ID` ends it.

    Parameters
    ----------
    tenant
        Where it belongs.
    name
        What people call it.
    scope
        What it may have; once for each scope.
    data
        The server's data directory.
    """
    client_id, secret = SERVICE_PREFIX + secrets.token_urlsafe(16), secrets.token_urlsafe(32)

    async def work(admin: Administration) -> None:
        if not (name and len(name) <= 128 and is_presentable(name)):
            raise Refused("--name is empty, too long or can't be shown")
        await require_offered(admin.store, tenant, scope)
        account = ServiceAccount(tenant=tenant, scopes=tuple(dict.fromkeys(scope)))
        with admin.recording(Kind.SERVICE_ADDED, tenant=tenant, client=client_id, scope=" ".join(account.scopes)):
            await admin.store.clients.add_service(
                client_id, account, name=name, secret_digest=token.digest(secret), now=admin.now
            )
        print(f"client_id: {client_id}")
        print(f"client_secret: {secret}")

    return change(data, work)


@clients.command(name="list")
def list_clients(*, data: Path = DEFAULT_DATA, as_json: AsJson = False) -> int:
    """Show the clients that are registered or in use, oldest first.

    Parameters
    ----------
    data
        The server's data directory.
    as_json
        One JSON object a line instead of a table.
    """

    async def work(store: Store) -> None:
        granted = [grant.client_id for grant in await store.grants.standing()]
        rows: list[dict[str, object]] = [
            {
                "client": client.client_id,
                "name": client.name,
                "redirects": " ".join(client.redirect_uris),
                "registered": moment(client.registered_at),
                "used": moment(client.used_at),
                "grants": granted.count(client.client_id),
            }
            for client in await store.clients.everyone()
        ]
        show(rows, as_json=as_json)

    return look(data, work)


@clients.command
def revoke(client: Id, *, data: Path = DEFAULT_DATA) -> int:
    """Forget a client and end all that was granted to it; it may register anew where the configuration lets it.

    Parameters
    ----------
    client
        Its id.
    data
        The server's data directory.
    """

    async def work(admin: Administration) -> None:
        if await admin.store.clients.find(client) is None:
            raise Refused(f"there is no client {client}")
        with admin.recording(Kind.CLIENT_REVOKED, client=client):
            await admin.store.endings.client(client, now=admin.now)

    return change(data, work)
