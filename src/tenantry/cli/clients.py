"""`tenantry clients`: the OAuth clients of a server."""

import hashlib
import re
import secrets
import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, Parameter

from tenantry.audit.record import Kind
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.oauth import token
from tenantry.oauth.clients import ServiceAccount, is_presentable
from tenantry.server.administration import NoData, administration

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
    problem = _problem(tenant, name, scope)
    if problem is not None:
        print(f"tenantry: {problem}", file=sys.stderr)
        return 2
    client_id, secret = SERVICE_PREFIX + secrets.token_urlsafe(16), secrets.token_urlsafe(32)
    account = ServiceAccount(tenant=tenant, scopes=tuple(dict.fromkeys(scope)))
    try:
        with administration(data) as admin:

            async def add() -> None:
                await admin.store.clients.add_service(
                    client_id, account, name=name, secret_digest=token.digest(secret), now=admin.now
                )

            trio.run(add)
            admin.record(Kind.SERVICE_ADDED, tenant=tenant, client=client_id, scope=" ".join(account.scopes))
    except NoData as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 1
    print(f"client_id: {client_id}")
    print(f"client_secret: {secret}")
    return 0


def _problem(tenant: str, name: str, scope: list[str]) -> str | None:
    if not (name and len(name) <= 128 and is_presentable(name)):
        return "--name is empty, too long or can't be shown"
    if not all(re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}", each) for each in scope):
        return "--scope is no scope"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", tenant):
        return "--tenant is no name of a tenant"
    return None
