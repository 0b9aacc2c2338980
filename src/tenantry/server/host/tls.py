"""The TLS side of a listener: version, ciphers and application protocols (RFC 8446, RFC 7301)."""

import ssl
from pathlib import Path
from typing import NoReturn

HTTP2 = "h2"
# Of TLS 1.2 only what RFC 9113 section 9.2.2 leaves: forward secrecy, and encryption with authentication.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class TlsError(Exception):
    """The certificate or its key can't be used; the text says why."""


def tls_context(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """Build the context of a server with that certificate chain and key, both PEM; raises `TlsError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # RFC 9113 sections 9.2 and 9.2.1: neither compression nor renegotiation.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([HTTP2, "http/1.1"])
    for path in (certfile, keyfile):
        try:
            path.read_bytes()  # load_cert_chain does not say which of the two it missed
        except OSError as error:
            raise TlsError(f"{path}: {error.strerror}") from None
    try:
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except ssl.SSLError as error:
        raise TlsError(f"{certfile}, {keyfile}: {error.reason or 'no certificate chain with its key'}") from None
    return context


def _no_password() -> NoReturn:
    # OpenSSL would ask on the terminal, where nobody may be sitting.
    raise TlsError("the key is protected by a password: give one that is not")
