"""The account page: what a person has granted and where they are logged in, and the end of either.

What is to be ended is sealed in each form and bound to the login session, so that no other site's form ends anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tenantry import web
from tenantry.audit.record import Kind
from tenantry.oauth import redirects
from tenantry.server.browser import Pages, Seals, see_other
from tenantry.server.login_sessions import LoginSessions, Session
from tenantry.server.services import Services
from tenantry.server.store.consents import RememberedConsent
from tenantry.server.store.grants import StoredGrant
from tenantry.server.store.login_sessions import StoredLoginSession

PAGE_S = 30 * 60
PATH = "/account"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Application:
    name: str
    host: str
    meanings: tuple[str, ...]
    since: float
    last_used: float | None
    sealed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoggedIn:
    here: bool
    peer: str
    since: float
    until: float
    sealed: str


class Account:
    """The page of somebody who is logged in."""

    def __init__(self, services: Services, *, pages: Pages, seals: Seals, sessions: LoginSessions) -> None:
        self._config = services.config
        self._directory = services.directory
        self._store = services.store
        self._clock = services.clock
        self._pages = pages
        self._seals = seals
        self._sessions = sessions

    async def page(self, session: Session) -> web.Response:
        """List what the person granted, by application, and their login sessions."""
        now = self._clock()
        logins = await self._store.login_sessions.of(**session.owner, now=now)
        return self._pages.render(
            "account.html",
            ends_at=(),
            user=session.subject,
            tenant=self._directory().tenants[session.tenant].title or session.tenant,
            applications=[self._application(session, each) for each in await self._granted(session, now)],
            sessions=sorted((self._logged_in(session, each) for each in logins), key=lambda each: not each.here),
        )

    async def _granted(self, session: Session, now: float) -> Iterable[list[StoredGrant | RememberedConsent]]:
        oldest = now - self._config.lifetimes.refresh_absolute_s
        by_client: dict[str, list[StoredGrant | RememberedConsent]] = {}
        for grant in await self._store.grants.standing(**session.owner):
            if self._is_alive(grant, now):
                by_client.setdefault(grant.client_id, []).append(grant)
        for consent in await self._store.consents.of(**session.owner, since=oldest):
            by_client.setdefault(consent.client_id, []).append(consent)
        return by_client.values()

    def _is_alive(self, grant: StoredGrant, now: float) -> bool:
        lifetimes = self._config.lifetimes
        idle_s = lifetimes.refresh_idle_s if grant.refreshes else lifetimes.access_token_s
        return now < grant.since + lifetimes.refresh_absolute_s and now < grant.last_used + idle_s

    def _application(self, session: Session, granted: list[StoredGrant | RememberedConsent]) -> _Application:
        scopes = {name for each in granted for name in each.scopes}
        addresses = [uri for each in granted for uri in each.redirect_uris]
        return _Application(
            name=granted[0].client_name or "An application without a name",
            host=", ".join(dict.fromkeys(map(redirects.host, addresses))),
            meanings=tuple(self._config.scopes.get(name) or name for name in sorted(scopes)),
            since=min(each.since for each in granted),
            last_used=max((each.last_used for each in granted if isinstance(each, StoredGrant)), default=None),
            sealed=self._seal(session, client=granted[0].client_id),
        )

    def _logged_in(self, session: Session, login: StoredLoginSession) -> _LoggedIn:
        return _LoggedIn(
            here=login.digest == session.digest,
            peer=login.peer,
            since=login.since,
            until=login.until,
            sealed=self._seal(session, login=login.digest),
        )

    def _seal(self, session: Session, **what: str) -> str:
        return self._seals.seal("account", session=session.digest, **what)

    async def end(self, request: web.Request, sealed: str, session: Session | None) -> web.Response:
        """End what the form names, and show the page again.

        Raises `web.HttpError` for a form that is not this login session's.
        """
        what = self._seals.unseal("account", sealed, lifetime_s=PAGE_S)
        if session is None or what["session"] != session.digest:
            raise web.HttpError(403, "you are not logged in any more")
        if "client" in what:
            await self._withdraw(request, session, what["client"])
        elif what["login"] == session.digest:
            return see_other(PATH, cookies=(await self._sessions.end(request, session),))
        elif await self._store.login_sessions.end(what["login"], **session.owner):
            await self._sessions.record(Kind.LOGIN_SESSION_ENDED, request, **session.owner)
        return see_other(PATH)

    async def _withdraw(self, request: web.Request, session: Session, client_id: str) -> None:
        await self._store.endings.consent(**session.owner, client_id=client_id, now=self._clock())
        await self._sessions.record(Kind.CONSENT_WITHDRAWN, request, **session.owner, client=client_id)
