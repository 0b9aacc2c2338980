"""Login sessions: who sits at the browser, and the one way to become somebody.

A login session is a row by the digest of its cookie. A password is verified only while the throttles allow it.
"""

from dataclasses import dataclass

from tenantry import web
from tenantry.audit import denials, record
from tenantry.audit.denials import Denial
from tenantry.audit.record import Kind
from tenantry.oauth import token
from tenantry.policy import User
from tenantry.server.browser import Cookie, Seals
from tenantry.server.login_throttle import Attempt, KnownBrowsers, LoginThrottle
from tenantry.server.passwords import NOBODY, Busy, Passwords
from tenantry.server.services import Services

MAX_USER_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login session that was found."""

    digest: str
    tenant: str
    subject: str

    @property
    def owner(self) -> dict[str, str]:
        """Whose it is."""
        return {"tenant": self.tenant, "subject": self.subject}


class LoginRefused(Exception):
    """The login did not happen; `status` 403 for a wrong pair, 429 with `wait_s` seconds after too many of them."""

    def __init__(self, problem: str, *, status: int, wait_s: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status = status
        self.wait_s = wait_s


class LoginSessions:
    """Who is logged in, by which browser."""

    def __init__(self, services: Services, *, seals: Seals) -> None:
        self._config = services.config
        self._directory = services.directory
        self._feed = services.feed
        self._store = services.store
        self._audit = services.audit
        self._clock = services.clock
        self._fresh = services.fresh
        self._seals = seals
        self._passwords = Passwords()
        self._cookie = Cookie("tenantry_login", services.config)
        self._known_browsers = KnownBrowsers(services.config, seals=seals, fresh=services.fresh)
        self._throttle = LoginThrottle(services.config, services.clock)

    async def find(self, request: web.Request) -> Session | None:
        """The login session of the browser that sent `request`, or None."""
        cookie = self._cookie.read(request)
        if cookie is None:
            return None
        digest = token.digest(cookie)
        found = await self._store.login_sessions.find(digest, now=self._clock())
        if found is None:
            return None
        tenant, subject = found
        # Who has left the directory, or moved to another tenant, is logged out by that.
        self._feed.look()
        if not self._directory().knows(tenant, subject):
            return None
        return Session(digest=digest, tenant=tenant, subject=subject)

    async def begin(self, request: web.Request, *, user: str, password: str) -> tuple[str, str]:
        """Verify the pair, begin a login session and give its `Set-Cookie` values.

        Raises `LoginRefused`, and `web.HttpError` 503 where too many passwords wait.
        """
        user = user[:MAX_USER_NAME]
        self._feed.look()
        person = self._person(user)
        decoy = self._decoy(user)
        known = self._known_browsers.read(request, user, decoy if person is None else person.password_hash)
        attempt = self._throttle.attempt(user, request.peer, known)
        # Somebody may have typed a password where the name belongs: only names that exist are recorded.
        named = None if person is None else user
        if attempt.wait_s:
            await self._record_throttled(request, attempt, named)
            seconds = int(attempt.wait_s) + 1
            problem = f"Too many failed attempts. Try again in {seconds} seconds."
            raise LoginRefused(problem, status=429, wait_s=seconds)
        attempt.count()
        right = await self._verified(password, None if person is None else person.password_hash, decoy)
        if person is None or not right:
            await self.record(Kind.LOGIN_FAILED, request, subject=named)
            raise LoginRefused("User name or password is wrong.", status=403)
        attempt.forgive()
        session = await self._begin(request, user, person.tenant)
        return session, self._known_browsers.remember(user, person.password_hash)

    def _decoy(self, user: str) -> str:
        """The hash to verify where there is no such user: for one name always the same, and like the others' hashes."""
        hashes = [person.password_hash for person in self._directory().users.values() if person.password_hash]
        return hashes[int(token.digest(self._seals.sign("decoy", user)), 16) % len(hashes)] if hashes else NOBODY

    def _person(self, user: str) -> User | None:
        person = self._directory().users.get(user)
        return person if person is not None and person.password_hash else None

    async def _verified(self, password: str, password_hash: str | None, decoy: str) -> bool:
        try:
            return await self._passwords.verify(password, password_hash, decoy=decoy)
        except Busy:
            message = "too many people are logging in"
            raise web.HttpError(503, message, headers={"retry-after": "5"}) from None

    async def _record_throttled(self, request: web.Request, attempt: Attempt, named: str | None) -> None:
        # Whoever is refused here goes on knocking: beyond a number such records are summed up.
        time_us = int(self._clock() * 1_000_000)
        entry = record.encode(Kind.LOGIN_THROTTLED, time_us=time_us, peer=request.peer, subject=named)
        alike = denials.about(subject=named, peer=attempt.network, reason=Kind.LOGIN_THROTTLED.value)
        await self._audit.append_denial(entry, Denial(alike, time_us))

    async def _begin(self, request: web.Request, user: str, tenant: str) -> str:
        # A new secret at each login: one that was planted before is worth nothing afterwards.
        cookie = self._fresh()
        before = self._cookie.read(request)
        lifetime_s = self._config.lifetimes.login_session_s
        await self._store.login_sessions.add(
            token.digest(cookie),
            tenant=tenant,
            subject=user,
            peer=request.peer,
            now=self._clock(),
            expires_at=self._clock() + lifetime_s,
            instead_of=None if before is None else token.digest(before),
        )
        await self.record(Kind.LOGIN, request, tenant=tenant, subject=user)
        return self._cookie.set(cookie, max_age_s=lifetime_s)

    async def end(self, request: web.Request, session: Session) -> str:
        """Forget the login session and give the `Set-Cookie` value that makes the browser forget it too."""
        await self._store.login_sessions.end(session.digest, **session.owner)
        await self.record(Kind.LOGOUT, request, **session.owner)
        return self._cookie.set("", max_age_s=0)

    async def record(self, kind: Kind, request: web.Request, **fields: str | None) -> None:
        """Return when the audit log holds that this happened now, and where."""
        entry = record.encode(kind, time_us=int(self._clock() * 1_000_000), peer=request.peer, **fields)
        await self._audit.append(entry)
