"""What one server, one peer and one connection may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """Bounds of the host; times in seconds."""

    max_connections: int = 16_384
    max_connections_per_peer: int | None = 512
    """None for no limit; a trusted proxy, behind which everybody has its address, never has one."""
    header_bytes: int = 16 * 1024
    header_count: int = 100
    header_timeout_s: float = 10.0
    """From the first byte of a request (or from the connection's start) to the end of its header."""
    handshake_timeout_s: float = 10.0
    """For the TLS handshake."""
    keep_alive_s: float = 60.0
    send_timeout_s: float = 20.0
    """For one write of at most a response's body; a reader that stalls for longer is cut."""
    stop_grace_s: float = 10.0
    """How long requests in flight may take after the shutdown event."""
    streams: int = 100
    """Requests at once on one HTTP/2 connection; RFC 9113 section 6.5.2 recommends no fewer."""
