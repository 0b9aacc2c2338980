"""`tenantry clients invite` and `add-service`: what they print counts, and is nowhere else."""

import base64
import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tenantry.audit import record
from tenantry.server import audit_log
from tests.http_client import REDIRECT_URI, Answer, Browser, call_headers, call_message
from tests.running import TENANTRY, demo_with, running_server


def test_the_invitation_admits_and_its_digest_does_not(tmp_path):
    printed = subprocess.run([*TENANTRY, "clients", "invite"], check=True, capture_output=True, text=True).stdout
    token = re.search(r":  (\S{43})$", printed, re.MULTILINE)
    [digest] = re.findall(r"[0-9a-f]{64}", printed)
    assert token
    section = "[clients]\n" + "\n".join(printed.splitlines()[-2:])
    with running_server(tmp_path / "data", "--config", str(demo_with(tmp_path, section))) as server:
        browser = Browser(server.issuer)
        body = json.dumps({"redirect_uris": [REDIRECT_URI]})
        statuses = [
            browser.ask("POST", "/register", body, **{"content-type": "application/json", **header}).status
            for header in (
                {},
                {"authorization": f"Bearer {digest}"},
                {"authorization": f"Bearer {token[1]}"},
            )
        ]
    assert statuses == [401, 401, 201]


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
        run(tmp_path, "clients", "revoke", client_id)
        assert call(browser, token, "echo", message="hi").status == 401
        assert ask(browser, client_id, secret).json["error"] == "invalid_client"
        assert recorded(tmp_path) == ["service_added", "client_revoked"]
        for path in tmp_path.iterdir():
            assert secret.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--tenant", "tenant-z", "--name", "n", "--scope", "tools:call"), "no tenant tenant-z"),
        (("--tenant", "tenant-a", "--name", "\u202en", "--scope", "tools:call"), "--name"),
        (("--tenant", "tenant-b", "--name", "n", "--scope", "admin"), "nothing in tenant-b needs admin"),
    ],
)
def test_a_service_account_that_can_not_be_is_not_made(tmp_path, flags, says):
    with running_server(tmp_path):
        assert says in run(tmp_path, "clients", "add-service", *flags, status=1)
    assert not recorded(tmp_path)


def test_a_directory_without_a_server_s_data_is_left_as_it_is(tmp_path):
    flags = ("--tenant", "t", "--name", "n", "--scope", "s")
    assert "no server has kept its data here" in run(tmp_path, "clients", "add-service", *flags, status=1)
    assert list(tmp_path.iterdir()) == []
