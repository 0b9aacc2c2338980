"""The authorization endpoint and the login in front of it; the consent page behind it is in `consent`.

Between two requests the state is in the form, sealed and bound to the browser's cookie, so that nothing is kept
for strangers. Nobody gets past the login and the consent.
"""

from collections.abc import Mapping
from functools import wraps
from urllib.parse import urlencode

import structlog

from tenantry import web
from tenantry.config import Config
from tenantry.oauth import authorization, redirects, token
from tenantry.oauth.authorization import AuthorizationRequest
from tenantry.oauth.errors import OAuthError
from tenantry.server import account
from tenantry.server.account import Account
from tenantry.server.browser import Cookie, Pages, Seals, require_own_page, see_other
from tenantry.server.consent import Consent
from tenantry.server.exchange import Exchange
from tenantry.server.json_answers import Handler, read_form
from tenantry.server.login_sessions import MAX_USER_NAME, LoginRefused, LoginSessions
from tenantry.server.services import Services

# The query travels sealed inside the form, which is a third longer and must stay below `MAX_FORM`.
MAX_QUERY = 8 * 1024
# People leave a page open while they look for their password.
PAGE_S = 30 * 60
BROWSER_COOKIE_S = 24 * 3600

_BEGIN_AGAIN = "Close this page, go back to your application and begin again."
_REGISTER_AGAIN = f"{_BEGIN_AGAIN} If it fails once more, remove this server from the application and add it anew."
_WAIT = "Wait a moment, then go back and try again."

_log = structlog.get_logger()


class Login:
    """The pages that a person sees on the way to a grant."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._clients = services.clients
        self._fresh = services.fresh
        self._seals = Seals(keys=services.keys, clock=services.clock)
        self._pages = Pages(site=redirects.host(services.config.issuer), fresh=services.fresh)
        self._browser_cookie = Cookie("tenantry_browser", services.config)
        self._sessions = LoginSessions(services, seals=self._seals)
        self._account = Account(services, pages=self._pages, seals=self._seals, sessions=self._sessions)
        self._consent = Consent(services, pages=self._pages, seals=self._seals, sessions=self._sessions)

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Path -> method -> handler."""
        return {
            "/authorize": {"GET": self._answering_errors(self.authorize)},
            "/login": {"POST": self._answering_errors(self.log_in)},
            "/logout": {"POST": self._answering_errors(self.log_out)},
            "/consent": {"POST": self._answering_errors(self.consent)},
            account.PATH: {
                "GET": self._answering_errors(self.account),
                "POST": self._answering_errors(self.change_account),
            },
        }

    def _answering_errors(self, handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(exchange: Exchange) -> web.Response:
            try:
                return await handler(exchange)
            except web.HttpError as problem:
                return self._problem(problem.status, problem.message, problem.headers)
            except OAuthError as error:
                _log.info("refused", path=exchange.request.path, error=error.error, detail=error.detail)
                return self._problem(400, error.description, {}, advice=_REGISTER_AGAIN)

        return guarded

    def _problem(self, status: int, message: str, headers: Mapping[str, str], advice: str = "") -> web.Response:
        advice = advice or (_WAIT if "retry-after" in headers else _BEGIN_AGAIN)
        return self._pages.render(
            "error.html", status=status, headers=headers, message=message, advice=advice, back=None
        )

    async def authorize(self, exchange: Exchange) -> web.Response:
        """The authorization endpoint (OAuth 2.1 section 4.1.1): a page, or an error to the client."""
        request = exchange.request
        parameters = web.parse_form(request.query[: MAX_QUERY + 1])
        if max(len(request.query), len(urlencode(parameters))) > MAX_QUERY:
            raise web.HttpError(414, "the authorization request is too long")
        client = await self._clients.find(parameters.get("client_id", ""), peer=request.peer)
        redirect_uri = authorization.redirect_uri_of(parameters, client)
        if client is None:
            raise AssertionError("redirect_uri_of lets no unknown client through")
        try:
            asked = authorization.validate(
                parameters, client=client, redirect_uri=redirect_uri, resource=self._config.resource
            )
            session = await self._sessions.find(request)
            if session is None or "login" in asked.prompts:
                return self._login_first(request, asked, parameters)
            return await self._consent.answer(request, client, asked, session, parameters)
        except OAuthError as error:
            if not error.redirectable:
                raise
            return self._return_error(error, redirect_uri, parameters.get("state"))

    def _return_error(self, error: OAuthError, redirect_uri: str, state: str | None) -> web.Response:
        # Anybody can register a client, so an error that a link provokes must not carry people to any site by
        # itself (RFC 9700 section 4.11.2): only this machine is gone to at once, elsewhere the person decides.
        url = authorization.error_url(error, redirect_uri, issuer=self._config.issuer, state=state)
        if redirects.is_local(redirect_uri):
            return see_other(url)
        host = redirects.host(redirect_uri)
        return self._pages.render("error.html", status=400, message=error.description, back=url, host=host)

    def _login_first(
        self, request: web.Request, asked: AuthorizationRequest, parameters: Mapping[str, str]
    ) -> web.Response:
        if "none" in asked.prompts:
            raise OAuthError("login_required", "nobody is logged in", redirectable=True)
        again = urlencode(_without_login_prompt(parameters))
        return self._login_page(request, f"/authorize?{again}", redirect_uri=asked.redirect_uri)

    def _login_page(self, request: web.Request, after: str, *, redirect_uri: str | None) -> web.Response:
        browser = self._browser_cookie.read(request) or self._fresh()
        sealed = self._seals.seal("login", browser=token.digest(browser), next=after, redirect_uri=redirect_uri)
        return self._login_form(sealed, redirect_uri=redirect_uri, browser=browser)

    def _login_form(
        self,
        sealed: str,
        *,
        redirect_uri: str | None,
        browser: str,
        user: str = "",
        refused: LoginRefused | None = None,
    ) -> web.Response:
        return self._pages.render(
            "login.html",
            status=200 if refused is None else refused.status,
            ends_at=() if redirect_uri is None else (redirect_uri,),
            headers={"retry-after": str(refused.wait_s)} if refused is not None and refused.wait_s else {},
            cookies=(self._browser_cookie.set(browser, max_age_s=BROWSER_COOKIE_S),),
            sealed=sealed,
            problem="" if refused is None else refused.problem,
            user=user[:MAX_USER_NAME],
            host="" if redirect_uri is None else redirects.host(redirect_uri),
        )

    async def log_in(self, exchange: Exchange) -> web.Response:
        """Check user name and password; a right pair begins a new login session."""
        request = exchange.request
        form = await _own_form(exchange, self._config)
        sealed = form.get("sealed", "")
        state = self._seals.unseal("login", sealed, lifetime_s=PAGE_S)
        browser = self._browser_cookie.read(request)
        if browser is None or state["browser"] != token.digest(browser):
            raise web.HttpError(403, "this page was opened in another browser, or cookies are turned off")
        user = form.get("username", "")
        try:
            cookies = await self._sessions.begin(request, user=user, password=form.get("password", ""))
        except LoginRefused as refused:
            return self._login_form(
                sealed, redirect_uri=state["redirect_uri"], browser=browser, user=user, refused=refused
            )
        return see_other(state["next"], cookies=cookies)

    async def log_out(self, exchange: Exchange) -> web.Response:
        """End the login session and begin the authorization request again."""
        form = await _own_form(exchange, self._config)
        session = await self._sessions.find(exchange.request)
        state = self._seals.unseal("logout", form.get("sealed", ""), lifetime_s=PAGE_S)
        if session is None or state["session"] != session.digest:
            return see_other(state["next"])
        return see_other(state["next"], cookies=(await self._sessions.end(exchange.request, session),))

    async def consent(self, exchange: Exchange) -> web.Response:
        """Take the person's decision."""
        form = await _own_form(exchange, self._config)
        session = await self._sessions.find(exchange.request)
        return await self._consent.decide(exchange.request, form, session)

    async def account(self, exchange: Exchange) -> web.Response:
        """Show the person's account."""
        session = await self._sessions.find(exchange.request)
        if session is None:
            return self._login_page(exchange.request, account.PATH, redirect_uri=None)
        return await self._account.page(session)

    async def change_account(self, exchange: Exchange) -> web.Response:
        """End a grant or a login session of the person's."""
        form = await _own_form(exchange, self._config)
        session = await self._sessions.find(exchange.request)
        return await self._account.end(exchange.request, form.get("sealed", ""), session)


async def _own_form(exchange: Exchange, config: Config) -> dict[str, str]:
    require_own_page(exchange.request, config)
    return await read_form(exchange)


def _without_login_prompt(parameters: Mapping[str, str]) -> dict[str, str]:
    # `prompt=login` is done once the person has logged in; kept, it would ask for ever.
    prompts = " ".join(name for name in parameters.get("prompt", "").split(" ") if name != "login")
    others = {name: value for name, value in parameters.items() if name != "prompt"}
    return {**others, "prompt": prompts} if prompts else others
