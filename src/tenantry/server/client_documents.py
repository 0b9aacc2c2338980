"""Finds the client of an authorization request: a registered one, or one that a document at its id describes.

What a document said is held in memory until it is too old; a restart asks again. With a consent it goes into the
store like a registration, and that copy is what the token endpoint looks at: a refresh works although the document's
host is down, and asks nobody. A new authorization takes notice of what the document says by then.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog
import trio

from tenantry import web
from tenantry.config import Config
from tenantry.oauth import client_documents
from tenantry.oauth.client_documents import Location
from tenantry.oauth.clients import Client, client_of
from tenantry.oauth.errors import OAuthError
from tenantry.server.fetch import Fetched, FetchFailed
from tenantry.server.store import Store
from tenantry.server.throttle import Throttle

# Some 16 KiB each at the most.
REMEMBERED_MAX = 500
# Fetches that may begin, for one network that asks and for one host that is asked. Failures are not remembered
# (draft-00 section 4.3); this is what keeps a client that fails from being asked for again and again.
FETCHES_PER_MINUTE = 30

Fetch = Callable[[Location], Awaitable[Fetched]]

_log = structlog.get_logger()


@dataclass(slots=True)
class _Flight:
    """A fetch that is under way, for all who want its outcome; it has none where its task was cancelled."""

    over: trio.Event = field(default_factory=trio.Event)
    outcome: dict[str, Any] | OAuthError | None = None


class KnownClients:
    """Clients by their id, however they became known."""

    def __init__(self, *, config: Config, store: Store, fetch: Fetch, clock: Callable[[], float]) -> None:
        self._config = config
        self._store = store
        self._fetch = fetch
        self._clock = clock
        self._documents: OrderedDict[str, tuple[dict[str, Any], float]] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._by_network = Throttle(limit=FETCHES_PER_MINUTE, window_s=60, clock=clock)
        self._by_host = Throttle(limit=FETCHES_PER_MINUTE, window_s=60, clock=clock)

    async def find(self, client_id: str, *, peer: str) -> Client | None:
        """The client of that id, or None; `peer` is whose request wants to know.

        Raises `OAuthError` invalid_client where a document can't be had or used, and `web.HttpError` 429.
        """
        if not self._is_document(client_id):
            return await self._store.clients.find(client_id)
        return client_of(client_id, await self._document(client_id, peer))

    async def keep(self, client_id: str, *, peer: str) -> None:
        """Note that somebody consented to the client: what it says of itself now is what it is; raises as `find`."""
        if self._is_document(client_id):
            await self._store.clients.add(client_id, await self._document(client_id, peer), now=self._clock())

    def _is_document(self, client_id: str) -> bool:
        return self._config.clients.client_id_metadata_documents and client_documents.is_url(client_id)

    async def _document(self, url: str, peer: str) -> dict[str, Any]:
        metadata, good_until = self._documents.get(url, ({}, 0.0))
        if self._clock() < good_until:
            self._documents.move_to_end(url)
            return metadata
        while (flight := self._flights.get(url)) is not None:
            await flight.over.wait()
            if isinstance(flight.outcome, OAuthError):
                raise flight.outcome
            if flight.outcome is not None:
                return flight.outcome
        location = self._admitted(url, peer)
        flight = self._flights[url] = _Flight()
        try:
            flight.outcome = await self._fetched(url, location)
        except OAuthError as error:
            _log.info("a client's metadata document can't be used", client=url, reason=error.detail)
            flight.outcome = error
            raise
        finally:
            del self._flights[url]
            flight.over.set()
        return flight.outcome

    def _admitted(self, url: str, peer: str) -> Location:
        location = client_documents.location(url)
        if location.host == urlsplit(self._config.issuer).hostname:
            raise client_documents.unusable("our own host would ask itself")
        for throttle, key in ((self._by_network, web.network(peer)), (self._by_host, location.host)):
            wait_s = throttle.wait_s(key)
            if wait_s:
                message = "too many clients were looked up, try again later"
                raise web.HttpError(429, message, headers={"retry-after": str(int(wait_s) + 1)})
            throttle.count(key)
        return location

    async def _fetched(self, url: str, location: Location) -> dict[str, Any]:
        try:
            fetched = await self._fetch(location)
        except FetchFailed as error:
            raise client_documents.unusable(str(error)) from None
        metadata = client_documents.read(
            url,
            fetched.body,
            known_scopes=self._config.scopes,
            private_schemes=self._config.clients.private_schemes,
        )
        self._documents[url] = (metadata, self._clock() + client_documents.lifetime_s(fetched.cache_control))
        self._documents.move_to_end(url)
        if len(self._documents) > REMEMBERED_MAX:
            self._documents.popitem(last=False)
        return metadata
