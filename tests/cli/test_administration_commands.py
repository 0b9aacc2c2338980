"""Commands that change a running server's data: what they print counts at once, and is on record."""

import base64
import re
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tenantry.audit import record
from tenantry.server import audit_log
from tests.http_client import Answer, Browser, call_headers, call_message
from tests.running import TENANTRY, running_server


def run(data: Path, *words: str, status: int = 0) -> str:
    """Run a command on the data and give what it said."""
    ran = subprocess.run([*TENANTRY, *words, "--data", str(data)], capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stderr
    return ran.stdout + ran.stderr


def recorded(data: Path) -> list[str]:
    """The kinds of what commands put on record."""
    return [record.decode(body)["kind"] for _, body in audit_log.read(data / audit_log.ADMIN_FILE_NAME)]


def ask(browser: Browser, client_id: str, secret: str) -> Answer:
    """Ask for an access token for a service account."""
    credentials = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    form = urlencode({"grant_type": "client_credentials"})
    return browser.ask("POST", "/token", form, authorization=f"Basic {credentials}")


def call(browser: Browser, token: str, tool: str, **arguments: object) -> Answer:
    """Call a tool as a modern client."""
    return browser.ask("POST", "/mcp", call_message(1, tool, **arguments).decode(), **call_headers(token, tool))


def test_a_service_account_calls_what_its_tenant_offers_and_its_scopes_allow(tmp_path):
    with running_server(tmp_path) as server:
        browser = Browser(server.issuer)
        said = run(tmp_path, "clients", "add-service", "--tenant", "tenant-a", "--name", "n", "--scope", "tools:call")
        client_id, secret = re.findall(r"client_(?:id|secret): (\S+)", said)
        token = ask(browser, client_id, secret).json["access_token"]

        assert call(browser, token, "echo", message="hi").json["result"]["content"][0]["text"] == "hi"
        assert "error" in call(browser, token, "export_report", reportId="r1").json  # another tenant's
        assert call(browser, token, "admin_purge", confirm=True).json["result"]["isError"]
        assert recorded(tmp_path) == ["service_added"]
        for path in tmp_path.iterdir():
            assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "flags",
    [
        ("--tenant", "tenant a", "--name", "n", "--scope", "s"),
        ("--tenant", "t", "--name", "\u202en", "--scope", "s"),
        ("--tenant", "t", "--name", "n", "--scope", "two scopes"),
    ],
)
def test_a_service_account_that_can_not_be_is_not_made(tmp_path, flags):
    assert "tenantry: --" in run(tmp_path, "clients", "add-service", *flags, status=2)


def test_a_directory_without_a_server_s_data_is_left_as_it_is(tmp_path):
    flags = ("--tenant", "t", "--name", "n", "--scope", "s")
    assert "no data" in run(tmp_path, "clients", "add-service", *flags, status=1)
    assert list(tmp_path.iterdir()) == []


def states(data: Path) -> list[str]:
    """The states of all keys, in their order."""
    return re.findall(r"\b(pending|active|retiring|retired)\b", run(data, "keys", "list"))


def test_keys_are_rotated_listed_and_retired_beside_a_running_server(tmp_path):
    with running_server(tmp_path) as server:
        browser = Browser(server.issuer)
        (first,) = [key["kid"] for key in browser.ask("GET", "/jwks").json["keys"]]
        run(tmp_path, "keys", "rotate")
        assert states(tmp_path) == ["active", "pending"]
        run(tmp_path, "keys", "rotate", "--now")
        assert states(tmp_path) == ["retiring", "active", "pending"]
        published = [key["kid"] for key in browser.ask("GET", "/jwks").json["keys"]]
        assert published[0] == first
        assert "this key signs" in run(tmp_path, "keys", "retire", published[1], status=1)
        assert "no such key" in run(tmp_path, "keys", "retire", "unknown", status=1)
        run(tmp_path, "keys", "retire", first)
        run(tmp_path, "keys", "retire", published[2])
        assert [key["kid"] for key in browser.ask("GET", "/jwks").json["keys"]] == [published[1]]
        assert states(tmp_path) == ["retired", "active", "retired"]
        assert recorded(tmp_path) == ["key_rotated", "key_rotated", "key_retired", "key_retired"]
