"""HTTP requests and answers as values, and the checks that need nothing but the value.

Names: RFC 9110. Nothing here waits; `server/application.py` turns ASGI messages into these values and back.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

T = TypeVar("T")

# Fields that RFC 9110 section 5.3 lets a sender combine are left alone; a second one of these is an attack or
# a fault, and picking either would let two readers of one request disagree.
SINGLE_VALUED = frozenset(
    {
        "authorization",
        "content-length",
        "content-type",
        "host",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "origin",
    }
)
MAX_FORM_FIELDS = 64
# Clients send the same few values of a field with every request.
REMEMBERED = 256
_SENTINEL = ("=?base64?", "?=")
_VISIBLE = re.compile(r"[\t\x20-\x7e]*\Z")


class HttpError(Exception):
    """A request that ends with a status of its own; `app.py` turns it into the answer.

    `message` is for the client and says what to do; it never holds what the client sent as a secret.
    """

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class Headers:
    """Header fields of a request: names in lower case, values as they came, order kept."""

    __slots__ = ("_first", "_more")

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._first: dict[str, str] = {}
        self._more: dict[str, list[str]] = {}
        for name, value in fields:
            if name in self._first:
                self._more.setdefault(name, []).append(value)
            else:
                self._first[name] = value

    def get(self, name: str) -> str | None:
        """The field's value, or None; several lines of one field are joined (RFC 9110 section 5.3)."""
        return ", ".join(self.all(name)) if name in self._more else self._first.get(name)

    def all(self, name: str) -> list[str]:
        """Every line of the field, in order."""
        return [self._first[name], *self._more.get(name, [])] if name in self._first else []

    def names(self) -> Iterable[str]:
        """The field names that the request has."""
        return self._first.keys()

    def first_double(self) -> str | None:
        """The name of a single-valued field that came twice, or None."""
        for name in self._more:
            if name in SINGLE_VALUED or name.startswith("mcp-param-"):
                return name
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request without its body, which is read later or never."""

    method: str
    path: str
    """The target's path exactly as sent: routes are compared undecoded."""
    query: str
    headers: Headers
    scheme: str
    peer: str
    """The address the connection came from; empty where the host does not know it."""
    known: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, find: "Callable[[Request], T]") -> T:
        """What `find` gives for this request, and raises; it may depend on nothing else.

        A head that comes again and again on a connection is one request: what was found stays found, what was raised
        is raised anew.
        """
        if find not in self.known:
            self.known[find] = find(self)
        found: T = self.known[find]
        return found


@dataclass(slots=True, kw_only=True)  # each request makes one, and freezing doubles what that takes
class Response:
    """An answer that is sent in one piece."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cookies: tuple[str, ...] = ()
    """`Set-Cookie` values, one header line each (RFC 6265 section 3)."""


def parse_form(encoded: str) -> dict[str, str]:
    """Decode a query or a form body; parameters without a value count as absent (RFC 6749 section 3.1).

    Raises `HttpError` 400 for a repeated parameter, for bytes that are no UTF-8 and for too many fields.
    """
    try:
        pairs = parse_qsl(
            encoded, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError:
        raise HttpError(400, "the parameters can't be decoded") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise HttpError(400, "a parameter is repeated")
        values[name] = value
    return {name: value for name, value in values.items() if value}


def parse_cookies(header: str | None) -> dict[str, str]:
    """Read a `Cookie` field; of two cookies with one name the first counts (RFC 6265 section 5.4 order)."""
    cookies: dict[str, str] = {}
    for part in (header or "").split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            cookies.setdefault(name, value)
    return cookies


@lru_cache(REMEMBERED)
def media_type(header: str | None) -> tuple[str, str]:
    """Split a `Content-Type` into its lower-case essence and its charset, `utf-8` where none is named."""
    essence, *parameters = (header or "").split(";")
    charset = "utf-8"
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset":
            charset = value.strip('"').lower()
    return essence.strip().lower(), charset


def require_content_type(request: Request, wanted: str) -> None:
    """Raise `HttpError` 415 unless the body is said to be `wanted` in UTF-8.

    A browser can send `text/plain` and forms across sites without asking, so this check is a defence too.
    """
    essence, charset = media_type(request.headers.get("content-type"))
    if essence != wanted or charset not in ("utf-8", "utf8"):
        raise HttpError(415, f"send Content-Type: {wanted}")


@lru_cache(REMEMBERED)
def accepts(header: str | None, *wanted: str) -> bool:
    """Tell whether an `Accept` field admits all of `wanted` (RFC 9110 section 12.5.1; a missing field admits all)."""
    return header is None or all(_admits(header, each) for each in wanted)


def _admits(header: str, wanted: str) -> bool:
    kind = wanted.split("/", maxsplit=1)[0]
    best: tuple[int, bool] = (-1, False)
    for item in header.split(","):
        pattern, *parameters = (part.strip().lower() for part in item.split(";"))
        rank = {"*/*": 0, f"{kind}/*": 1, wanted: 2}.get(pattern, -1)
        if rank > best[0]:
            best = (rank, not any(_is_zero_quality(parameter) for parameter in parameters))
    return best[1]


def _is_zero_quality(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and re.fullmatch(r"0(\.0*)?", value.strip()) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The names under which this server may be spoken to: the defence against DNS rebinding."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, *urls: str) -> "Sites":
        """Collect host and origin of each URL; a port that is the scheme's own may be left out."""
        hosts: set[str] = set()
        origins: set[str] = set()
        for url in urls:
            parts = urlsplit(url)
            netloc = parts.netloc.lower()
            standard = {"http": 80, "https": 443}[parts.scheme]
            bare = netloc.removesuffix(f":{standard}")
            for name in {bare, f"{bare}:{standard}"} if parts.port in (None, standard) else {netloc}:
                hosts.add(name)
                origins.add(f"{parts.scheme}://{name}")
        return cls(hosts=frozenset(hosts), origins=frozenset(origins))

    def check(self, request: Request) -> None:
        """Raise `HttpError` 403 for a foreign Host or Origin, before anything else is looked at.

        MCP 2025-11-25 and 2026-07-28, Streamable HTTP, security; a request without Origin comes from no page.
        """
        host = request.headers.get("host")
        if host is None or host.lower() not in self.hosts:
            raise HttpError(403, "this server is not known by that Host")
        origin = request.headers.get("origin")
        if origin is not None and origin not in self.origins:
            raise HttpError(403, "requests from that Origin are refused")


def network(peer: str, *, ipv4_bits: int = 32) -> str:
    """The part of an address that one subscriber holds: all of IPv4, 64 bits of IPv6; anything else as it is.

    An IPv4 address in IPv6's clothes counts as the IPv4 address; `ipv4_bits` takes more neighbours together.
    """
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(ip_network((address, ipv4_bits), strict=False)).removesuffix("/32")


def quoted(text: str) -> str:
    """Write `text` as a quoted-string (RFC 9110 section 5.6.4); what can't stand in a header becomes `?`."""
    safe = "".join(character if _VISIBLE.match(character) else "?" for character in text)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def bearer_challenge(**parameters: str) -> str:
    """Build the `WWW-Authenticate` value of the Bearer scheme (RFC 6750 section 3, RFC 9728 section 5.1).

    At least one parameter is needed: a bare scheme name with a space behind it is no valid field.
    """
    return "Bearer " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())


def decode_mirrored(text: str) -> str | None:
    """Undo the base64 form of a mirrored value (MCP 2026-07-28, Streamable HTTP, value encoding).

    None where the value is malformed: bytes outside printable ASCII, or a base64 form that holds no UTF-8.
    """
    text = text.strip(" \t")
    start, end = _SENTINEL
    if text.startswith(start) and text.endswith(end) and len(text) >= len(start) + len(end):
        try:
            return base64.b64decode(text[len(start) : -len(end)], validate=True).decode()
        except (binascii.Error, ValueError):
            return None
    return text if text.isascii() and (text.isprintable() or "\t" in text) else None
