"""`tenantry audit tail`."""

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import httpx2
import trio
from cyclopts import Parameter
from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError, open_websocket_url

from tenantry.cli.audit.listing import printable
from tenantry.cli.audit.logs import complain, readable, shown_place
from tenantry.cli.client import TIMEOUT, Fault, Person, problem_with_url, sign_in
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server import audit_log
from tenantry.server.audit_tail import SCOPE, Places, ends, place, read_page

BEFORE = 10
"""Records of each log that are shown before those that come."""
LOOK_S = 0.5
AGAIN_S = 1.0
# A server says something each 15 s.
SILENT_S = 60.0
Show = Callable[[list[dict[str, Any]]], None]
_COLUMNS = ("kind", "tenant", "subject", "tool", "reason", "outcome")


def tail(
    *,
    data: Path = DEFAULT_DATA,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    begin: Annotated[tuple[str, ...], Parameter(name="--from")] = (),
    tenant: str | None = None,
    url: str | None = None,
    user: str | None = None,
    password: str = "demo",  # noqa: S107  # the demo's, for everybody to read
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Show the last records, and with --follow those that come.

    Parameters
    ----------
    data
        The server's data directory, to read its logs as its operator.
    follow
        Go on until Ctrl-C. Over the network a connection that is lost is made again, and goes on where it was.
    begin
        The first record to show: SEQ, or NAME:SEQ in another log than the server's first; once for each log.
    tenant
        Only this tenant's.
    url
        Follow the log of the server whose MCP endpoint this is, signed in, with the scope audit:read: one's own
        tenant's records.
    user
        Sign in as this user.
    password
        The user's password.
    as_json
        One JSON object a line.
    """

    def show(records: list[dict[str, Any]]) -> None:
        sys.stdout.writelines(_lines(records, as_json=as_json))
        sys.stdout.flush()

    try:
        wanted = {name: seq - 1 for name, seq in map(place, begin)}
        if url is None:
            trio.run(partial(_from_files, data, wanted, tenant, show, follow=follow))
        else:
            _check_url(url)
            trio.run(_from_server, url, _person(user, password, follow=follow), wanted, show)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    except (audit_log.AuditLogUnreadable, Fault, ValueError) as error:
        complain(error)
        return 2 if isinstance(error, ValueError) else 1
    return 0


def _person(user: str | None, password: str, *, follow: bool) -> Person:
    if user is None or not follow:
        raise ValueError("--url needs --user and --follow")
    return Person(user=user, password=password, scope=SCOPE)


def _check_url(url: str) -> None:
    problem = problem_with_url(url)
    if problem is not None:
        raise ValueError(f"--url {url}: {problem}")


def _websocket_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}/audit/tail"


def _lines(page: Iterable[dict[str, Any]], *, as_json: bool) -> Iterable[str]:
    for entry in page:
        shown = {**entry, "time": readable(entry["time"])}
        if as_json:
            yield json.dumps(shown) + "\n"
        else:
            values = (str(shown[column]) for column in _COLUMNS if column in shown)
            yield printable(" ".join((shown_place(entry), shown["time"], *values))) + "\n"


async def _from_files(data: Path, wanted: Places, tenant: str | None, show: Show, *, follow: bool) -> None:
    places: Places = {**{name: max(0, end - BEFORE) for name, end in ends(data).items()}, **wanted}
    if not places:
        raise audit_log.AuditLogUnreadable(f"{data}: there is no audit log")
    more = True
    while more or follow:
        page = await trio.to_thread.run_sync(read_page, data, places, tenant)
        show(page.records)
        places, more = page.places, page.more
        if not more and follow:
            await trio.sleep(LOOK_S)


async def _from_server(url: str, person: Person, wanted: Places, show: Show) -> None:
    begin = {name: seq + 1 for name, seq in wanted.items()}
    token = ""
    while True:
        token = token or await _sign_in(url, person)
        query = urlencode([("from", f"{name}:{seq}") for name, seq in begin.items()])
        header = (b"authorization", f"Bearer {token}".encode())
        try:
            async with open_websocket_url(f"{_websocket_of(url)}?{query}", extra_headers=[header]) as connection:
                while True:
                    with trio.fail_after(SILENT_S):
                        message = json.loads(await connection.get_message())
                    show(message["records"])
                    begin = message["next"]
        except ConnectionRejected as refusal:
            if refusal.status_code != 401:
                raise Fault(f"{url}: refused with status {refusal.status_code}") from None
            token = ""  # it has expired, or its grant has ended
        except (ConnectionClosed, HandshakeError, trio.TooSlowError):
            await trio.sleep(AGAIN_S)


async def _sign_in(url: str, person: Person) -> str:
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
            return await sign_in(http, url, person)
    except httpx2.HTTPError as error:
        raise Fault(f"{url}: {error or type(error).__name__}") from None
