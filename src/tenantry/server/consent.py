"""The consent page, the decision on it, and what of it is remembered.

Everything that is decided on is in the form, sealed and bound to the login session: of what else a form holds only
the ticks count, and they can but narrow.

A decision is remembered by person, client and redirect URI, and not asked for again while the same scopes or fewer
are wanted. Where the answer goes to a program on this machine the person is asked each time: any program can take
that place, so that nothing but the person says which one it is (RFC 8252 section 8.6).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from tenantry import web
from tenantry.audit.record import Kind
from tenantry.oauth import authorization, redirects, token
from tenantry.oauth.authorization import AuthorizationRequest
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError
from tenantry.server.browser import Pages, Seals, see_other
from tenantry.server.login_sessions import LoginSessions, Session
from tenantry.server.services import Services

PAGE_S = 10 * 60
# Before a scope's name, the name of its tick in the form.
TICK = "tick:"

# Both are a client's wish that the person looks, though they have decided before (OpenID Connect Core 3.1.2.1).
_PROMPTS_THAT_ASK = frozenset({"consent", "select_account"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What of an authorization request the decision is about."""

    client_id: str
    redirect_uri: str
    state: str | None
    challenge: str
    scopes: tuple[str, ...]

    @classmethod
    def unsealed(cls, values: dict[str, Any]) -> "_Wanted":
        return cls(**{**values, "scopes": tuple(values["scopes"])})


class Consent:
    """The consent page, and what the person decided on it."""

    def __init__(self, services: Services, *, pages: Pages, seals: Seals, sessions: LoginSessions) -> None:
        self._config = services.config
        self._directory = services.directory
        self._store = services.store
        self._clients = services.clients
        self._pages = pages
        self._seals = seals
        self._sessions = sessions
        self._clock = services.clock
        self._fresh = services.fresh

    async def answer(
        self,
        request: web.Request,
        client: Client,
        asked: AuthorizationRequest,
        session: Session,
        parameters: Mapping[str, str],
    ) -> web.Response:
        """Ask the person, or lead back at once where they have decided before.

        `parameters` is the request to begin again with for another account. Raises `OAuthError`, redirectable,
        where nothing can be granted or the person must not be asked.
        """
        grantable = self._directory().grantable(session.tenant, session.subject)
        wanted = _Wanted(
            client_id=client.client_id,
            redirect_uri=asked.redirect_uri,
            state=asked.state,
            challenge=asked.challenge,
            scopes=authorization.narrow(asked.scopes, grantable),
        )
        if not asked.prompts & _PROMPTS_THAT_ASK and await self._is_remembered(session, wanted):
            code = await self._give_code(
                request, session, wanted, scopes=wanted.scopes, consent_id=self._fresh(), reason="remembered"
            )
            return self._lead_back(wanted, code=code)
        if "none" in asked.prompts:
            raise OAuthError("consent_required", "the person must be asked", redirectable=True)
        return self._page(client, wanted, session, parameters)

    async def _is_remembered(self, session: Session, wanted: _Wanted) -> bool:
        allowed = await self._store.consents.find(
            **session.owner,
            client_id=wanted.client_id,
            redirect_uri=wanted.redirect_uri,
            since=self._clock() - self._config.lifetimes.refresh_absolute_s,
        )
        return allowed.issuperset(wanted.scopes)

    def _page(self, client: Client, wanted: _Wanted, session: Session, parameters: Mapping[str, str]) -> web.Response:
        sealed = self._seals.seal("consent", id=self._fresh(), session=session.digest, wanted=asdict(wanted))
        return self._pages.render(
            "consent.html",
            ends_at=(wanted.redirect_uri,),
            sealed=sealed,
            sealed_again=self._seals.seal("logout", session=session.digest, next=f"/authorize?{urlencode(parameters)}"),
            client=client.name or "An application without a name",
            client_host=redirects.host(client.client_id) if client.client_id.startswith("https://") else "",
            host=redirects.host(wanted.redirect_uri),
            loopback=redirects.is_local(wanted.redirect_uri),
            tenant=self._directory().tenants[session.tenant].title or session.tenant,
            user=session.subject,
            tick=TICK,
            scopes=[(name, self._config.scopes.get(name)) for name in wanted.scopes],
        )

    async def decide(self, request: web.Request, form: Mapping[str, str], session: Session | None) -> web.Response:
        """Apply the person's decision and lead back to the client; to allow without a tick is to deny.

        Raises `web.HttpError` for a form that is not this login session's, or was answered before.
        """
        state = self._seals.unseal("consent", form.get("sealed", ""), lifetime_s=PAGE_S)
        if session is None or state["session"] != session.digest:
            raise web.HttpError(403, "you are not logged in any more")
        if form.get("decision") not in ("allow", "deny"):
            raise web.HttpError(400, "choose to allow or to deny")
        wanted = _Wanted.unsealed(state["wanted"])
        client = await self._clients.find(wanted.client_id, peer=request.peer)
        authorization.redirect_uri_of({"redirect_uri": wanted.redirect_uri}, client)
        ticked = tuple(name for name in wanted.scopes if TICK + name in form)
        if form["decision"] == "deny" or not ticked:
            return await self._deny(request, session, wanted)
        try:
            code = await self._give_code(request, session, wanted, scopes=ticked, consent_id=state["id"])
        except OAuthError as error:
            return self._lead_back(wanted, **error.body())
        if not redirects.is_local(wanted.redirect_uri):  # RFC 8252 section 8.6
            await self._store.consents.remember(
                **session.owner,
                client_id=wanted.client_id,
                redirect_uri=wanted.redirect_uri,
                shown=wanted.scopes,
                granted=ticked,
                now=self._clock(),
            )
        return self._lead_back(wanted, code=code)

    async def _deny(self, request: web.Request, session: Session, wanted: _Wanted) -> web.Response:
        await self._store.consents.forget(**session.owner, client_id=wanted.client_id)
        await self._sessions.record(Kind.CONSENT_DENIED, request, **session.owner, client=wanted.client_id)
        return self._lead_back(wanted, **OAuthError("access_denied", "the person said no").body())

    def _lead_back(self, wanted: _Wanted, **answer: str) -> web.Response:
        return see_other(
            authorization.response_url(wanted.redirect_uri, issuer=self._config.issuer, state=wanted.state, **answer)
        )

    async def _give_code(
        self,
        request: web.Request,
        session: Session,
        wanted: _Wanted,
        *,
        scopes: tuple[str, ...],
        consent_id: str,
        reason: str | None = None,
    ) -> str:
        grantable = self._directory().grantable(session.tenant, session.subject)
        await self._clients.keep(wanted.client_id, peer=request.peer)
        code, now = self._fresh(), self._clock()
        grant = token.CodeGrant(
            family_id=self._fresh(),
            client_id=wanted.client_id,
            **session.owner,
            scopes=authorization.narrow(scopes, grantable),
            redirect_uri=wanted.redirect_uri,
            challenge=wanted.challenge,
            expires_at=now + self._config.lifetimes.authorization_code_s,
            redeemed=False,
        )
        if not await self._store.grants.add_code(token.digest(code), grant, consent_id=consent_id, now=now):
            raise web.HttpError(403, "this page was answered before")
        await self._sessions.record(
            Kind.CONSENT_GRANTED,
            request,
            **session.owner,
            client=grant.client_id,
            family=grant.family_id,
            scope=" ".join(grant.scopes),
            reason=reason,
        )
        return code
