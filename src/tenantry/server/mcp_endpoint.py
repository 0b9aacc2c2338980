"""The MCP endpoint: POST, GET and DELETE of one URL; each request goes to the era that it speaks."""

import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial

from tenantry import jsonrpc, web
from tenantry.config import Config
from tenantry.identity import Principal
from tenantry.jsonrpc import RemoteProtocolError
from tenantry.mcp import revisions, route
from tenantry.mcp.route import Modern
from tenantry.oauth import access_token
from tenantry.server.admission import Admission
from tenantry.server.authentication import Authentication
from tenantry.server.cut import GrantEnded
from tenantry.server.event_stream import EventStream, SendBytes
from tenantry.server.exchange import ANSWERED, Answer, Exchange
from tenantry.server.features import Features, Recorded, answer_error
from tenantry.server.legacy import LegacyEra
from tenantry.server.modern import ModernEra
from tenantry.server.ongoing import Ongoing
from tenantry.server.turns import Turns


class McpEndpoint:
    """Answers one request in the request's own task; only a standalone stream lives longer."""

    def __init__(
        self,
        *,
        config: Config,
        authentication: Authentication,
        ongoing: Ongoing,
        admission: Admission,
        turns: Turns,
        features: Features,
        legacy: LegacyEra,
        modern: ModernEra,
    ) -> None:
        self._modern_served = config.mode.modern
        self._body_bytes = config.limits.body_bytes
        self._authentication = authentication
        self._ongoing = ongoing
        self._admission = admission
        self._turns = turns
        self._features = features
        self._legacy = legacy
        self._modern = modern
        self._served: dict[str, Callable[[Exchange, Principal], Awaitable[Answer | Recorded]]] = {"POST": self._post}
        if config.mode.sessions:
            self._served |= {"GET": self._get, "DELETE": self._delete}

    async def handle(self, exchange: Exchange) -> Answer:
        """Answer any method; strangers get 401 whatever they ask for."""
        request = exchange.request
        principal = self._authentication.principal(request)
        exchange.belongs_to(principal.tenant)
        exchange.deadline = partial(self._authentication.deadline, principal)
        serve = self._served.get(request.method)
        if serve is None:
            raise web.HttpError(405, "that method is not served here", headers={"allow": ", ".join(self._served)})
        size = min(exchange.size, self._body_bytes)
        share = await self._admission.begin(principal.tenant, size=size)
        try:
            if share.running > 1:  # who is alone would wait for nothing
                await self._turns.pause()
            answer = await serve(exchange, principal)
            if isinstance(answer, Recorded):
                await self._features.release(answer.ticket, principal)
                answer = answer.response
            return self._bound(answer, principal) if isinstance(answer, EventStream) else answer
        except RemoteProtocolError as error:
            return answer_error(error, route.era_of_header(request.headers))
        except GrantEnded:
            return await self._cut_off(exchange)
        finally:
            self._admission.end(share, size=size)

    def _bound(self, stream: EventStream, principal: Principal) -> EventStream:
        self._admission.require_stream(principal.tenant)

        async def run(send: SendBytes) -> None:
            with self._admission.stream(principal.tenant), self._ongoing.of(principal):
                await stream.run(send)

        return dataclasses.replace(stream, run=run)

    async def _cut_off(self, exchange: Exchange) -> Answer:
        """Answer a request whose grant ended under way: as if it came now, unless its answer had begun."""
        if exchange.streaming:
            await exchange.end_stream()
            return ANSWERED
        raise self._authentication.refused(access_token.refusal("the grant ended under way"))

    async def _get(self, exchange: Exchange, principal: Principal) -> Answer:
        _require_accept(exchange.request, "text/event-stream")
        route.check_legacy_header(exchange.request.headers)
        return await self._legacy.stream(exchange, principal)

    async def _delete(self, exchange: Exchange, principal: Principal) -> Answer:
        route.check_legacy_header(exchange.request.headers)
        return await self._legacy.delete(exchange, principal)

    async def _post(self, exchange: Exchange, principal: Principal) -> Answer | Recorded:
        request = exchange.request
        request.once(_check_types)
        body = await exchange.read_body(limit=self._body_bytes)
        if not self._authentication.stands(principal):  # for room and for the body it may have waited long
            raise GrantEnded
        value = jsonrpc.parse_json(body)
        if isinstance(value, list) and _may_batch(request):
            return await self._legacy.batch(exchange, principal, value)
        message = jsonrpc.message(value)
        try:
            routed = route.classify(request.headers, message, modern_served=self._modern_served)
            if isinstance(routed, Modern):
                return await self._modern.message(exchange, principal, routed)
            return await self._legacy.message(exchange, principal, routed)
        except RemoteProtocolError as error:
            return answer_error(error, route.era_of(request.headers, message, modern_served=self._modern_served))


def _check_types(request: web.Request) -> None:
    web.require_content_type(request, "application/json")
    _require_accept(request, "application/json", "text/event-stream")


def _may_batch(request: web.Request) -> bool:
    version = request.headers.get("mcp-protocol-version")
    return version is None or version in revisions.LEGACY


def _require_accept(request: web.Request, *types: str) -> None:
    if not web.accepts(request.headers.get("accept"), *types):
        raise web.HttpError(406, f"send Accept: {', '.join(types)}")
