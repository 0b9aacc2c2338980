"""The introspection endpoint: whether a token counts at this moment, and for what (RFC 7662)."""

from tenantry import web
from tenantry.oauth import introspection, token
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError
from tenantry.server.client_authentication import authenticated_client
from tenantry.server.exchange import Exchange
from tenantry.server.json_answers import NEVER_STORED, Handler, answering_errors, json_answer, read_form
from tenantry.server.services import Services


class Introspection:
    """Answers clients with a secret, in the same words about what is unknown, ended and somebody else's."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._directory = services.directory
        self._store = services.store
        self._authentication = services.authentication
        self._clock = services.clock

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Path -> method -> handler."""
        return {"/introspect": {"POST": answering_errors(self.introspect)}}

    async def introspect(self, exchange: Exchange) -> web.Response:
        """Say what a token is good for; 200 whatever it is (RFC 7662 section 2.2)."""
        form = await read_form(exchange)
        client = await authenticated_client(self._store, exchange.request, form)
        introspection.check_asker(client)
        presented = token.required(form, "token")
        found = self._access_token(presented, client) or await self._refresh_token(presented, client)
        return json_answer(200, found or introspection.INACTIVE, NEVER_STORED)

    def _access_token(self, presented: str, client: Client) -> dict[str, object] | None:
        try:
            principal = self._authentication.bearer_of(presented)
        except OAuthError:
            return None
        trusted = self._config.clients.introspecting
        if not introspection.may_see_access_token(
            client, tenant=principal.tenant, client_id=principal.client_id, trusted=trusted
        ):
            return None
        return introspection.of_access_token(principal, issuer=self._config.issuer, audience=self._config.resource)

    async def _refresh_token(self, presented: str, client: Client) -> dict[str, object] | None:
        grant = await self._store.grants.find_refresh_token(token.digest(presented))
        if grant is None:
            return None
        try:
            decision = token.refresh(
                {},
                grant,
                client_id=client.client_id,
                now=self._clock(),
                rules=self._config.lifetimes.refresh_rules,
                resource=self._config.resource,
                grantable=self._directory().grantable(grant.tenant, grant.subject),
            )
        except OAuthError:
            return None
        # Asking is no use: a token that would count as reused is not active, and nothing more happens.
        return (
            None
            if isinstance(decision, token.Reuse)
            else introspection.of_refresh_token(grant, issuer=self._config.issuer)
        )
