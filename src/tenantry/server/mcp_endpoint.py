"""The MCP endpoint: POST, GET and DELETE of one URL; each request goes to the era that it speaks."""

from collections.abc import Awaitable, Callable

from tenantry import jsonrpc, web
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.jsonrpc import RemoteProtocolError
from tenantry.mcp import revisions, route
from tenantry.mcp.route import Modern
from tenantry.server.asgi import Answer, Exchange
from tenantry.server.features import answer_error
from tenantry.server.legacy import LegacyEra
from tenantry.server.modern import ModernEra


class McpEndpoint:
    """Answers one request in the request's own task; only a standalone stream lives longer."""

    def __init__(
        self,
        *,
        config: Config,
        authenticate: Callable[[web.Request], Principal],
        legacy: LegacyEra,
        modern: ModernEra,
    ) -> None:
        self._mode = config.mode
        self._body_bytes = config.limits.body_bytes
        self._authenticate = authenticate
        self._legacy = legacy
        self._modern = modern
        self._served: dict[str, Callable[[Exchange, Principal], Awaitable[Answer]]] = {"POST": self._post}
        if self._mode.sessions:
            self._served |= {"GET": self._get, "DELETE": self._delete}

    async def handle(self, exchange: Exchange) -> Answer:
        """Answer any method; strangers get 401 whatever they ask for."""
        principal = self._authenticate(exchange.request)
        serve = self._served.get(exchange.request.method)
        if serve is None:
            raise web.HttpError(405, "that method is not served here", headers={"allow": ", ".join(self._served)})
        try:
            return await serve(exchange, principal)
        except RemoteProtocolError as error:
            return answer_error(error, route.era_of_header(exchange.request.headers))

    async def _get(self, exchange: Exchange, principal: Principal) -> Answer:
        _require_accept(exchange.request, "text/event-stream")
        route.check_legacy_header(exchange.request.headers)
        return await self._legacy.stream(exchange, principal)

    async def _delete(self, exchange: Exchange, principal: Principal) -> Answer:
        route.check_legacy_header(exchange.request.headers)
        return await self._legacy.delete(exchange, principal)

    async def _post(self, exchange: Exchange, principal: Principal) -> Answer:
        request = exchange.request
        web.require_content_type(request, "application/json")
        body = await exchange.read_body(limit=self._body_bytes)
        _require_accept(request, "application/json", "text/event-stream")
        value = jsonrpc.parse_json(body)
        if isinstance(value, list) and _may_batch(request):
            return await self._legacy.batch(exchange, principal, value)
        message = jsonrpc.message(value)
        era = route.era_of(request.headers, message, modern_served=self._mode.modern)
        try:
            routed = route.classify(request.headers, message, modern_served=self._mode.modern)
            if isinstance(routed, Modern):
                return await self._modern.message(exchange, principal, routed)
            return await self._legacy.message(exchange, principal, routed)
        except RemoteProtocolError as error:
            return answer_error(error, era)


def _may_batch(request: web.Request) -> bool:
    version = request.headers.get("mcp-protocol-version")
    return version is None or version in revisions.LEGACY


def _require_accept(request: web.Request, *types: str) -> None:
    header = request.headers.get("accept")
    if not all(web.accepts(header, wanted) for wanted in types):
        raise web.HttpError(406, f"send Accept: {', '.join(types)}")
