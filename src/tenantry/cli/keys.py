"""`tenantry keys`: what access tokens are signed with, beside a running server or without one."""

import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from tenantry.audit.record import Kind
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.oauth import key_set
from tenantry.oauth.key_set import FOREVER, State
from tenantry.server.administration import NoData, administration
from tenantry.server.json_answers import METADATA_MAX_AGE_S
from tenantry.server.keys import new_key, stored_keys

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
    try:
        with administration(data) as admin:
            key = new_key(signs_from=admin.now + (0 if now else LEAD_S))
            trio.run(partial(admin.store.signing_keys.add, key, now=admin.now))
            admin.record(Kind.KEY_ROTATED, key=key.kid)
    except NoData as error:
        return _failed(str(error))
    print(f"{key.kid} signs from {_readable(key.signs_from)} on")
    return 0


@keys.command(name="list")
def list_keys(*, data: Path = DEFAULT_DATA) -> int:
    """Show the keys, in the order in which they sign: pending, active, retiring or retired, and until when.

    Parameters
    ----------
    data
        The server's data directory.
    """
    table = Table("kid", "state", "signs from", "until", box=None, pad_edge=False)
    try:
        with administration(data) as admin:
            standings = key_set.standings(stored_keys(admin.store), admin.now)
    except NoData as error:
        return _failed(str(error))
    for each in standings:
        table.add_row(each.key.kid, each.state.value, _readable(each.key.signs_from), _readable(each.until))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)
    return 0


@keys.command
def retire(kid: str, /, *, data: Path = DEFAULT_DATA) -> int:
    """Take a key away at once: every access token that it signed is refused from now on.

    Parameters
    ----------
    kid
        The key's name, as `tenantry keys list` shows it; not of the one that signs, which is to be rotated first.
    data
        The server's data directory.
    """
    try:
        with administration(data) as admin:
            known = {each.key.kid: each for each in key_set.standings(stored_keys(admin.store), admin.now)}
            if kid not in known or known[kid].state is State.RETIRED:
                return _failed("there is no such key that is not retired")
            if known[kid].state is State.ACTIVE:
                return _failed("this key signs: say `tenantry keys rotate --now` first")
            trio.run(partial(admin.store.signing_keys.retire, kid, now=admin.now))
            admin.record(Kind.KEY_RETIRED, key=kid)
    except NoData as error:
        return _failed(str(error))
    print(f"{kid} is retired")
    return 0


def _failed(reason: str) -> int:
    print(f"tenantry: {reason}", file=sys.stderr)
    return 1


def _readable(time: float) -> str:
    return "" if time == FOREVER else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
