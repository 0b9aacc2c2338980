"""The application's side of HTTP: ASGI messages in and out, `web` values between them."""

from dataclasses import replace
from functools import lru_cache

import structlog
import trio

from tenantry import web
from tenantry.forwarded import Contradiction, Proxies, Sender
from tenantry.server.asgi import (
    ANSWER,
    BODILESS,
    BODY,
    DEPARTURE,
    KNOWN,
    LENGTHLESS,
    LINE,
    ASGIApp,
    Fields,
    Known,
    Message,
    Receive,
    Send,
    body_part,
    start,
)
from tenantry.server.cancelled_by import cancelled_by
from tenantry.server.event_stream import STREAM_FIELDS, Closing, EventStream, run_stream
from tenantry.server.exchange import Answer, Answered, Exchange, Handler, WebSocket

FIELDS_REMEMBERED = 256

_TRUSTING_NOBODY = Proxies()
_NO_HEADERS = web.Headers(())
_UNSENDABLE = frozenset("\r\n\0")
_CLOSE = (b"connection", b"close")
_HTTPS_FOR_GOOD = (b"strict-transport-security", b"max-age=31536000")  # a year

_log = structlog.get_logger()


def application(
    handle: Handler, *, closing: trio.Event, proxies: Proxies = _TRUSTING_NOBODY, https_for_good: bool = False
) -> ASGIApp:
    """Build the ASGI application that answers every request by `handle`.

    `handle` translates its own exceptions; whatever still comes out of it is logged and becomes a bare 500. A
    doubled single-valued header is answered 400 before `handle` sees it. Open event streams end when `closing` is
    set. The lifespan is not served: nothing that must live may live there.

    Behind `proxies`, a request's peer and scheme are those of the client that they name. With `https_for_good` every
    answer over https says so (RFC 6797 section 7.1).
    """

    streams = Closing(closing)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _over_websocket(handle, {**scope, "method": "GET"}, receive, send, closing=closing, proxies=proxies)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"scope {scope['type']} is not served")
        more = scope.get("extensions", {})
        request, refusal = _known_request(scope, proxies, more.get(KNOWN))
        if https_for_good and request.scheme == "https":
            send = _telling_so(send)
        body = more.pop(BODY, None)  # whoever keeps the scope keeps no body
        exchange = Exchange(
            request,
            receive,
            send,
            body_due=body is None and _announces_body(scope),
            body=body,
            departure=more.get(DEPARTURE),
            line=more.get(LINE),
        )
        answer, fields = await _answer(handle, exchange, refusal)
        if isinstance(answer, WebSocket):  # RFC 9110 section 15.5.22
            answer = web.Response(status=426, headers={"upgrade": "websocket", "connection": "upgrade"})
            fields = _fields(answer)
        if isinstance(answer, Answered):
            return
        if isinstance(answer, EventStream):
            await send(start(200, fields, held=answer.speaks_first))
            # Open for hours, it needs nothing of its request.
            scope["headers"], scope["extensions"] = [], {}
            path = request.path
            exchange.request = replace(request, headers=_NO_HEADERS, known={})
            del request, more, body
            await run_stream(answer, send, left=exchange.wait_for_disconnect, closing=streams, path=path)
        elif exchange.body_due and scope.get("http_version") != "2":  # where the host can refuse the rest by a reset
            await _send_early(start(answer.status, [*fields, _CLOSE]), _payload(answer), exchange, send)
        elif ANSWER in more:
            await send({"type": ANSWER, "status": answer.status, "headers": fields, "body": _payload(answer)})
        else:
            await send(start(answer.status, fields))
            await send(body_part(_payload(answer)))

    return app


async def _over_websocket(
    handle: Handler, scope: Message, receive: Receive, send: Send, *, closing: trio.Event, proxies: Proxies
) -> None:
    request, refusal = _request(scope, proxies)
    answer, fields = await _answer(handle, Exchange(request, receive, send, body_due=False), refusal)
    if isinstance(answer, web.Response):
        await send({"type": "websocket.http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "websocket.http.response.body", "body": _payload(answer)})
        return
    if not isinstance(answer, WebSocket):
        raise NotImplementedError("a WebSocket is answered by one, or by a refusal")
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})

    async def send_text(text: str) -> None:
        await send({"type": "websocket.send", "text": text})

    async def client() -> None:
        await receive()  # whatever it is: a disconnect, or words where none are wanted

    async with cancelled_by(client, closing.wait) as block:
        block.deadline = answer.deadline
        await answer.run(send_text)
    await send({"type": "websocket.close", "code": 1001 if closing.is_set() else 1000})


async def _answer(handle: Handler, exchange: Exchange, refusal: web.Response | None) -> tuple[Answer, Fields]:
    if refusal is not None:
        return refusal, _fields(refusal)
    try:
        answer = await handle(exchange)
        if isinstance(answer, EventStream) and exchange.body_due:
            raise RuntimeError("an event stream needs its request's body read")  # noqa: TRY301
        return answer, _fields(answer)
    except Exception:  # noqa: BLE001 - the last place; the client gets nothing of it
        _log.error("request_failed", path=exchange.request.path, exc_info=True)
        failure = web.Response(status=500)
        return failure, _fields(failure)


async def _send_early(head: Message, payload: bytes, exchange: Exchange, send: Send) -> None:
    """Answer before the body's end, reading on meanwhile: a client that is still writing would not read."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.drain)
        await send(head)
        await send(body_part(payload, more=True))
    await send(body_part(b""))


def _known_request(scope: Message, proxies: Proxies, known: Known | None) -> tuple[web.Request, web.Response | None]:
    if known is None:
        return _request(scope, proxies)
    if known.request is not None:
        return known.request, None
    request, refusal = _request(scope, proxies)
    if refusal is None:
        known.request = request
    return request, refusal


def _request(scope: Message, proxies: Proxies) -> tuple[web.Request, web.Response | None]:
    """The request, and the answer to one whose fields contradict each other."""
    client = scope.get("client")
    headers = web.Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    sender = Sender(address=client[0] if client else "", scheme=scope["scheme"])
    doubled = headers.first_double()
    problem = None if doubled is None else f"the header {doubled} came twice"
    try:
        sender = proxies.sender(sender.address, sender.scheme, headers.get)
    except Contradiction as error:
        problem = str(error)
    request = web.Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        scheme=sender.scheme,
        peer=sender.address,
    )
    return request, None if problem is None else web.Response(status=400, body=f"{problem}\n".encode())


def _announces_body(scope: Message) -> bool:
    fields = dict(scope["headers"])
    length = fields.get(b"content-length")
    # RFC 9113 section 8.1.1: in HTTP/2 a body needs no announcement; our host writes a length of 0 where there is none.
    return (
        length != b"0"
        if scope.get("http_version") == "2"
        else length not in (None, b"0") or b"transfer-encoding" in fields
    )


def _telling_so(send: Send) -> Send:
    async def telling(message: Message) -> None:
        if message["type"] in ("http.response.start", ANSWER):
            message = {**message, "headers": [*message["headers"], _HTTPS_FOR_GOOD]}
        await send(message)

    return telling


def _payload(answer: web.Response) -> bytes:
    return b"" if answer.status in BODILESS else answer.body


def _fields(answer: Answer) -> Fields:
    if isinstance(answer, (Answered, WebSocket)):
        return []
    fields = [_field(name, value) for name, value in answer.headers.items()]
    if isinstance(answer, EventStream):
        return STREAM_FIELDS + fields
    if answer.cookies:
        fields.extend(_encoded("set-cookie", cookie) for cookie in answer.cookies)
    if answer.status not in LENGTHLESS:
        fields.append((b"content-length", b"%d" % len(_payload(answer))))
    return fields


def _encoded(name: str, value: str) -> tuple[bytes, bytes]:
    if not _UNSENDABLE.isdisjoint(value):
        raise ValueError(f"the value of {name} would break the header")
    return name.lower().encode("latin-1"), value.encode("latin-1")


_field = lru_cache(FIELDS_REMEMBERED)(_encoded)
"""For what is said again and again; cookies are not."""
