"""Redirect URIs: which may be registered, and when a requested one equals a registered one.

https anywhere, http on loopback only. Private-use schemes (RFC 8252 section 7.1) are refused unless the operator
names them: MCP, security considerations, admits loopback and https and nothing else, and a scheme can be claimed by
any program.
"""

import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

MAX_LENGTH = 2048
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")

_LOOPBACK = re.compile(r"(http://(?:localhost|127\.0\.0\.1|\[::1\]))(?::([0-9]{1,5}))?([/?].*)?")
# Visible ASCII without what RFC 3986 keeps out of a URI, and without the backslash that browsers take for a slash.
_URI = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


def problem_with(uri: str, *, private_schemes: Collection[str] = ()) -> str | None:
    """Say why `uri` can't be registered, or None if it can (RFC 9700 section 2.1, MCP security considerations)."""
    if len(uri) > MAX_LENGTH or _URI.fullmatch(uri) is None:
        return "a redirect URI is too long, or holds characters that no URI has"
    if "#" in uri:
        return "a redirect URI must not have a fragment"
    if uri.partition(":")[0] in private_schemes:
        return None
    parts = _split(uri)
    if parts is None:
        return "a redirect URI needs a scheme and a host"
    if "@" in parts.netloc:
        return "a redirect URI must not name a user"
    return _problem_with_scheme(uri, parts)


def _problem_with_scheme(uri: str, parts: SplitResult) -> str | None:
    if parts.scheme == "http":
        return None if is_loopback(uri) else "http redirect URIs are for localhost, 127.0.0.1 and [::1] only"
    if parts.scheme != "https":
        return "a redirect URI must be https, or http on loopback"
    return None if _HOST.fullmatch(_host(parts)) else "a redirect URI needs a plain host name"


def _split(uri: str) -> SplitResult | None:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    return parts if parts.scheme and parts.hostname and port != 0 else None


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def is_loopback(uri: str) -> bool:
    """Tell whether `uri` is http on this machine, by one of the three spellings of RFC 8252 section 7.3."""
    match = _LOOPBACK.fullmatch(uri)
    return match is not None and int(match[2] or "80") in range(1, 65536)


def is_local(uri: str) -> bool:
    """Tell whether a redirect URI leads to a program on the person's machine, whichever has taken that place."""
    return not uri.startswith("https://")


def equal(requested: str, registered: str) -> bool:
    """Compare exactly, except that a loopback URI's port does not count (RFC 8252 section 7.3, OAuth 2.1 8.4.2).

    The host's spelling does: `localhost` is not `127.0.0.1`.
    """
    if requested == registered:
        return True
    if not (is_loopback(requested) and is_loopback(registered)):
        return False
    return _LOOPBACK.sub(r"\1\3", requested) == _LOOPBACK.sub(r"\1\3", registered)


def host(uri: str) -> str:
    """Host and port, as a person should see them on the consent page; of a private-use scheme the scheme."""
    return urlsplit(uri).netloc if _is_web(uri) else f"{urlsplit(uri).scheme}:"


def form_source(uri: str) -> str:
    """What `form-action` must list so that a form's redirect may end at `uri` (CSP Level 3, host-source).

    The grammar has no IPv6 literals, so `[::1]` is let through by its scheme, as what has no host is.
    """
    parts = urlsplit(uri)
    return f"{parts.scheme}:" if "[" in parts.netloc or not _is_web(uri) else f"{parts.scheme}://{parts.netloc}"


def _is_web(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))
