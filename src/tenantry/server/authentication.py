"""The resource server's question: who bears this request's access token."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import structlog
import trio

from tenantry import web
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.oauth import access_token, bearer
from tenantry.oauth.errors import OAuthError
from tenantry.policy import Directory
from tenantry.server.feed import Feed
from tenantry.server.keys import SigningKeys
from tenantry.server.revocations import Revocations

# Some 1 KiB each. A signature costs a hundred times what finding its digest here does.
REMEMBERED_MAX = 10_000

_log = structlog.get_logger()


class Authentication:
    """Verifies access tokens, each once: what was verified is remembered by digest until it expires.

    A revocation counts at once all the same, whichever process it came from: on every request the feed is heard
    and the grant looked up. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        *,
        keys: SigningKeys,
        feed: Feed,
        directory: Callable[[], Directory],
        config: Config,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._feed = feed
        self._revocations = Revocations(feed)
        self._directory = directory
        self._config = config
        self._clock = clock
        self._verified_by = keys.now.verification
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()

    def principal(self, request: web.Request) -> Principal:
        """Say who bears the request's access token.

        Raises `web.HttpError` with its challenge: 401 without an access token and, in the same words whether it is
        expired, forged or revoked, with a bad one; 400 for a malformed request (RFC 6750 section 3.1).
        """
        try:
            return self._bearer_of(request.once(_digest_in), partial(bearer.read, request))
        except bearer.NoToken:
            challenge = bearer.challenge(self._config)
            raise web.HttpError(401, "an access token is needed", headers={"www-authenticate": challenge}) from None
        except OAuthError as error:
            raise self.refused(error) from None

    def bearer_of(self, token: str) -> Principal:
        """Say whose access token this is; raises `OAuthError` invalid_token for one that does not count now."""
        return self._bearer_of(_digest(token), lambda: token)

    def _bearer_of(self, digest: bytes, token: Callable[[], str]) -> Principal:
        self._feed.look()
        principal = self._remembered(digest) or self._verify(token(), digest)
        if not self.stands(principal):
            raise access_token.refusal("the grant has ended")
        return principal

    def refused(self, error: OAuthError) -> web.HttpError:
        """The answer to a request whose access token is refused."""
        _log.debug("an access token was refused", error=error.error, detail=error.detail)
        challenge = bearer.challenge(self._config, error=error)
        return web.HttpError(error.status, error.description, headers={"www-authenticate": challenge})

    def deadline(self, principal: Principal) -> float:
        """When what streams on behalf of `principal` must end, on trio's clock: no text says, so with its token."""
        return trio.current_time() + principal.expires_at + access_token.LEEWAY_S - self._clock()

    def stands(self, principal: Principal) -> bool:
        """Tell whether the grant behind a verified access token still counts, as far as the feed was heard."""
        return not self._revocations.is_revoked(principal) and self._directory().knows(
            principal.tenant, principal.subject
        )

    def _remembered(self, digest: bytes) -> Principal | None:
        known = self._verified.get(digest)
        if known is None or self._keys.now.verification is not self._verified_by:
            return None
        return known if self._counts(known) else None

    def _verify(self, token: str, digest: bytes) -> Principal:
        keys = self._keys.now.verification
        if keys is not self._verified_by:
            self._verified_by = keys
            self._verified.clear()
        principal = access_token.verify(
            token,
            keys=keys,
            issuer=self._config.issuer,
            audience=self._config.resource,
            now=self._clock(),
        )
        self._verified[digest] = principal
        self._forget()
        return principal

    def _forget(self) -> None:
        # All live about equally long: those that were verified first end first.
        while self._verified and (
            len(self._verified) > REMEMBERED_MAX or not self._counts(next(iter(self._verified.values())))
        ):
            self._verified.popitem(last=False)

    def _counts(self, principal: Principal) -> bool:
        return self._clock() < principal.expires_at + access_token.LEEWAY_S


def _digest_in(request: web.Request) -> bytes:
    return _digest(bearer.read(request))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii", "replace")).digest()
