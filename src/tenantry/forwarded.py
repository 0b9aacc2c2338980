"""Who is behind a proxy: what `Forwarded` and `X-Forwarded-For` say, and whom they are believed from.

Names: RFC 7239. Anybody can write these fields, so only the configuration says whose count; a list is read from its
end, where the nearest proxy wrote, and the first address that is not a proxy's own is the client's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


class Contradiction(Exception):
    """Two fields name different clients."""


def network(text: str) -> Network:
    """Read `192.0.2.0/24`, `2001:db8::/32` or one address; raises ValueError, for all addresses at once too."""
    read = ip_network(text)
    if read.prefixlen == 0:
        raise ValueError(f"{text} is everybody, and then anybody could say where they come from")
    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Where a request came from, as far as that can be known."""

    address: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies that are believed."""

    networks: tuple[Network, ...] = ()

    def trusts(self, address: str) -> bool:
        """Tell whether a connection from there is a proxy's."""
        if not self.networks:
            return False
        try:
            parsed = ip_address(plain(address))
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)

    def sender(self, peer: str, scheme: str, field: Callable[[str], str | None]) -> Sender:
        """The client behind a connection from `peer` by `scheme`; from a stranger no field counts.

        `field` gives a request's field by its name in lower case. Raises `Contradiction` where both fields came and
        name different clients: most proxies write one of them and let the other through, from whoever wrote it.
        """
        if not self.trusts(peer):
            return Sender(address=plain(peer), scheme=scheme)
        forwarded, hops = field("forwarded"), field("x-forwarded-for")
        proto = (field("x-forwarded-proto") or "").rpartition(",")[2]
        if forwarded is None:
            address = self._client(peer, [] if hops is None else hops.split(","))
            return Sender(address=address, scheme=_scheme(proto, scheme))
        elements = [_pairs(element) for element in forwarded.split(",")]
        address = self._client(peer, [element.get("for", "") for element in elements])
        if hops is not None and self._client(peer, hops.split(",")) != address:
            raise Contradiction("Forwarded and X-Forwarded-For disagree")
        return Sender(address=address, scheme=_scheme(elements[-1].get("proto", proto), scheme))

    def _client(self, peer: str, hops: list[str]) -> str:
        address = plain(peer)
        for hop in reversed(hops):
            named = _address(hop)
            if named is None:  # "unknown", a name of the proxy's own, or nonsense: no further than who wrote it
                break
            address = named
            if not self.trusts(address):
                break
        return address


def plain(address: str) -> str:
    """An address as it is compared and recorded: an IPv4 one that came over an IPv6 socket is an IPv4 one."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _address(hop: str) -> str | None:
    text = hop.strip().strip('"')
    if text.startswith("["):  # section 6: IPv6 in brackets, both with or without a port
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip_address(text)
    except ValueError:
        return None
    return plain(text)


def _pairs(element: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in element.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _scheme(said: str, otherwise: str) -> str:
    scheme = said.strip().lower()
    return scheme if scheme in ("http", "https") else otherwise
