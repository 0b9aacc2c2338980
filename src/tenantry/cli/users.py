"""`tenantry users`: the people of a server."""

import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from cyclopts import App

from tenantry.audit.record import Kind
from tenantry.cli.data import AsJson, Refused, change, look, require_offered, show
from tenantry.cli.hash_password import ask_for_hash
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.config import NAME
from tenantry.server.administration import Administration
from tenantry.server.store import Store
from tenantry.server.store.people import KnownPerson, Person

users = App(
    name="users", help="Look after the people of a server; it may run meanwhile, and what is changed counts at once."
)


@users.command(name="list")
def list_users(*, tenant: str | None = None, data: Path = DEFAULT_DATA, as_json: AsJson = False) -> int:
    """Show who may log in, those of the configuration too.

    Parameters
    ----------
    tenant
        Only this tenant's.
    data
        The server's data directory.
    as_json
        One JSON object a line instead of a table.
    """

    async def work(store: Store) -> None:
        rows: list[dict[str, object]] = [
            {
                "name": person.name,
                "tenant": person.tenant,
                "scopes": " ".join(person.scopes),
                "from": "configuration" if person.configured else "command",
                "state": "disabled" if person.disabled else "enabled",
            }
            for person in await store.people.everybody()
            if tenant in (None, person.tenant)
        ]
        show(rows, as_json=as_json)

    return look(data, work)


@users.command
def add(name: str, *, tenant: str, scope: list[str], data: Path = DEFAULT_DATA) -> int:
    """Let somebody log in. Their password is asked for, or read from a pipe.

    Parameters
    ----------
    name
        What they log in by.
    tenant
        Where they belong.
    scope
        What may be granted to them at most; say it once for each scope.
    data
        The server's data directory.
    """

    async def work(admin: Administration, hashed: str) -> None:
        people = admin.store.people
        if re.fullmatch(NAME, name) is None:
            raise Refused("a name has up to 64 letters, digits and . _ @ -, the first a letter or digit")
        if await people.find(name) is not None:
            raise Refused(f"there is a user {name} already")
        await require_offered(admin.store, tenant, scope)
        person = Person(name=name, tenant=tenant, scopes=tuple(dict.fromkeys(scope)), password_hash=hashed)
        with admin.recording(Kind.USER_ADDED, tenant=tenant, subject=name, scope=" ".join(person.scopes)):
            await people.add(person, now=admin.now)

    return _change_with_hash(data, work)


@users.command
def passwd(name: str, *, data: Path = DEFAULT_DATA) -> int:
    """Give somebody who was added by command another password; it is asked for, or read from a pipe.

    They are logged out everywhere, and every application loses what they granted to it.

    Parameters
    ----------
    name
        Whose password it is.
    data
        The server's data directory.
    """

    async def work(admin: Administration, hashed: str) -> None:
        person = await _existing(admin, name)
        if person.configured:
            raise Refused(f"{name} stands in the configuration: change password_hash there, then `tenantry reload`")
        with admin.recording(Kind.USER_PASSWORD_SET, tenant=person.tenant, subject=name):
            await admin.store.people.set_password(person, hashed, now=admin.now)

    return _change_with_hash(data, work)


@users.command
def disable(name: str, *, data: Path = DEFAULT_DATA) -> int:
    """Keep somebody out, whether added by command or configured: nothing of theirs works any more.

    Parameters
    ----------
    name
        Who it is.
    data
        The server's data directory.
    """

    async def work(admin: Administration) -> None:
        person = await _existing(admin, name)
        with admin.recording(Kind.USER_DISABLED, tenant=person.tenant, subject=name):
            await admin.store.people.disable(person, now=admin.now)

    return change(data, work)


@users.command
def enable(name: str, *, data: Path = DEFAULT_DATA) -> int:
    """Let somebody in again who was disabled; their applications have to be allowed anew.

    Parameters
    ----------
    name
        Who it is.
    data
        The server's data directory.
    """

    async def work(admin: Administration) -> None:
        person = await _existing(admin, name)
        with admin.recording(Kind.USER_ENABLED, tenant=person.tenant, subject=name):
            await admin.store.people.enable(person, now=admin.now)

    return change(data, work)


async def _existing(admin: Administration, name: str) -> KnownPerson:
    person = await admin.store.people.find(name)
    if person is None:
        raise Refused(f"there is no user {name}")
    return person


def _change_with_hash(data: Path, work: Callable[[Administration, str], Awaitable[None]]) -> int:
    # Asked for before the data are opened: others must not wait while somebody types.
    try:
        hashed = ask_for_hash()
    except ValueError as error:
        print(f"tenantry: {error}", file=sys.stderr)
        return 2
    return change(data, lambda admin: work(admin, hashed))
