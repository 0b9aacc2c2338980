"""A call whose client is cut off, over real sockets and over a restart of the process: its result comes once."""

import http.client
import json
import signal
import threading
from pathlib import Path

import pytest

from tenantry.server import audit_log
from tests.http_client import Client, initialize, legacy_headers
from tests.running import RunningServer, demo_with, free_port, running_server

TOOL = '''
from pathlib import Path
import trio
from tenantry import CallContext, tool

@tool
async def wait_for(path: str, ctx: CallContext) -> str:
    """Wait until a file is there."""
    await ctx.progress(1)
    while not Path(path).exists():
        await trio.sleep(0.01)
    return "it is there"
'''


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "waiting.py").write_text(TOOL)
    path = demo_with(tmp_path, "")
    text = path.read_text().replace('["tenantry.demo.tools"]', '["tenantry.demo.tools", "waiting"]')
    text = text.replace("[tools]\n", '[tools]\nwait_for = { scopes = ["tools:call"] }\n')
    path.write_text(text.replace('"admin_purge"]', '"admin_purge", "wait_for"]'))
    return path


def begin(server: RunningServer, headers: dict[str, str], gate: Path) -> str:
    """Call, read the stream's first event, and cut the connection; give the event's id."""
    params = {"name": "wait_for", "arguments": {"path": str(gate)}, "_meta": {"progressToken": 1}}
    body = json.dumps({"jsonrpc": "2.0", "id": 41, "method": "tools/call", "params": params})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/mcp", body=body, headers={**headers, "host": f"localhost:{server.port}"})
    response = connection.getresponse()
    first = response.readline()
    response.close()
    connection.close()
    return first.decode().removeprefix("id: ").strip()


def resume(server: RunningServer, headers: dict[str, str], last: str) -> list[dict[str, object]]:
    """Come back and read to the stream's end."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    fields = {**headers, "last-event-id": last, "host": f"localhost:{server.port}"}
    connection.request("GET", "/mcp", headers=fields)
    body = connection.getresponse().read()
    connection.close()
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


@pytest.mark.parametrize("restart", ["no restart", "restart after the call", "stop during the call"])
def test_a_call_that_was_cut_off_gives_its_result_once(tmp_path, config, restart):
    gate, port = tmp_path / "gate", free_port()
    flags = ("--config", str(config), "--port", str(port))
    with running_server(tmp_path / "data", *flags) as server:
        client = Client.register(server.issuer)
        token = client.sign_in()["access_token"]
        headers = legacy_headers(token, initialize(client.browser, token))
        last = begin(server, headers, gate)
        if restart == "stop during the call":
            threading.Timer(0.5, gate.touch).start()
            server.stop()
        else:
            gate.touch()
            messages = resume(server, headers, last)
    if restart != "no restart":
        with running_server(tmp_path / "data", *flags) as server:
            messages = resume(server, headers, last)

    assert [message.get("method", message.get("id")) for message in messages] == ["notifications/progress", 41]
    assert messages[-1]["result"] == {"content": [{"type": "text", "text": "it is there"}], "isError": False}


def test_a_second_sigterm_does_not_wait_for_a_call_and_its_record_is_kept(tmp_path, config):
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        client = Client.register(server.issuer)
        token = client.sign_in()["access_token"]
        begin(server, legacy_headers(token, initialize(client.browser, token)), tmp_path / "never")
        server.process.send_signal(signal.SIGTERM)
        server.stop()
    (call,) = audit_log.matching(server.data / audit_log.FILE_NAME, kind="tool_call")

    assert call["outcome"] == "cancelled"
