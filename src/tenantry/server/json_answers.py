"""How the endpoints for programs read forms and answer in JSON, errors included."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps

import structlog

from tenantry import web
from tenantry.oauth.errors import OAuthError
from tenantry.server.exchange import Exchange

Handler = Callable[[Exchange], Awaitable[web.Response]]

MAX_FORM = 16 * 1024
METADATA_MAX_AGE_S = 300
# RFC 6749 section 5.1; RFC 7591 section 3.2.1
NEVER_STORED = {"cache-control": "no-store", "pragma": "no-cache"}
FORM = "application/x-www-form-urlencoded"

_log = structlog.get_logger()


def json_answer(status: int, body: Mapping[str, object], headers: Mapping[str, str]) -> web.Response:
    """An answer whose body is a JSON object."""
    encoded = json.dumps(body, ensure_ascii=False).encode()
    return web.Response(status=status, headers={"content-type": "application/json", **headers}, body=encoded)


def document(make: Callable[[], Mapping[str, object]]) -> Handler:
    """A handler that answers a public document, or that it has not changed (RFC 9110 section 13.1.2)."""

    async def handler(exchange: Exchange) -> web.Response:
        answer = json_answer(200, make(), {})
        etag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
        validity = {"cache-control": f"public, max-age={METADATA_MAX_AGE_S}", "etag": etag}
        known = (exchange.request.headers.get("if-none-match") or "").split(",")
        if {"*", etag} & {each.strip().removeprefix("W/") for each in known}:
            return web.Response(status=304, headers=validity)
        return web.Response(status=200, headers={**answer.headers, **validity}, body=answer.body)

    return handler


def answering_errors(handler: Handler) -> Handler:
    """Answer what `handler` raises as RFC 6749 section 5.2 has it."""

    @wraps(handler)
    async def guarded(exchange: Exchange) -> web.Response:
        try:
            return await handler(exchange)
        except web.HttpError as problem:
            error = OAuthError("invalid_request", problem.message, status=problem.status)
            return _answer_error(error, exchange.request.path, problem.headers)
        except OAuthError as refused:  # which no other name may hold: it holds this frame
            return _answer_error(refused, exchange.request.path)

    return guarded


def _answer_error(error: OAuthError, path: str, headers: Mapping[str, str] | None = None) -> web.Response:
    _log.info("refused", path=path, error=error.error, detail=error.detail)
    # RFC 9110 section 15.5.2: a 401 has a challenge, always
    challenge = {"www-authenticate": 'Basic realm="client authentication"'} if error.status == 401 else {}
    return json_answer(error.status, error.body(), {**NEVER_STORED, **challenge, **(headers or {})})


async def read_form(exchange: Exchange) -> dict[str, str]:
    """Read a form body; raises `web.HttpError` for another type, too many bytes or a repeated parameter."""
    web.require_content_type(exchange.request, FORM)
    body = await exchange.read_body(limit=MAX_FORM)
    try:
        return web.parse_form(body.decode("ascii"))
    except UnicodeDecodeError:
        raise web.HttpError(400, "the form can't be decoded") from None
