"""Dynamic client registration (RFC 7591): who may register, how often, and what is kept of it."""

from tenantry import web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.oauth import clients
from tenantry.server.asgi import Exchange
from tenantry.server.json_answers import NEVER_STORED, Handler, answering_errors, json_answer
from tenantry.server.services import Services
from tenantry.server.throttle import Throttle

PURGE_EVERY_S = 600


class Registration:
    """The registration endpoint."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._store = services.store
        self._audit = services.audit
        self._clock = services.clock
        self._fresh = services.fresh
        self._registrations = Throttle(
            limit=services.config.limits.registrations_per_minute, window_s=60, clock=services.clock
        )
        self._purge_due = 0.0

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Path -> method -> handler."""
        return {"/register": {"POST": answering_errors(self.register)}}

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
