"""From the headers and the message of one POST to what it is: a ladder of checks, the first failure wins.

The era is decided for each request by itself: a request with per-request metadata is modern, whatever its method
is called (MCP 2026-07-28, versioning, backward compatibility).
"""

from dataclasses import dataclass

from tenantry.jsonrpc import Code, Id, Message, Notification, Object, RemoteProtocolError, Request, Response
from tenantry.mcp import revisions
from tenantry.mcp.revisions import Era, Revision
from tenantry.web import Headers, decode_mirrored

PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"

_VERSION = "mcp-protocol-version"
# Whose `Mcp-Name` mirrors which parameter (MCP 2026-07-28, Streamable HTTP, standard request headers).
_NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    # The tasks extension, routing headers.
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}

_STATUS: dict[Era, dict[Code, int]] = {
    Era.MODERN: {Code.METHOD_NOT_FOUND: 404, Code.INTERNAL_ERROR: 500},
    # A legacy client reads a JSON-RPC error from a 200; only what is no message at all is a bad request.
    Era.LEGACY: {
        Code.METHOD_NOT_FOUND: 200,
        Code.INVALID_PARAMS: 200,
        Code.INTERNAL_ERROR: 200,
    },
}


def status_of(error: RemoteProtocolError, era: Era) -> int:
    """The HTTP status that goes with a JSON-RPC error: 400 unless the era says otherwise.

    An error without an id answers no request, so it is never sent as if it did.
    """
    return error.http_status or (400 if error.id is None else _STATUS[era].get(error.code, 400))


def era_of_header(headers: Headers) -> Era:
    """What era the header alone tells of: enough for a message that can't be read."""
    return _era_of_version(headers.get(_VERSION))


def _era_of_version(version: str | None) -> Era:
    return Era.LEGACY if version is None or version in revisions.LEGACY else Era.MODERN


def check_legacy_header(headers: Headers) -> Revision | None:
    """Give the revision that the header names; raises `RemoteProtocolError` for one that no handshake leads to."""
    return _legacy_revision(headers.get(_VERSION), None)


def _legacy_revision(version: str | None, id_: Id | None) -> Revision | None:
    if version is not None and version not in revisions.LEGACY:
        # No code of the modern era: a client that speaks both must fall back on this (2025-11-25, transports).
        raise RemoteProtocolError(
            Code.INVALID_REQUEST,
            f"Bad Request: unsupported protocol version; supported: {', '.join(revisions.LEGACY)}",
            id=id_,
            http_status=400,
        )
    return None if version is None else revisions.LEGACY[version]


@dataclass(frozen=True, slots=True, kw_only=True)
class Modern:
    """A request that carries its own metadata."""

    revision: Revision
    message: Request | Notification
    client_capabilities: Object


@dataclass(slots=True, kw_only=True)  # each call makes one, and freezing doubles what that takes
class Legacy:
    """A message of a client that did, or does now, the `initialize` handshake."""

    message: Message
    header_revision: Revision | None


Route = Modern | Legacy


def era_of(headers: Headers, message: Message, *, modern_served: bool) -> Era:
    """Tell the era by header or metadata; where only legacy is served, all is legacy."""
    return _era(headers.get(_VERSION), message, modern_served=modern_served)


def _era(version: str | None, message: Message, *, modern_served: bool) -> Era:
    if not modern_served:
        return Era.LEGACY
    if _era_of_version(version) is Era.MODERN:
        return Era.MODERN
    meta = {} if isinstance(message, Response) else message.params.get("_meta")
    return Era.MODERN if isinstance(meta, dict) and PROTOCOL_VERSION in meta else Era.LEGACY


def classify(headers: Headers, message: Message, *, modern_served: bool) -> Route:
    """Give the route of one message.

    Raises `RemoteProtocolError` with the first rung that fails.
    """
    version = headers.get(_VERSION)
    if _era(version, message, modern_served=modern_served) is Era.LEGACY:
        id_ = message.id if isinstance(message, Request) else None
        return Legacy(message=message, header_revision=_legacy_revision(version, id_))
    if isinstance(message, Response):
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: this revision has no client responses")
    if isinstance(message, Notification):
        return Modern(revision=next(iter(revisions.MODERN.values())), message=message, client_capabilities={})
    return _modern(headers, message)


def _modern(headers: Headers, message: Request) -> Modern:
    requested, capabilities = _metadata(message)
    _check_headers(headers, message, requested)
    revision = revisions.MODERN.get(requested)
    if revision is None:
        raise RemoteProtocolError(
            Code.UNSUPPORTED_VERSION,
            "Unsupported protocol version",
            id=message.id,
            data={"supported": revisions.supported(modern=True), "requested": requested},
        )
    return Modern(revision=revision, message=message, client_capabilities=capabilities)


def _metadata(message: Request) -> tuple[str, Object]:
    meta = message.params.get("_meta")
    version = meta.get(PROTOCOL_VERSION) if isinstance(meta, dict) else None
    capabilities = meta.get(CLIENT_CAPABILITIES) if isinstance(meta, dict) else None
    if not isinstance(version, str):
        raise RemoteProtocolError(
            Code.INVALID_PARAMS, f"Invalid params: _meta needs {PROTOCOL_VERSION}", id=message.id, http_status=400
        )
    if not isinstance(capabilities, dict):
        raise RemoteProtocolError(
            Code.INVALID_PARAMS, f"Invalid params: _meta needs {CLIENT_CAPABILITIES}", id=message.id, http_status=400
        )
    return version, capabilities


def _check_headers(headers: Headers, message: Request, requested: str) -> None:
    _must_match(headers.get(_VERSION), requested, "MCP-Protocol-Version", message.id)
    _must_match(headers.get("mcp-method"), message.method, "Mcp-Method", message.id)
    field = _NAMED.get(message.method)
    if field is not None:
        _check_name(headers.get("mcp-name"), message.params.get(field), message.id)


def _check_name(header: str | None, value: object, id_: Id) -> None:
    if header is None and not isinstance(value, str):
        return  # the parameter itself is missing or wrong: the method's own check says so
    sent = None if header is None else decode_mirrored(header)
    _must_match(sent, value, "Mcp-Name", id_)


def _must_match(header: str | None, value: object, name: str, id_: Id) -> None:
    if header is None:
        raise RemoteProtocolError(Code.HEADER_MISMATCH, f"Header mismatch: {name} is missing or malformed", id=id_)
    if header != value:
        raise RemoteProtocolError(
            Code.HEADER_MISMATCH, f"Header mismatch: {name} differs from the request's body", id=id_
        )
