"""What the tests of the conformance suite share."""

import socket

import pytest


@pytest.fixture
def unused_port():
    """A port of 127.0.0.1 at which nobody listens: bound, so that nobody can come to listen there either."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
