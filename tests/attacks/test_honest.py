"""What an honest client does works: run beside every mutant, so that a server that is merely broken shows nothing."""

import pytest

from tests.attacks.people import Client
from tests.attacks.speaker import eras, text_of
from tests.attacks.table import MODES
from tests.attacks.target import Servers
from tests.attacks.wire import eventually


@pytest.mark.parametrize("mode", MODES)
def test_an_honest_client_is_served(mode: str, servers: Servers):
    server = servers.of(mode)  # what the invariants find is left to the attacks: it is no lack of service
    client = Client.new(server)
    tokens = client.sign_in("alice")
    refreshed = client.tokens(client.refresh(tokens.refresh))
    for speaker in eras(server, refreshed.access):
        listed = speaker.ask("tools/list").message["result"]["tools"]
        assert "echo" in [tool["name"] for tool in listed]
        assert text_of(speaker.call("echo", {"message": "hello"})) == "hello"
    assert eventually(lambda: server.records("tool_call", subject="alice", outcome="succeeded"))
    assert server.faults() == []
    assert server.alive()
