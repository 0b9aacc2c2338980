"""Ask for a document at a URL that a stranger chose, without becoming the stranger's tool.

The name is resolved once, every address that comes of it must be public, and the connection goes to an address that
was looked at: what the name means a moment later does not count. TLS proves the name. No redirect is followed,
nothing is decompressed, and size, time and the number of fetches at once are bounded. HTTP is spoken by h11 over a
plain stream, so that nothing happens here that can't be read here.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import h11
import trio

from tenantry.oauth.client_documents import Location
from tenantry.version import __version__

# One for all steps together, the wait for a free place included.
TOTAL_S = 5
AT_ONCE = 8
# A name server that is slow on purpose holds a thread beyond the fetch.
RESOLVERS = 16
# The draft recommends 5 KiB; ten long redirect URIs need more.
MAX_BODY = 16 * 1024
MAX_HEAD = 16 * 1024
MAX_RECEIVED = 64 * 1024
# The first ones, in the system's order: a host may have addresses of a family that we lack.
ADDRESSES = 4
PORTS = frozenset({443})

# Where IPv6 has its public addresses, and what of it leads elsewhere: 6to4 (RFC 3056) and documentation (RFC 9637).
_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC = (IPv6Network("2002::/16"), IPv6Network("3fff::/20"))
_NAT64 = IPv6Network("64:ff9b::/96")
# The relay of 6to4 (RFC 7526 deprecates it).
_RELAY = IPv4Network("192.88.99.0/24")

Address = tuple[int, tuple[Any, ...]]
"""Address family and what `socket.connect` takes."""
Resolve = Callable[[str, int], Awaitable[list[Address]]]
Connect = Callable[[Address], Awaitable[trio.abc.Stream]]


class FetchFailed(Exception):
    """There is no document; the text says why and is for the log alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came back."""

    body: bytes
    cache_control: str | None


def is_public(address: str) -> bool:
    """Tell whether an address is one that any stranger could reach as well as we do.

    An IPv4 address inside of an IPv6 one is judged by itself: where it is mapped (RFC 4291 section 2.5.5.2), and
    where a network translates (RFC 6052).
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        embedded = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else None)
        if embedded is None:
            return ip in _UNICAST and ip.is_global and not any(ip in network for network in _NOT_PUBLIC)
        ip = embedded
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _RELAY


async def connect(address: Address) -> trio.abc.Stream:
    """Open a TCP connection to that address and no other; raises OSError."""
    family, target = address
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


class Resolver:
    """The system's own, with a bound on the threads that wait for it."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(RESOLVERS)

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Every address of a host name; raises OSError."""
        found = await trio.to_thread.run_sync(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM),
            abandon_on_cancel=True,
            limiter=self._threads,
        )
        return [(family, target) for family, _, _, _, target in found]


class Fetcher:
    """Fetches documents, a few at once.

    The arguments are seams for tests: a resolver that knows no name service, a way to connect elsewhere, and an
    authority that signs certificates of names that nobody has.
    """

    def __init__(
        self,
        *,
        ports: Iterable[int] = PORTS,
        resolve: Resolve | None = None,
        connect: Connect = connect,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._ports = frozenset(ports)
        self._resolve = resolve or Resolver()
        self._connect = connect
        self._tls = tls
        self._at_once = trio.CapacityLimiter(AT_ONCE)

    async def get(self, location: Location) -> Fetched:
        """Ask for a JSON document; raises `FetchFailed`."""
        if location.port not in self._ports:
            raise FetchFailed("the port is not admitted")
        try:
            with trio.fail_after(TOTAL_S):
                async with self._at_once:
                    return await self._ask(location)
        except trio.TooSlowError:
            raise FetchFailed("it took too long") from None
        except (OSError, UnicodeError, trio.BrokenResourceError, h11.ProtocolError) as error:
            # A name with an overlong label is a UnicodeError.
            raise FetchFailed(repr(error.__cause__ or error)) from None

    async def _ask(self, location: Location) -> Fetched:
        addresses = await self._resolve(location.host, location.port)
        if not addresses or not all(is_public(target[0]) for _, target in addresses):
            raise FetchFailed("an address of the host is not public")
        plain = await self._connected(addresses)
        self._tls = self._tls or ssl.create_default_context()
        stream = trio.SSLStream(plain, self._tls, server_hostname=location.host, https_compatible=True)
        try:
            return await _exchange(stream, location)
        finally:
            await trio.aclose_forcefully(stream)

    async def _connected(self, addresses: list[Address]) -> trio.abc.Stream:
        *others, last = addresses[:ADDRESSES]
        for address in others:
            with suppress(OSError):
                return await self._connect(address)
        return await self._connect(last)


async def _exchange(stream: trio.abc.Stream, location: Location) -> Fetched:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    headers = [
        ("host", location.authority),
        ("accept", "application/json"),
        ("user-agent", f"tenantry/{__version__}"),
        ("connection", "close"),
    ]
    request = connection.send(h11.Request(method="GET", target=location.target, headers=headers))
    await stream.send_all((request or b"") + (connection.send(h11.EndOfMessage()) or b""))
    cache_control, body, received = None, b"", 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive_some(MAX_HEAD)
            received += len(data)
            if received > MAX_RECEIVED:
                raise FetchFailed("the answer is too long")
            connection.receive_data(bytes(data))
        elif isinstance(event, h11.Response):
            cache_control = _checked(event)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise FetchFailed("the document is too long")
        elif isinstance(event, h11.EndOfMessage):
            return Fetched(body=body, cache_control=cache_control)


def _checked(response: h11.Response) -> str | None:
    """Give the `Cache-Control` of an answer that may hold a document; raises `FetchFailed`."""
    fields: dict[bytes, list[str]] = {}
    for name, value in response.headers:
        fields.setdefault(name, []).append(value.decode("latin-1"))
    if response.status_code != 200:
        raise FetchFailed(f"the answer's status is {response.status_code}")
    kind = fields.get(b"content-type", [])
    essence = kind[0].partition(";")[0].strip().lower() if len(kind) == 1 else ""
    if essence != "application/json" and not (essence.startswith("application/") and essence.endswith("+json")):
        raise FetchFailed("the answer is not said to be JSON")
    if any(coding.strip().lower() != "identity" for coding in fields.get(b"content-encoding", [])):
        raise FetchFailed("the answer is encoded")
    return ", ".join(fields.get(b"cache-control", [])) or None
