"""`tenantry keys`, beside a running server."""

import re
import subprocess
import time
from pathlib import Path

from tenantry.audit import record
from tenantry.cli.keys import retire
from tenantry.server import audit_log
from tenantry.server.feed import Feed
from tenantry.server.keys import SigningKeys, stored_keys
from tenantry.server.store import Store
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
        run(tmp_path, "keys", "rotate", "--now")
        assert states(tmp_path) == ["retiring", "active", "pending"]
        published = [key["kid"] for key in browser.ask("GET", "/jwks").json["keys"]]
        assert published[0] == first
        run(tmp_path, "keys", "retire", first)
        assert [key["kid"] for key in browser.ask("GET", "/jwks").json["keys"]] == published[1:]
        assert recorded(tmp_path) == ["key_rotated", "key_rotated", "key_retired"]


def test_a_key_that_signs_or_is_not_there_is_not_retired(tmp_path, capsys):
    store = Store.open(tmp_path / "state.db")
    SigningKeys(store, feed=Feed(store.announcements), clock=time.time)
    (key,) = stored_keys(store)
    store.close()

    assert retire("unknown", data=tmp_path) == 1
    assert "no such key" in capsys.readouterr().err
    assert retire(key.kid, data=tmp_path) == 1
    assert "this key signs" in capsys.readouterr().err
    assert recorded(tmp_path) == []
