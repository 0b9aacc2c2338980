"""`tenantry reload`: another configuration without another start, and whoever is concerned is told."""

import http.client
import json
import signal
import subprocess
from importlib.resources import files

import pytest

from tests.http_client import Client, call_headers, initialize, legacy_headers
from tests.running import TENANTRY, RunningServer, running_server


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tenantry.toml"
    path.write_text((files("tenantry.demo") / "demo.toml").read_text())
    return path


def reload(server: RunningServer) -> None:
    subprocess.run([*TENANTRY, "reload", "--data", str(server.data)], check=True)


def listed(client: Client, token: str) -> list[str]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "tools/list", "params": {"_meta": meta}})
    headers = {**call_headers(token), "mcp-method": "tools/list"}
    return [tool["name"] for tool in client.browser.ask("POST", "/mcp", body, **headers).json["result"]["tools"]]


def test_a_reload_changes_lists_and_tells_the_open_stream_once(tmp_path, config):
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        client = Client.register(server.issuer)
        token = client.sign_in(user="bob")["access_token"]
        session = initialize(client.browser, token)
        stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        stream.request("GET", "/mcp", headers={**legacy_headers(token, session), "host": f"localhost:{server.port}"})
        events = stream.getresponse()
        assert events.status == 200
        before = listed(client, token)
        config.write_text(config.read_text().replace('"search_documents", "admin_purge"]', '"search_documents"]'))
        reload(server)
        heard = b""
        while b"list_changed" not in heard:
            heard += events.readline()
        after = listed(client, token)
        stream.close()

        assert set(before) - set(after) == {"admin_purge"}
        assert b"notifications/tools/list_changed" in heard


@pytest.mark.parametrize(
    "change",
    [("[tools]", "[toools]"), ('tenant = "tenant-b"', 'tenant = "tenant-z"'), ("admin = ", "root = ")],
)
def test_a_configuration_that_can_not_be_served_changes_nothing(tmp_path, config, change):
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        client = Client.register(server.issuer)
        token = client.sign_in()["access_token"]
        before = listed(client, token)
        config.write_text(config.read_text().replace(*change))
        reload(server)
        while "was not reloaded" not in server.logged():
            assert server.process.poll() is None

        assert listed(client, token) == before


def test_where_nobody_serves_there_is_nothing_to_reload(tmp_path):
    done = subprocess.run([*TENANTRY, "reload", "--data", str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "nobody serves" in done.stderr


def test_a_lock_that_a_dead_server_left_names_nobody(tmp_path):
    with running_server(tmp_path, exit_status=-signal.SIGKILL) as server:
        server.process.kill()
        server.process.wait()
    done = subprocess.run([*TENANTRY, "reload", "--data", str(tmp_path)], capture_output=True, check=False)

    assert done.returncode == 1
