"""Arguments mirrored into `Mcp-Param-` headers (MCP 2026-07-28, Streamable HTTP, custom headers from parameters)."""

import re
from collections.abc import Iterator

from tenantry.jsonrpc import Code, Id, Object, RemoteProtocolError
from tenantry.web import Headers, decode_mirrored

PREFIX = "mcp-param-"
ANNOTATION = "x-mcp-header"
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_MIRRORED_TYPES = ("string", "integer", "boolean")
_ABSENT = object()


def mirrored(schema: Object) -> dict[str, tuple[str, ...]]:
    """Give header field (in lower case) -> path of the property, for each annotation of an input schema.

    Raises ValueError where an annotation breaks the rules: a field name, unique whatever its case, on a property
    of a plain type that is reached by `properties` alone.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path, item in _properties(schema, ()):
        name = item.get(ANNOTATION)
        if name is None:
            continue
        if not isinstance(name, str) or not _FIELD_NAME.match(name):
            raise ValueError(f"{'.'.join(path)}: {name!r} is no header field name")
        if item.get("type") not in _MIRRORED_TYPES:
            raise ValueError(f"{'.'.join(path)}: only strings, integers and booleans can be mirrored")
        if PREFIX + name.lower() in found:
            raise ValueError(f"{name} is mirrored twice")
        found[PREFIX + name.lower()] = path
    if _count(schema) != len(found):
        raise ValueError(f"{ANNOTATION} stands where `properties` alone do not lead")
    return found


def _count(schema: object) -> int:
    if isinstance(schema, dict):
        return sum(_count(item) for item in schema.values()) + (isinstance(schema.get(ANNOTATION), str))
    return sum(_count(item) for item in schema) if isinstance(schema, list) else 0


def _properties(schema: Object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Object]]:
    for name, item in schema.get("properties", {}).items():
        if isinstance(item, dict):
            yield (*path, name), item
            yield from _properties(item, (*path, name))


def check(headers: Headers, wanted: dict[str, tuple[str, ...]], arguments: Object, *, id_: Id) -> None:
    """Raise `RemoteProtocolError` -32020 unless each mirrored argument stands in its header, and nothing else does."""
    for field, path in wanted.items():
        value = _value_at(arguments, path)
        header = headers.get(field)
        if value is _ABSENT or value is None:
            if header is not None:
                raise _mismatch(field, "is there, its argument is not", id_)
            continue
        if header is None:
            raise _mismatch(field, "is missing", id_)
        sent = decode_mirrored(header)
        if sent is None or not _same(sent, value):
            raise _mismatch(field, "differs from its argument or is malformed", id_)


def _value_at(arguments: Object, path: tuple[str, ...]) -> object:
    value: object = arguments
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return _ABSENT
        value = value[step]
    return value


def _same(sent: str, value: object) -> bool:
    if isinstance(value, bool):
        return sent == ("true" if value else "false")
    if isinstance(value, int | float):
        try:  # numbers are compared as numbers: 42.0 is 42
            return float(sent) == value
        except (ValueError, OverflowError):
            return False
    return sent == value


def _mismatch(field: str, what: str, id_: Id) -> RemoteProtocolError:
    name = "-".join(part.capitalize() for part in field.split("-"))
    return RemoteProtocolError(Code.HEADER_MISMATCH, f"Header mismatch: {name} {what}", id=id_)
