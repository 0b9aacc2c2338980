"""What the pages for people share: templates, headers, cookies, and the check that a form came from our own page."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import jinja2

from tenantry import web
from tenantry.config import Config
from tenantry.oauth import redirects, sealing
from tenantry.server.keys import SigningKeys

# `same-origin` and not `no-referrer`: with the latter Chromium sends `Origin: null` with our own forms.
PAGE_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


_VALUE = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Pages:
    """Renders templates; `site` is the host that each page names, `fresh` gives the nonce of the one style sheet."""

    def __init__(self, *, site: str, fresh: Callable[[], str]) -> None:
        self._site = site
        self._fresh = fresh
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tenantry.server", "pages"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
        )
        self._templates.filters.update(sentence=_sentence, moment=_moment)

    def render(
        self,
        template: str,
        *,
        status: int = 200,
        ends_at: tuple[str, ...] | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: tuple[str, ...] = (),
        **values: object,
    ) -> web.Response:
        """Build a page; for one with forms `ends_at` names where else than here their redirects may end."""
        nonce = self._fresh()
        # Chromium holds the whole chain of redirects after a form to this list.
        sources = ("'none'",) if ends_at is None else ("'self'", *map(redirects.form_source, ends_at))
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; form-action {' '.join(sources)}; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        body = self._templates.get_template(template).render(nonce=nonce, site=self._site, **values)
        return web.Response(
            status=status,
            headers={**PAGE_HEADERS, "content-security-policy": policy, **(headers or {})},
            body=body.encode("utf-8"),
            cookies=cookies,
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _moment(time_s: float) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%-d %B %Y, %H:%M} UTC"


class Seals:
    """Seals and unseals what forms carry; `clock` gives seconds since the epoch."""

    def __init__(self, *, keys: SigningKeys, clock: Callable[[], float]) -> None:
        self._key = keys.seal_key
        self._clock = clock

    def seal(self, purpose: str, **values: object) -> str:
        """Seal JSON values for one purpose."""
        return sealing.seal(purpose, values, key=self._key, now=self._clock())

    def sign(self, purpose: str, *values: str) -> str:
        """Give a signature of ours over text values for one purpose."""
        return sealing.sign(purpose, *values, key=self._key)

    def unseal(self, purpose: str, sealed: str, *, lifetime_s: int) -> dict[str, Any]:
        """Give the values back; raises `web.HttpError` 403 for a value that is not ours or too old."""
        try:
            return sealing.unseal(purpose, sealed, key=self._key, now=self._clock(), lifetime_s=lifetime_s)
        except sealing.BrokenSeal:
            raise web.HttpError(403, "this page is out of date") from None


def see_other(url: str, *, cookies: tuple[str, ...] = ()) -> web.Response:
    """Go on to `url` by GET: 303 never sends a form's secrets along (RFC 9700 section 4.12)."""
    headers = {"location": url, "cache-control": "no-store", "referrer-policy": "same-origin"}
    return web.Response(status=303, headers=headers, cookies=cookies)


class Cookie:
    """One cookie of ours: `__Host-` and Secure on https, so that no neighbouring host can plant it."""

    def __init__(self, name: str, config: Config) -> None:
        self._name = f"__Host-{name}" if config.secure else name
        self._attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if config.secure else "")

    def read(self, request: web.Request) -> str | None:
        """The value that the browser sent, or None where it can't be one of ours."""
        value = web.parse_cookies(request.headers.get("cookie")).get(self._name, "")
        return value if _VALUE.fullmatch(value) else None

    def set(self, value: str, *, max_age_s: int) -> str:
        """The `Set-Cookie` value; a `max_age_s` of 0 makes the browser forget it."""
        return f"{self._name}={value}; Max-Age={max_age_s}{self._attributes}"


def require_own_page(request: web.Request, config: Config) -> None:
    """Raise `web.HttpError` 403 unless a form was sent by a page of ours, as far as the browser says.

    The sealed value in each form is what proves it; this check stands before it. A client that is no browser
    sends neither field.
    """
    origin = request.headers.get("origin")
    own = {config.issuer, f"{urlsplit(config.issuer).scheme}://{(request.headers.get('host') or '').lower()}"}
    if origin is not None and origin not in own:
        raise web.HttpError(403, "this form was sent by a page of another site")
    if request.headers.get("sec-fetch-site") not in (None, "same-origin", "none"):
        raise web.HttpError(403, "this form was sent by a page of another site")
