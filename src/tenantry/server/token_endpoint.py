"""The token and revocation endpoints.

Each one loads, lets `oauth.token` decide, applies the decision in one transaction, records it, and answers, in
this order: what was answered is durable and on record.
"""

from collections.abc import Awaitable, Callable, Mapping

from tenantry import web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.oauth import access_token, token
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError
from tenantry.server.client_authentication import authenticated_client
from tenantry.server.exchange import Exchange
from tenantry.server.json_answers import NEVER_STORED, json_answer, read_form
from tenantry.server.services import Services


class TokenEndpoint:
    """Gives and revokes tokens."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._directory = services.directory
        self._store = services.store
        self._audit = services.audit
        self._keys = services.keys
        self._authentication = services.authentication
        self._clock = services.clock
        self._fresh = services.fresh
        self._rules = services.config.lifetimes.refresh_rules
        self._grants: dict[str, Callable[[Mapping[str, str], Client, str], Awaitable[dict[str, object]]]] = {
            "authorization_code": self._redeem,
            "refresh_token": self._refresh,
            "client_credentials": self._serve_itself,
        }

    async def give(self, exchange: Exchange) -> web.Response:
        """Give tokens for an authorization code, a refresh token or a client's own account (OAuth 2.1 section 3.2)."""
        form = await read_form(exchange)
        grant_type = token.required(form, "grant_type")
        give = self._grants.get(grant_type)
        client = await authenticated_client(self._store, exchange.request, form)
        if give is None:
            raise OAuthError("unsupported_grant_type", f"grant_type must be one of {', '.join(self._grants)}")
        token.check_grant_type(client, grant_type)
        return json_answer(200, await give(form, client, exchange.request.peer), NEVER_STORED)

    async def revoke(self, exchange: Exchange) -> web.Response:
        """Revoke the family of an access token or refresh token (RFC 7009 section 2.1).

        200 for a token that is unknown or another client's: the answer is no oracle.
        """
        form = await read_form(exchange)
        client = await authenticated_client(self._store, exchange.request, form)
        grant = await self._granted(token.required(form, "token"))
        if grant is not None and grant.client_id == client.client_id:
            await self._end_family(Kind.TOKEN_REVOKED, grant, exchange.request.peer)
        return web.Response(status=200, headers=NEVER_STORED)

    async def _redeem(self, form: Mapping[str, str], client: Client, peer: str) -> dict[str, object]:
        digest = token.digest(token.required(form, "code"))
        grant = token.found(await self._store.grants.find_code(digest))
        now = self._clock()
        grantable = self._directory().grantable(grant.tenant, grant.subject)
        decision = token.redeem(
            form, grant, client_id=client.client_id, now=now, resource=self._config.resource, grantable=grantable
        )
        refresh_token = self._fresh() if client.refreshes else None
        refresh_digest = None if refresh_token is None else token.digest(refresh_token)
        if isinstance(decision, token.Issue) and await self._store.grants.redeem_code(
            digest, refresh_digest=refresh_digest, now=now
        ):
            minted = self._mint(grant, decision.scopes, now=now, family_created_at=now)
            await self._record(Kind.TOKEN_ISSUED, grant, peer, scopes=decision.scopes)
            return self._answer(minted, decision.scopes, refresh_token)
        await self._end_family(Kind.CODE_REUSED, grant, peer)
        raise token.invalid_grant("code redeemed before")

    async def _refresh(self, form: Mapping[str, str], client: Client, peer: str) -> dict[str, object]:
        presented = token.required(form, "refresh_token")
        successor = token.successor(presented, secret=self._keys.refresh_secret)
        grant, decision, now = await self._decide_refresh(form, client, presented)
        while isinstance(decision, token.Rotate) and not await self._store.grants.rotate_refresh_token(
            token.digest(presented), successor_digest=token.digest(successor), now=now
        ):
            # Somebody was faster, so what was decided on has changed: rotated now, or revoked.
            grant, decision, now = await self._decide_refresh(form, client, presented)
        if isinstance(decision, token.Reuse):
            await self._end_family(Kind.REFRESH_REUSED, grant, peer)
            raise token.invalid_grant("rotated before, and the grace window is over")
        minted = self._mint(grant, decision.scopes, now=now, family_created_at=grant.family_created_at)
        await self._record(Kind.TOKEN_REFRESHED, grant, peer, scopes=decision.scopes)
        return self._answer(minted, decision.scopes, successor)

    async def _decide_refresh(
        self, form: Mapping[str, str], client: Client, presented: str
    ) -> tuple[token.RefreshGrant, token.Issue | token.Rotate | token.Reuse, float]:
        grant = token.found(await self._store.grants.find_refresh_token(token.digest(presented)))
        now = self._clock()
        decision = token.refresh(
            form,
            grant,
            client_id=client.client_id,
            now=now,
            rules=self._rules,
            resource=self._config.resource,
            grantable=self._directory().grantable(grant.tenant, grant.subject),
        )
        return grant, decision, now

    async def _serve_itself(self, form: Mapping[str, str], client: Client, peer: str) -> dict[str, object]:
        """Give a service account an access token of a family of its own, and no refresh token (RFC 6749 4.4.3)."""
        now = self._clock()
        grant = token.of_service(
            form,
            client,
            family_id=self._fresh(),
            resource=self._config.resource,
            grantable=self._directory().grantable,
        )
        minted = self._mint(grant, grant.scopes, now=now, family_created_at=now)
        await self._record(Kind.TOKEN_ISSUED, grant, peer, scopes=grant.scopes)
        return self._answer(minted, grant.scopes, None)

    def _mint(
        self, grant: token.Grant, scopes: tuple[str, ...], *, now: float, family_created_at: float
    ) -> tuple[str, int]:
        lifetime_s = token.access_token_lifetime(
            now=now,
            lifetime_s=self._config.lifetimes.access_token_s,
            family_created_at=family_created_at,
            absolute_s=self._rules.absolute_s,
        )
        claims = access_token.Claims(
            issuer=self._config.issuer,
            audience=self._config.resource,
            subject=grant.subject,
            tenant=grant.tenant,
            client_id=grant.client_id,
            scopes=scopes,
            token_id=self._fresh(),
            family_id=grant.family_id,
            issued_at=int(now),
            expires_at=int(now) + lifetime_s,
        )
        return access_token.mint(claims, self._keys.now.signing), lifetime_s

    def _answer(self, minted: tuple[str, int], scopes: tuple[str, ...], refresh_token: str | None) -> dict[str, object]:
        encoded, lifetime_s = minted
        return token.response(access_token=encoded, expires_in=lifetime_s, scopes=scopes, refresh_token=refresh_token)

    async def _granted(self, presented: str) -> token.Grant | None:
        refresh = await self._store.grants.find_refresh_token(token.digest(presented))
        if refresh is not None:
            return refresh
        try:
            principal = self._authentication.bearer_of(presented)
        except OAuthError:
            return None
        return token.Grant(
            family_id=principal.family_id,
            client_id=principal.client_id,
            tenant=principal.tenant,
            subject=principal.subject,
            scopes=tuple(sorted(principal.scopes)),
        )

    async def _end_family(self, kind: Kind, grant: token.Grant, peer: str) -> None:
        now = self._clock()
        await self._store.endings.family(grant.family_id, now=now)
        await self._record(kind, grant, peer)

    async def _record(self, kind: Kind, grant: token.Grant, peer: str, *, scopes: tuple[str, ...] = ()) -> None:
        entry = record.encode(
            kind,
            time_us=int(self._clock() * 1_000_000),
            tenant=grant.tenant,
            subject=grant.subject,
            client=grant.client_id,
            family=grant.family_id,
            scope=" ".join(scopes) or None,
            peer=peer,
        )
        await self._audit.append(entry)
