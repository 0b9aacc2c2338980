"""`GET /audit/tail`: the audit log as it grows, over a WebSocket, to a person who may see their tenant's records.

Each message is a JSON object: `records`, and in `next` for each log the sequence number that comes next. Where there
is nothing for long, a message without records says that the connection lives. A consumer says by `from=SEQ` or
`from=NAME:SEQ`, once for each log, where it wants to begin; a log that it does not name begins at its end. So whoever
was cut off goes on where `next` of the last message that came says.

Nothing is kept for a consumer but one page: it is read from the file when the page before was taken, at the
consumer's own speed; one event wakes all of them after a commit.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import trio

from tenantry import web
from tenantry.audit import record
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.oauth import bearer
from tenantry.policy import Directory
from tenantry.server import audit_log
from tenantry.server.app import Routes
from tenantry.server.audit_key import name_of
from tenantry.server.audit_writer import AuditWriter
from tenantry.server.authentication import Authentication
from tenantry.server.exchange import Exchange, WebSocket
from tenantry.server.ongoing import Ongoing

SCOPE = "audit:read"
# Records of one log that are read at once, whoever they belong to.
PAGE = 256
# Logs of other processes tell nothing of their commits.
LOOK_S = 1.0
# Shorter than the idle timeouts of common proxies.
QUIET_S = 15.0
_SERVER = "0"

Places = Mapping[str, int]
"""Name of a log -> the last record that was seen."""


class Page(NamedTuple):
    """What was read of all logs."""

    records: list[dict[str, Any]]
    places: Places
    more: bool
    """Whether there is more to be read at once."""

    @property
    def next(self) -> dict[str, int]:
        """Where to begin in each log to get what comes behind this page."""
        return {name: seq + 1 for name, seq in self.places.items()}


class AuditTail:
    """Lets people follow the records of their tenant."""

    def __init__(
        self,
        data: Path,
        *,
        config: Config,
        audit: AuditWriter,
        authentication: Authentication,
        directory: Callable[[], Directory],
        ongoing: Ongoing,
    ) -> None:
        self._data = data
        self._config = config
        self._audit = audit
        self._authentication = authentication
        self._directory = directory
        self._ongoing = ongoing

    def routes(self) -> Routes:
        """What is served where."""
        return {"/audit/tail": {"GET": self._tail}}

    async def _tail(self, exchange: Exchange) -> WebSocket:
        principal = self._authentication.principal(exchange.request)
        grantable = self._directory().grantable(principal.tenant, principal.subject)
        if SCOPE not in principal.scopes & grantable:
            challenge = bearer.insufficient_scope(self._config, [SCOPE])
            raise web.HttpError(403, f"this needs {SCOPE}", headers={"www-authenticate": challenge})
        wanted = _wanted(exchange.request.query)
        places = {**await trio.to_thread.run_sync(ends, self._data), **wanted}
        follow = partial(self._follow, principal, places)
        return WebSocket(run=follow, deadline=self._authentication.deadline(principal))

    async def _follow(self, principal: Principal, places: Places, send: Callable[[str], Awaitable[None]]) -> None:
        with self._ongoing.of(principal):
            sent = -math.inf
            while True:
                news = self._audit.news
                page = await trio.to_thread.run_sync(read_page, self._data, places, principal.tenant)
                places = page.places
                if page.records or trio.current_time() >= sent + QUIET_S:
                    await send(json.dumps({"records": page.records, "next": page.next}))
                    sent = trio.current_time()
                if not page.more:
                    with trio.move_on_after(LOOK_S):
                        await news.wait()


def ends(data: Path) -> dict[str, int]:
    """Where each log ends now; raises `AuditLogUnreadable`."""
    return {name_of(path): audit_log.size_of(path) for path in audit_log.logs_in(data)}


def read_page(data: Path, places: Places, tenant: str | None) -> Page:
    """Read on in every log, at most `PAGE` records of each, and keep those of `tenant`, or all where it is None.

    A log that has no place yet is read from its beginning: it came after the others. Raises `AuditLogUnreadable`.
    """
    records: list[dict[str, Any]] = []
    reached = dict(places)
    more = False
    for path in audit_log.logs_in(data):
        name = name_of(path)
        with closing(audit_log.read(path, after=reached.setdefault(name, 0), page=PAGE)) as behind:
            rows = list(islice(behind, PAGE))
        for seq, body in rows:
            reached[name] = seq
            entry = record.decode(body)
            if tenant is None or entry.get("tenant") == tenant:
                records.append({"log": name, "seq": seq, **entry})
        more = more or len(rows) == PAGE
    return Page(records, reached, more)


def place(reference: str) -> tuple[str, int]:
    """Read `SEQ` (of the server's first log) or `NAME:SEQ`; raises ValueError."""
    name, _, seq = reference.rpartition(":")
    if not (seq.isascii() and seq.isdigit() and 0 < int(seq) < 2**63 and len(name) <= 64):
        raise ValueError("a place is SEQ or NAME:SEQ")
    return name or _SERVER, int(seq)


def _wanted(query: str) -> dict[str, int]:
    """The places before the records that a consumer wants first."""
    try:
        fields = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
        places = [place(value) for name, value in fields if name == "from"]
    except ValueError:
        raise web.HttpError(400, "from is SEQ or NAME:SEQ, once for each log") from None
    return {name: seq - 1 for name, seq in places}
