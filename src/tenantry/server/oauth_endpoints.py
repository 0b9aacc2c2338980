"""The endpoints that programs talk to, and the resource server's question: who is calling.

Metadata, keys and registration are answered here, what concerns tokens by `token_endpoint`.
"""

import structlog

from tenantry import web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.oauth import clients, metadata
from tenantry.server.asgi import Exchange
from tenantry.server.json_answers import NEVER_STORED, Handler, answering_errors, document, json_answer
from tenantry.server.services import Services
from tenantry.server.throttle import Throttle
from tenantry.server.token_endpoint import TokenEndpoint

PURGE_EVERY_S = 600

_log = structlog.get_logger()


class OAuthEndpoints:
    """Metadata, keys and registration."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._store = services.store
        self._audit = services.audit
        self._keys = services.keys
        self._clock = services.clock
        self._fresh = services.fresh
        self._tokens = TokenEndpoint(services)
        self._registrations = Throttle(
            limit=services.config.limits.registrations_per_minute, window_s=60, clock=services.clock
        )
        self._purge_due = 0.0

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Path -> method -> handler."""
        config = self._config
        server = metadata.authorization_server(issuer=config.issuer, scopes=config.scopes)
        resource = metadata.protected_resource(resource=config.resource, issuer=config.issuer, scopes=config.scopes)
        return {
            metadata.AUTHORIZATION_SERVER_PATH: {"GET": document(server)},
            metadata.protected_resource_path(config.resource): {"GET": document(resource)},
            "/jwks": {"GET": document(self._keys.key_set())},
            "/register": {"POST": answering_errors(self.register)},
            "/token": {"POST": answering_errors(self._tokens.give)},
            "/revoke": {"POST": answering_errors(self._tokens.revoke)},
        }

    async def register(self, exchange: Exchange) -> web.Response:
        """Register a client (RFC 7591 section 3)."""
        peer = exchange.request.peer
        wait_s = self._registrations.wait_s(peer)
        if wait_s:
            message = "too many registrations from this address, try again later"
            raise web.HttpError(429, message, headers={"retry-after": str(int(wait_s) + 1)})
        self._registrations.count(peer)
        web.require_content_type(exchange.request, "application/json")
        body = await exchange.read_body(limit=clients.MAX_BODY)
        registered = clients.register(body, known_scopes=self._config.scopes)
        now = self._clock()
        client_id = self._fresh()
        await self._purge(now)
        await self._store.clients.add(client_id, registered, now=now)
        entry = record.encode(Kind.CLIENT_REGISTERED, time_us=int(now * 1_000_000), client=client_id, peer=peer)
        await self._audit.append(entry)
        answer = {"client_id": client_id, "client_id_issued_at": int(now), **registered}
        return json_answer(201, answer, NEVER_STORED)

    async def _purge(self, now: float) -> None:
        if now >= self._purge_due:
            self._purge_due = now + PURGE_EVERY_S
            await self._store.purge(now=now, family_s=self._config.lifetimes.refresh_absolute_s)
