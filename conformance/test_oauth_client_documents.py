"""Clients whose id is the URL of their document: what shows without a document (draft-00, sections 3 and 6; MCP)."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from conformance.authority import Authority, is_page
from conformance.clauses import clause
from conformance.client import NotApplicable

BAD_URLS = {
    "http": "http://client.example/client.json",
    "no-path": "https://client.example",
    "root": "https://client.example/",
    "fragment": "https://client.example/client.json#x",
    "user": "https://user@client.example/client.json",
    "dots": "https://client.example/a/../client.json",
    "encoded-dots": "https://client.example/%2e%2e/client.json",
    "ftp": "ftp://client.example/client.json",
    "file": "file:///etc/passwd",
}


@pytest.fixture
def on(authority: Authority) -> Authority:
    """A server that takes such clients."""
    if not authority.metadata.get("client_id_metadata_document_supported"):
        raise NotApplicable("the server takes no URL for a client's id")
    return authority


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A port of this machine at which somebody could be asked."""
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(socket.socket())
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        bound.settimeout(0.3)
        yield bound


def somebody_came(listening: socket.socket) -> bool:
    """Whether anybody connected."""
    try:
        listening.accept()[0].close()
    except TimeoutError:
        return False
    return True


@clause("mcp-authorization:registration:client-id-advertised", "mcp-authorization:registration:client-id-documents")
def test_support_is_announced_by_a_boolean(authority: Authority) -> None:
    assert authority.metadata["token_endpoint"]
    assert authority.metadata.get("client_id_metadata_document_supported", False) in {True, False}


@clause("mcp-authorization:registration:client-id-https")
@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS)
def test_a_url_that_can_be_no_id_ends_in_a_page(on: Authority, url: str) -> None:
    assert is_page(on.authorize({"client_id": url}))


@clause("mcp-authorization:registration:client-id-ssrf", "mcp-security:ssrf:authorization-server")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0.0.0.0"])
def test_nobody_on_this_machine_is_asked(on: Authority, listening: socket.socket, host: str) -> None:
    url = f"https://{host}:{listening.getsockname()[1]}/client.json"
    answer = on.authorize({"client_id": url})
    assert not somebody_came(listening)
    assert is_page(answer), answer


@clause("mcp-authorization:registration:client-id-ssrf", "mcp-security:ssrf:authorization-server")
@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "192.168.0.1", "[::1]", "[fe80::1]", "[fd00::1]"])
def test_nobody_in_a_private_network_is_asked(on: Authority, host: str) -> None:
    assert is_page(on.authorize({"client_id": f"https://{host}/client.json"}))
