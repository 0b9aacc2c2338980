"""The one place where the parts of a server meet: built, and not running yet."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tenantry import web
from tenantry.config import Config
from tenantry.mcp.offer import Offer
from tenantry.policy import Directory
from tenantry.server.admission import Admission
from tenantry.server.app import ANY, App, Routes
from tenantry.server.audit_endpoint import AuditEndpoint
from tenantry.server.audit_tail import AuditTail
from tenantry.server.audit_writer import AuditWriter
from tenantry.server.authentication import Authentication
from tenantry.server.bus import Bus
from tenantry.server.calls import Calls
from tenantry.server.changes import Changes, World
from tenantry.server.client_documents import Fetch, KnownClients
from tenantry.server.event_store import EventStore
from tenantry.server.features import Features
from tenantry.server.feed import Feed
from tenantry.server.fetch import Fetcher
from tenantry.server.figures import Figures
from tenantry.server.keys import SigningKeys
from tenantry.server.legacy import LegacyEra
from tenantry.server.login import Login
from tenantry.server.mcp_endpoint import McpEndpoint
from tenantry.server.modern import ModernEra, RequestStates
from tenantry.server.oauth_endpoints import OAuthEndpoints
from tenantry.server.ongoing import Ongoing
from tenantry.server.people import peopled
from tenantry.server.services import Services
from tenantry.server.sessions import Sessions
from tenantry.server.store import Store
from tenantry.server.store.announcements import Kind as Announced
from tenantry.server.tasks import Tasks
from tenantry.server.turns import Turns


def fresh() -> str:
    """Give 256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A server that is built and does not run yet."""

    app: App
    sessions: Sessions
    tasks: Tasks
    changes: Changes
    feed: Feed
    admission: Admission
    turns: Turns


def build(
    config: Config,
    *,
    offer: Offer,
    data: Path,
    store: Store,
    audit: AuditWriter,
    sites: web.Sites,
    bus: Bus,
    figures: Figures,
    clock: Callable[[], float] = time.time,
    fetch: Fetch | None = None,
) -> Parts:
    """Wire everything up: the one place where the parts meet.

    `fetch` gets clients' metadata documents; without it they come from the net.
    """
    changes = Changes(World(config.directory(), offer), bus, people=partial(peopled, store=store))
    feed = Feed(store.announcements)
    keys = SigningKeys(store, feed=feed, clock=clock)
    feed.subscribe(lambda _: changes.people_changed(), Announced.PEOPLE_CHANGED)
    sessions = Sessions(store=store, feed=feed, bus=bus, config=config, clock=clock, fresh=fresh)
    events = EventStore(store, bus=bus, fresh=fresh)
    states = RequestStates(keys.seal_key, clock)

    def directory() -> Directory:
        return changes.world.directory

    authentication = Authentication(keys=keys, feed=feed, directory=directory, config=config, clock=clock)
    ongoing = Ongoing(feed, stands=authentication.stands)
    calls = Calls(
        directory=directory,
        audit=audit,
        figures=figures,
        clock=clock,
        mode=config.mode.value,
        timeout_s=config.limits.tool_timeout_s,
    )
    turns = Turns(weight=config.weight_of)
    features = Features(config=config, changes=changes, calls=calls, ongoing=ongoing, turns=turns, seal=states.seal)
    tasks = Tasks(
        store=store, calls=calls, audit=audit, changes=changes, bus=bus, ongoing=ongoing, clock=clock, fresh=fresh
    )
    admission = Admission(config)
    audit.under_way = lambda: admission.under_way
    endpoint = McpEndpoint(
        config=config,
        authentication=authentication,
        ongoing=ongoing,
        admission=admission,
        turns=turns,
        features=features,
        legacy=LegacyEra(
            config=config,
            features=features,
            changes=changes,
            sessions=sessions,
            events=events,
            audit=audit,
            bus=bus,
            clock=clock,
        ),
        modern=ModernEra(features=features, changes=changes, tasks=tasks, states=states),
    )
    services = Services(
        config=config,
        directory=directory,
        store=store,
        clients=KnownClients(
            config=config,
            store=store,
            fetch=fetch or Fetcher(ports=config.clients.document_ports).get,
            clock=clock,
        ),
        audit=audit,
        keys=keys,
        authentication=authentication,
        feed=feed,
        clock=clock,
        fresh=fresh,
    )
    routes: Routes = {
        "/mcp": {ANY: endpoint.handle},
        **OAuthEndpoints(services).routes(),
        **Login(services).routes(),
        **AuditEndpoint(data).routes(),
        **AuditTail(
            data, config=config, audit=audit, authentication=authentication, directory=directory, ongoing=ongoing
        ).routes(),
    }
    feed.look()
    return Parts(
        app=App(routes, sites, answered=figures.request),
        sessions=sessions,
        tasks=tasks,
        changes=changes,
        feed=feed,
        admission=admission,
        turns=turns,
    )
