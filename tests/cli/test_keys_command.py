"""`tenantry keys`, beside a running server."""

import re
import subprocess
from pathlib import Path

from tenantry.audit import record
from tenantry.server import audit_log
from tests.http_client import Browser
from tests.running import TENANTRY, running_server


def run(data: Path, *words: str, status: int = 0) -> str:
    """Run a command on the data and give what it said."""
    ran = subprocess.run([*TENANTRY, *words, "--data", str(data)], capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stderr
    return ran.stdout + ran.stderr


def recorded(data: Path) -> list[str]:
    """The kinds of what commands put on record."""
    return [record.decode(body)["kind"] for _, body in audit_log.read(data / audit_log.ADMIN_FILE_NAME)]


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
