"""What the parts of one server share."""

from collections.abc import Callable
from dataclasses import dataclass

from tenantry.config import Config
from tenantry.policy import Directory
from tenantry.server.audit_writer import Recorder
from tenantry.server.authentication import Authentication
from tenantry.server.client_documents import KnownClients
from tenantry.server.feed import Feed
from tenantry.server.keys import SigningKeys
from tenantry.server.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Made once, handed to whoever needs several of them."""

    config: Config
    directory: Callable[[], Directory]
    """Who exists by now: a reload changes it."""
    store: Store
    clients: KnownClients
    audit: Recorder
    keys: SigningKeys
    authentication: Authentication
    feed: Feed
    """What other processes changed."""
    clock: Callable[[], float]
    """Seconds since the epoch."""
    fresh: Callable[[], str]
    """A random string of at least 128 bits."""
