"""Servers of others, and in others' designs, that answer the bench's call: installed by the bench, one process each.

Each has an environment of its own under .tenantry-tools. The official Python SDK, FastMCP and the TypeScript SDK echo
without an audit, behind a bearer check that remembers a token it has verified; the Node peer checks the signature at
each call and inserts a record before its answer; bare trio and h11 checks nothing at all.
"""

import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from tests.tools import npm_package, once, python_package

HERE = Path(__file__).parent
ISSUER, AUDIENCE = "http://127.0.0.1", "http://127.0.0.1/mcp"
TOKEN_S = 24 * 3600


class Signer:
    """Issues access tokens that the peers know to check."""

    def __init__(self) -> None:
        """Make a key pair."""
        self._key = ec.generate_private_key(ec.SECP256R1())

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a peer is told: the public key, issuer and audience."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
        return {"PEER_KEY": json.dumps(key), "PEER_ISSUER": ISSUER, "PEER_AUDIENCE": AUDIENCE}

    def token(self, tenant: str = "tenant-a") -> str:
        """Give an access token for somebody of the tenant."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "exp": int(time.time()) + TOKEN_S,
            "sub": "alice",
            "client_id": "bench",
            "tenant": tenant,
            "scope": "tools:call",
        }
        return jwt.encode(claims, self._key, algorithm="ES256")


def _coordinate(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Peer:
    """How one of them is installed and started."""

    command: Callable[[], list[str]]
    """Installs what is missing, and gives the command line."""
    title: str


def _node() -> list[str]:
    program = once("bench-node-peer", "1", _install_node) / "server.js"
    shutil.copy(HERE / "node" / "server.js", program)
    return ["node", str(program)]


def _install_node(home: Path) -> None:
    shutil.copy(HERE / "node" / "package.json", home)
    flags = ("--no-fund", "--no-audit", "--no-package-lock", "--loglevel=error")
    subprocess.run(["npm", "install", *flags], cwd=home, check=True, stdout=subprocess.DEVNULL)
    # A newer npm runs no install script before it was allowed to; an older one has no word for that.
    subprocess.run(["npm", "install-scripts", "approve", "better-sqlite3"], cwd=home, check=False, capture_output=True)
    subprocess.run(
        ["npm", "rebuild", "better-sqlite3", "--foreground-scripts"], cwd=home, check=True, capture_output=True
    )


def _python(package: str, version: str, program: str) -> list[str]:
    return [str(python_package(package, version) / "python"), str(HERE / program)]


def _typescript() -> list[str]:
    # Modules are looked for from the place of the file that imports them.
    package = npm_package("@modelcontextprotocol/sdk", TYPESCRIPT_SDK)
    return ["node", str(shutil.copy(HERE / "typescript_sdk.mjs", package / "bench-peer.mjs"))]


PYTHON_SDK, FASTMCP, TYPESCRIPT_SDK = "2.3.0", "4.1.0", "1.32.2"
PEERS = {
    "node": Peer(_node, "express, jose, better-sqlite3: one synchronous insert a call"),
    "python-sdk": Peer(lambda: _python("mcp", PYTHON_SDK, "python_sdk.py"), f"official Python SDK {PYTHON_SDK}"),
    "fastmcp": Peer(lambda: _python("fastmcp", FASTMCP, "fast_mcp.py"), f"FastMCP {FASTMCP}"),
    "typescript-sdk": Peer(_typescript, f"official TypeScript SDK {TYPESCRIPT_SDK} on express"),
    "bare-h11": Peer(lambda: [sys.executable, str(HERE / "bare_h11.py")], "bare trio and h11"),
}
