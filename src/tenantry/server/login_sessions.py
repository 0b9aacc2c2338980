"""Login sessions: who sits at the browser, and the one way to become somebody.

A login session is a row by the digest of its cookie. A password is verified only while the throttles allow it.
"""

from dataclasses import dataclass

from tenantry import web
from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.oauth import token
from tenantry.server.browser import Cookie
from tenantry.server.passwords import Busy, Passwords
from tenantry.server.services import Services
from tenantry.server.throttle import Throttle

MAX_USER_NAME = 64
# A peer may be a whole office behind one address, so it gets a multiple of what one name gets.
PEER_FACTOR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login session that was found."""

    digest: str
    tenant: str
    subject: str


class LoginRefused(Exception):
    """The login did not happen; `status` 403 for a wrong pair, 429 with `wait_s` seconds after too many of them."""

    def __init__(self, problem: str, *, status: int, wait_s: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status = status
        self.wait_s = wait_s


class LoginSessions:
    """Who is logged in, by which browser."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._directory = services.directory
        self._store = services.store
        self._audit = services.audit
        self._clock = services.clock
        self._fresh = services.fresh
        config, clock = services.config, services.clock
        self._passwords = Passwords(next((user.password_hash for user in config.users.values()), None))
        self._cookie = Cookie("tenantry_login", config)
        limit, window_s = config.limits.failed_logins, config.limits.failed_logins_window_s
        self._by_name = Throttle(limit=limit, window_s=window_s, clock=clock)
        self._by_peer = Throttle(limit=limit * PEER_FACTOR, window_s=window_s, clock=clock)

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
        # Who was taken out of the configuration, or moved to another tenant, is logged out by that.
        user = self._directory().users.get(subject)
        if user is None or user.tenant != tenant:
            return None
        return Session(digest=digest, tenant=tenant, subject=subject)

    async def begin(self, request: web.Request, *, user: str, password: str) -> str:
        """Verify the pair, begin a login session and give its `Set-Cookie` value.

        Raises `LoginRefused`, and `web.HttpError` 503 where too many passwords wait.
        """
        user = user[:MAX_USER_NAME]
        counted = ((self._by_name, (user, request.peer)), (self._by_peer, request.peer))
        wait_s = max(throttle.wait_s(key) for throttle, key in counted)
        if wait_s:
            seconds = int(wait_s) + 1
            problem = f"Too many failed attempts. Try again in {seconds} seconds."
            raise LoginRefused(problem, status=429, wait_s=seconds)
        for throttle, key in counted:
            throttle.count(key)
        if not await self._verified(user, password):
            # Somebody may have typed a password where the name belongs: only names that exist are recorded.
            await self._record(Kind.LOGIN_FAILED, request, subject=user if user in self._config.users else None)
            raise LoginRefused("User name or password is wrong.", status=403)
        for throttle, key in counted:
            throttle.forgive(key)
        return await self._begin(request, user)

    async def _verified(self, user: str, password: str) -> bool:
        section = self._config.users.get(user)
        try:
            return await self._passwords.verify(password, None if section is None else section.password_hash)
        except Busy:
            message = "too many people are logging in, try again"
            raise web.HttpError(503, message, headers={"retry-after": "5"}) from None

    async def _begin(self, request: web.Request, user: str) -> str:
        # A new secret at each login: one that was planted before is worth nothing afterwards.
        cookie = self._fresh()
        before = self._cookie.read(request)
        tenant = self._config.users[user].tenant
        lifetime_s = self._config.lifetimes.login_session_s
        await self._store.login_sessions.add(
            token.digest(cookie),
            tenant=tenant,
            subject=user,
            expires_at=self._clock() + lifetime_s,
            instead_of=None if before is None else token.digest(before),
        )
        await self._record(Kind.LOGIN, request, tenant=tenant, subject=user)
        return self._cookie.set(cookie, max_age_s=lifetime_s)

    async def end(self, session: Session) -> str:
        """Forget the login session and give the `Set-Cookie` value that makes the browser forget it too."""
        await self._store.login_sessions.end(session.digest)
        return self._cookie.set("", max_age_s=0)

    async def _record(self, kind: Kind, request: web.Request, **fields: str | None) -> None:
        entry = record.encode(kind, time_us=int(self._clock() * 1_000_000), peer=request.peer, **fields)
        await self._audit.append(entry)
