"""`tenantry keys`: what access tokens are signed with, beside a running server or without one."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from tenantry.audit.record import Kind
from tenantry.cli.data import AsJson, Id, Refused, change, look, moment, show
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.oauth import key_set
from tenantry.oauth.key_set import FOREVER, State
from tenantry.server.administration import Administration
from tenantry.server.json_answers import METADATA_MAX_AGE_S
from tenantry.server.keys import new_key, stored_keys
from tenantry.server.store import Store

keys = App(name="keys", help="Look after the keys that sign access tokens.")

# Twice what anybody may cache the published key set for.
LEAD_S = 2 * METADATA_MAX_AGE_S


@keys.command
def rotate(*, now: Annotated[bool, Parameter(negative="")] = False, data: Path = DEFAULT_DATA) -> int:
    """Make a new key: published at once, it signs ten minutes later, and the one before verifies for another hour.

    No access token that was given stops working.

    Parameters
    ----------
    now
        Have it sign at once; right where nobody but this server verifies access tokens.
    data
        The server's data directory.
    """

    async def work(admin: Administration) -> None:
        key = new_key(signs_from=admin.now + (0 if now else LEAD_S))
        with admin.recording(Kind.KEY_ROTATED, key=key.kid):
            await admin.store.signing_keys.add(key, now=admin.now)
        print(f"{key.kid} signs from {_readable(key.signs_from)} on")

    return change(data, work)


@keys.command(name="list")
def list_keys(*, data: Path = DEFAULT_DATA, as_json: AsJson = False) -> int:
    """Show the keys, in the order in which they sign: pending, active, retiring or retired, and until when.

    Parameters
    ----------
    data
        The server's data directory.
    as_json
        One JSON object a line instead of a table.
    """

    async def work(store: Store) -> None:
        rows: list[dict[str, object]] = [
            {
                "kid": each.key.kid,
                "state": each.state.value,
                "signs from": _readable(each.key.signs_from),
                "until": _readable(each.until),
            }
            for each in key_set.standings(stored_keys(store), time.time())
        ]
        show(rows, as_json=as_json)

    return look(data, work)


@keys.command
def retire(kid: Id, /, *, data: Path = DEFAULT_DATA) -> int:
    """Take a key away at once: every access token that it signed is refused from now on.

    Parameters
    ----------
    kid
        The key's name, as `tenantry keys list` shows it; not of the one that signs, which is to be rotated first.
    data
        The server's data directory.
    """

    async def work(admin: Administration) -> None:
        known = {each.key.kid: each for each in key_set.standings(stored_keys(admin.store), admin.now)}
        if kid not in known or known[kid].state is State.RETIRED:
            raise Refused("there is no such key that is not retired")
        if known[kid].state is State.ACTIVE:
            raise Refused("this key signs: say `tenantry keys rotate --now` first")
        with admin.recording(Kind.KEY_RETIRED, key=kid):
            await admin.store.signing_keys.retire(kid, now=admin.now)
        print(f"{kid} is retired")

    return change(data, work)


def _readable(time_s: float) -> str:
    return moment(None if time_s == FOREVER else time_s)
