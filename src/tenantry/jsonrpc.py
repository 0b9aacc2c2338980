"""JSON-RPC 2.0 messages as values: bytes in, a message or an error out.

MCP narrows JSON-RPC: no null ids, params are objects, batches only in one revision. JSON itself is read strictly
(RFC 8259, RFC 7493): readers that disagree about doubled names, lone surrogates or huge numbers can be played off
against one another, so such input is refused rather than repaired.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn

from tenantry.json_text import Writer, quoted

Id = int | str
Object = dict[str, Any]

MAX_DEPTH = 64
# One MiB of `{},` takes a third of a second to parse; what real messages hold is far below this.
MAX_NODES = 50_000
MAX_ID_LENGTH = 256
# RFC 7493 section 2.2: beyond this an integer isn't the same number for every reader.
MAX_ID = 2**53 - 1
MAX_METHOD_LENGTH = 256

_SPACE = " \t\n\r"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = b"\\u"
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class Code(IntEnum):
    """Error codes of JSON-RPC 2.0 section 5.1 and of MCP 2026-07-28, overview, error codes."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    HEADER_MISMATCH = -32020
    MISSING_CAPABILITY = -32021
    UNSUPPORTED_VERSION = -32022
    RESOURCE_NOT_FOUND = -32002
    """Legacy revisions alone."""


class RemoteProtocolError(Exception):
    """The peer broke the protocol; it becomes a JSON-RPC error, with the request's id where that could be read.

    `http_status` overrides what the code says by default.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        id: Id | None = None,  # noqa: A002
        data: object = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.id = id
        self.data = data
        self.http_status = http_status


@dataclass(slots=True)  # each call makes one, and freezing doubles what that takes
class Request:
    """A call that wants an answer."""

    id: Id
    method: str
    params: Object


@dataclass(frozen=True, slots=True)
class Notification:
    """A message that gets no answer."""

    method: str
    params: Object


@dataclass(frozen=True, slots=True)
class Response:
    """A client's answer to a request of the server's."""

    id: Id
    result: Object | None
    error: Object | None


Message = Request | Notification | Response


def parse(body: bytes) -> Message:
    """Read one message.

    Raises `RemoteProtocolError`: -32700 where the bytes are no JSON we accept, -32600 where they are no message (a
    batch among them), -32602 where params are an array.
    """
    return message(parse_json(body))


def parse_json(body: bytes) -> object:
    """Read JSON text strictly: UTF-8 without BOM, no doubled names, finite numbers, bounded depth and count.

    Raises `RemoteProtocolError` with -32700.
    """
    _check_shape(body)
    try:
        text = body.decode().strip(_SPACE)
        value, end = _SCAN(text, 0)
        if end != len(text):
            raise ValueError("there is more behind the value")  # noqa: TRY301
        if _ESCAPE in body and _SURROGATE_ESCAPE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError, StopIteration):  # UnicodeError is a ValueError
        raise RemoteProtocolError(Code.PARSE_ERROR, "Parse error: the body is not valid JSON") from None
    return value


def _check_shape(body: bytes) -> None:
    # Counting bytes is a hundred times cheaper than parsing; only a body that looks large is looked at closely.
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH and (len(body) <= MAX_NODES or body.count(b",") <= MAX_NODES):
        return
    depth = 0
    nodes = 0
    for character in _STRING.sub(b"", body):
        if character in b"{[":
            depth += 1
            nodes += 1
            if depth > MAX_DEPTH:
                raise RemoteProtocolError(Code.PARSE_ERROR, f"Parse error: nested deeper than {MAX_DEPTH}")
        elif character in b"}]":
            depth -= 1
        elif character in b",":
            nodes += 1
        if nodes > MAX_NODES:
            raise RemoteProtocolError(Code.PARSE_ERROR, f"Parse error: more than {MAX_NODES} values")


def _object(pairs: list[tuple[str, Any]]) -> Object:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name is doubled")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
_SCAN: Callable[[str, int], tuple[object, int]] = _DECODER.scan_once  # type: ignore[attr-defined]
_WRITER = Writer()


def message(value: object) -> Message:
    """Make a message of a parsed JSON value; raises as `parse` does."""
    if isinstance(value, list):
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: batches are not supported")
    if not isinstance(value, dict):
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: a message is an object")
    id_ = readable_id(value)
    if value.get("jsonrpc") != "2.0":
        raise RemoteProtocolError(Code.INVALID_REQUEST, 'Invalid Request: "jsonrpc" must be "2.0"', id=id_)
    if "id" in value and id_ is None:
        raise RemoteProtocolError(
            Code.INVALID_REQUEST, "Invalid Request: an id is a string or an integer, and neither null nor huge"
        )
    if "method" in value:
        return _call(value, id_)
    return _response(value, id_)


def readable_id(value: Object) -> Id | None:
    """The message's id if it is one that may be echoed, else None; 0 and the empty string are ids."""
    id_ = value.get("id")
    if isinstance(id_, bool):
        return None
    if isinstance(id_, int) and -MAX_ID <= id_ <= MAX_ID:
        return id_
    return id_ if isinstance(id_, str) and len(id_) <= MAX_ID_LENGTH else None


def _call(value: Object, id_: Id | None) -> Request | Notification:
    method = value["method"]
    if not isinstance(method, str) or len(method) > MAX_METHOD_LENGTH or "result" in value or "error" in value:
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: no proper method", id=id_)
    params = value.get("params", {})
    if isinstance(params, list):
        raise RemoteProtocolError(Code.INVALID_PARAMS, "Invalid params: MCP takes an object", id=id_)
    if not isinstance(params, dict):
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: params must be an object", id=id_)
    return Notification(method, params) if id_ is None else Request(id_, method, params)


def _response(value: Object, id_: Id | None) -> Response:
    result, error = value.get("result"), value.get("error")
    if id_ is None or ("result" in value) == ("error" in value):
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: neither request nor response", id=id_)
    if not isinstance(result if "result" in value else error, dict):
        raise RemoteProtocolError(Code.INVALID_REQUEST, "Invalid Request: result and error are objects", id=id_)
    return Response(id_, result, error)


def encode(value: object) -> bytes:
    """Write a message as UTF-8 without white space.

    A lone surrogate in a tool's text becomes `?`: the answer must be readable whatever a tool gives back.
    """
    return _WRITER.encode(value).encode("utf-8", "replace")


def encode_result(id_: Id, body: Object) -> bytes:
    """Write the response that answers request `id_`, as `encode` does."""
    written = id_ if isinstance(id_, int) else quoted(id_)
    return f'{{"jsonrpc":"2.0","id":{written},"result":{_WRITER.encode(body)}}}'.encode("utf-8", "replace")


def error(code: int, text: str, *, id_: Id | None, data: object = None) -> Object:
    """The error that answers request `id_`; without an id where none could be read (MCP, transports)."""
    body: Object = {"code": int(code), "message": text}
    if data is not None:
        body["data"] = data
    return {"jsonrpc": "2.0", "error": body} if id_ is None else {"jsonrpc": "2.0", "id": id_, "error": body}
