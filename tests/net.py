"""A net in memory: names mean what a test says, and every address leads to one server that speaks TLS.

It stands for the public net behind the seams of `Fetcher`, without a socket, so that its time can be the test's.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenantry.server.fetch import Address, Fetcher

HOST = "app.example"
PUBLIC = "93.184.216.34"

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


@cache
def contexts(host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for `host`, and that of a client which believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + timedelta(days=1),
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(pem + private)
        server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())


@dataclass
class Net:
    """What names mean, who was asked and where connections went."""

    nursery: trio.Nursery
    names: dict[str, list[str]] = field(default_factory=lambda: {HOST: [PUBLIC]})
    answer: bytes | Handler = b""
    certified: str = HOST
    asked: list[str] = field(default_factory=list)
    connected: list[Address] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def fetcher(self, **more: object) -> Fetcher:
        """A fetcher whose net this is."""
        return Fetcher(resolve=self.resolve, connect=self.connect, tls=contexts(self.certified)[1], **more)

    async def resolve(self, host: str, port: int) -> list[Address]:
        """The addresses of a name, each family's as the system gives them."""
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6, (text, port, 0, 0)) if ":" in text else (socket.AF_INET, (text, port))
            for text in self.names[host]
        ]

    async def connect(self, address: Address) -> trio.abc.Stream:
        """A connection to the one server that there is."""
        self.connected.append(address)
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, plain: trio.abc.Stream) -> None:
        stream = trio.SSLStream(plain, contexts(self.certified)[0], server_side=True, https_compatible=True)
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                part = await stream.receive_some()
                if not part:
                    return
                head += part
            self.requests.append(head)
            if isinstance(self.answer, bytes):
                await stream.send_all(self.answer)
                await trio.aclose_forcefully(stream)
            else:
                await self.answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a client that leaves early is what most tests are about


@asynccontextmanager
async def open_net() -> AsyncIterator[Net]:
    """A net whose servers stop with the test."""
    async with trio.open_nursery() as nursery:
        yield Net(nursery)
        nursery.cancel_scope.cancel()


def answered(body: bytes, *, status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    """One HTTP answer as bytes; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
