"""The consent page and the decision on it.

Everything that is decided on is in the form, sealed and bound to the login session: what else a form holds does
not count. There is no remembered consent: the person is asked each time.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tenantry import web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.oauth import authorization, redirects, token
from tenantry.oauth.authorization import AuthorizationRequest
from tenantry.oauth.clients import Client
from tenantry.oauth.errors import OAuthError
from tenantry.server.browser import Pages, Seals, see_other
from tenantry.server.login_sessions import Session
from tenantry.server.services import Services

PAGE_S = 10 * 60


class Consent:
    """The consent page, and what the person decided on it."""

    def __init__(self, services: Services, *, pages: Pages, seals: Seals) -> None:
        self._config = services.config
        self._directory = services.directory
        self._store = services.store
        self._audit = services.audit
        self._pages = pages
        self._seals = seals
        self._clock = services.clock
        self._fresh = services.fresh

    def page(
        self, client: Client, asked: AuthorizationRequest, session: Session, parameters: Mapping[str, str]
    ) -> web.Response:
        """Ask the person; `parameters` is the request to begin again with for another account.

        Raises `OAuthError`, redirectable, where nothing can be granted or the person must not be asked.
        """
        grantable = self._directory().grantable(session.tenant, session.subject)
        scopes = authorization.narrow(asked.scopes, grantable)
        if "none" in asked.prompts:
            raise OAuthError("consent_required", "the person must be asked", redirectable=True)
        transaction = self._seals.seal(
            "consent",
            id=self._fresh(),
            session=session.digest,
            client_id=client.client_id,
            redirect_uri=asked.redirect_uri,
            state=asked.state,
            challenge=asked.challenge,
            scopes=scopes,
        )
        return self._pages.render(
            "consent.html",
            redirect_uri=asked.redirect_uri,
            sealed=transaction,
            sealed_again=self._seals.seal("logout", session=session.digest, query=urlencode(parameters)),
            client=client.name or "An application without a name",
            host=redirects.host(asked.redirect_uri),
            loopback=redirects.is_loopback(asked.redirect_uri),
            tenant=self._config.tenants[session.tenant].title or session.tenant,
            user=session.subject,
            scopes=[(name, self._config.scopes[name]) for name in scopes],
            site=redirects.host(self._config.issuer),
        )

    async def decide(self, request: web.Request, form: Mapping[str, str], session: Session | None) -> web.Response:
        """Apply the person's decision and lead back to the client.

        Raises `web.HttpError` for a form that is not this login session's, or was answered before.
        """
        state = self._seals.unseal("consent", form.get("sealed", ""), lifetime_s=PAGE_S)
        if session is None or state["session"] != session.digest:
            raise web.HttpError(403, "you are not logged in any more")
        if form.get("decision") not in ("allow", "deny"):
            raise web.HttpError(400, "choose to allow or to deny")
        client = await self._store.clients.find(state["client_id"])
        redirect_uri = authorization.redirect_uri_of({"redirect_uri": state["redirect_uri"]}, client)
        try:
            if form["decision"] == "allow":
                answer = {"code": await self._grant(request, session, state)}
            else:
                await self._record(Kind.CONSENT_DENIED, request, session, client=state["client_id"])
                answer = OAuthError("access_denied", "the person said no").body()
        except OAuthError as error:
            answer = error.body()
        url = authorization.response_url(redirect_uri, issuer=self._config.issuer, state=state["state"], **answer)
        return see_other(url)

    async def _grant(self, request: web.Request, session: Session, state: Mapping[str, Any]) -> str:
        grantable = self._directory().grantable(session.tenant, session.subject)
        code, now = self._fresh(), self._clock()
        grant = token.CodeGrant(
            family_id=self._fresh(),
            client_id=state["client_id"],
            tenant=session.tenant,
            subject=session.subject,
            scopes=authorization.narrow(tuple(state["scopes"]), grantable),
            redirect_uri=state["redirect_uri"],
            challenge=state["challenge"],
            expires_at=now + self._config.lifetimes.authorization_code_s,
            redeemed=False,
        )
        if not await self._store.grants.add_code(token.digest(code), grant, consent_id=state["id"], now=now):
            raise web.HttpError(403, "this page was answered before")
        await self._record(
            Kind.CONSENT_GRANTED,
            request,
            session,
            client=grant.client_id,
            family=grant.family_id,
            scope=" ".join(grant.scopes),
        )
        return code

    async def _record(self, kind: Kind, request: web.Request, session: Session, **fields: str) -> None:
        entry = record.encode(
            kind,
            time_us=int(self._clock() * 1_000_000),
            peer=request.peer,
            tenant=session.tenant,
            subject=session.subject,
            **fields,
        )
        await self._audit.append(entry)
