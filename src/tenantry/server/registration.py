"""Dynamic client registration (RFC 7591): who may register, how often, and what is kept of it.

Registering again is cheap: as long as nobody consented to it, an identical registration from the same network is
given the same id, and lives on. From the first consent on an id is given to nobody else, so that no stranger comes
into what a person granted. A secret can be told only once, so a client with one is never shared.
"""

import hashlib
import hmac
from typing import Any

from tenantry import web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.config import RegistrationPolicy
from tenantry.oauth import bearer, clients, token
from tenantry.oauth.errors import OAuthError
from tenantry.oauth.metadata import SECRET_METHODS
from tenantry.server.exchange import Exchange
from tenantry.server.json_answers import NEVER_STORED, Handler, answering_errors, json_answer
from tenantry.server.services import Services
from tenantry.server.throttle import Throttle

WINDOW_S = 60


class Registration:
    """The registration endpoint, where the policy has one."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._store = services.store
        self._audit = services.audit
        self._clock = services.clock
        self._fresh = services.fresh
        limits = services.config.limits
        self._by_network = Throttle(limit=limits.registrations_per_minute, window_s=WINDOW_S, clock=services.clock)
        self._in_all = Throttle(limit=limits.registrations_per_minute_in_all, window_s=WINDOW_S, clock=services.clock)

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Path -> method -> handler; nothing where registration is closed."""
        if self._config.clients.registration is RegistrationPolicy.CLOSED:
            return {}
        return {"/register": {"POST": answering_errors(self.register)}}

    async def register(self, exchange: Exchange) -> web.Response:
        """Register a client (RFC 7591 section 3)."""
        network = web.network(exchange.request.peer)
        self._count(network)
        self._admit(exchange.request)
        web.require_content_type(exchange.request, "application/json")
        body = await exchange.read_body(limit=clients.MAX_BODY)
        metadata = clients.register(
            body,
            known_scopes=self._config.scopes,
            private_schemes=self._config.clients.private_schemes,
        )
        now = self._clock()
        secret = None if _is_public(metadata) else self._fresh()
        registered = await self._store.clients.register(
            self._fresh(),
            metadata,
            network=network,
            fingerprint=clients.fingerprint(metadata, network=network) if secret is None else None,
            now=now,
            unused_s=self._config.lifetimes.unused_client_s,
            keep=self._config.limits.unused_clients,
            secret_digest=None if secret is None else token.digest(secret),
        )
        if registered.anew:
            await self._audit.append(
                record.encode(
                    Kind.CLIENT_REGISTERED,
                    time_us=int(now * 1_000_000),
                    client=registered.client_id,
                    peer=exchange.request.peer,
                )
            )
        answer = {"client_id": registered.client_id, "client_id_issued_at": int(registered.issued_at), **metadata}
        if secret is not None:
            answer |= {"client_secret": secret, "client_secret_expires_at": 0}
        return json_answer(201, answer, NEVER_STORED)

    def _count(self, network: str) -> None:
        for throttle, key in ((self._by_network, network), (self._in_all, None)):
            wait_s = throttle.wait_s(key)
            if wait_s:
                message = "too many registrations, try again later"
                raise web.HttpError(429, message, headers={"retry-after": str(int(wait_s) + 1)})
            throttle.count(key)

    def _admit(self, request: web.Request) -> None:
        """Raise `web.HttpError` 401 without a good initial access token, where one is asked for (RFC 7591 3)."""
        if self._config.clients.registration is not RegistrationPolicy.INITIAL_ACCESS_TOKEN:
            return
        error = {}
        try:
            digest = hashlib.sha256(bearer.read(request).encode()).hexdigest()
            if any(hmac.compare_digest(digest, known) for known in self._config.clients.initial_access_tokens):
                return
            error = {"error": "invalid_token"}
        except bearer.NoToken:
            pass
        except OAuthError as refused:
            if refused.error != "invalid_token":
                raise
            error = {"error": refused.error}
        challenge = web.bearer_challenge(realm="registration", **error)
        message = "registration needs an initial access token"
        raise web.HttpError(401, message, headers={"www-authenticate": challenge})


def _is_public(metadata: dict[str, Any]) -> bool:
    return metadata["token_endpoint_auth_method"] not in SECRET_METHODS
