"""hypercorn on trio, made safe to face strangers: the only package that touches hypercorn's classes.

hypercorn's protocols turn bytes into ASGI messages and back. Its listener, its connection and its queue to the
application are replaced here, because in them one packet can end the process, a stalled reader can't be cut, a full
queue blocks for ever, and nothing is counted. HTTP/2 is spoken where TLS's ALPN chose it and never otherwise;
one path alone can become a WebSocket.

`listener` admits connections, `connection` reads and writes one, `http1` and `http2` make requests of its bytes.
"""

from tenantry.server.host.limits import HostLimits
from tenantry.server.host.listener import bind, serve
from tenantry.server.host.tls import TlsError, tls_context

__all__ = ["HostLimits", "TlsError", "bind", "serve", "tls_context"]
