"""`tenantry users|tenants|clients|grants` on the data of a server that runs: what they change counts at once."""

import io
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from tenantry.audit import record
from tenantry.cli import app
from tenantry.server import audit_log
from tests.http_client import Answer, Browser, Client, call_headers, call_message
from tests.running import TENANTRY, RunningServer, running_server

NEW_PASSWORD = "canary-of-the-new-password"


@dataclass
class Operator:
    """Somebody at the command line; the server is another process, the command is this one."""

    data: Path

    def run(self, *words: str, typed: str = "") -> tuple[int, str, str]:
        """Exit status, what was printed, and what was complained of."""
        printed, complaints = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed), redirect_stderr(complaints):
            patched.setattr("sys.stdin", io.StringIO(typed))
            status = app([*words, "--data", str(self.data)], result_action="return_value")
        return status, printed.getvalue(), complaints.getvalue()

    def does(self, *words: str, typed: str = "") -> None:
        assert self.run(*words, typed=typed) == (0, "", "")

    def sees(self, *words: str) -> list[dict[str, Any]]:
        status, printed, complaints = self.run(*words, "--json")
        assert (status, complaints) == (0, "")
        return [json.loads(line) for line in printed.splitlines()]

    def records(self) -> list[dict[str, Any]]:
        path = self.data / audit_log.ADMIN_FILE_NAME
        return [record.decode(body) for _, body in audit_log.read(path)] if path.exists() else []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("administration") / "data") as running:
        yield running


@pytest.fixture
def operator(server: RunningServer) -> Operator:
    return Operator(server.data)


def call(client: Client, tokens: dict[str, Any]) -> int:
    body = call_message(1).decode()
    return client.browser.ask("POST", "/mcp", body, **call_headers(tokens["access_token"])).status


def refresh(client: Client, tokens: dict[str, Any]) -> tuple[int, str | None]:
    answer = client.token(client.refresh_form(tokens["refresh_token"]))
    return answer.status, answer.json.get("error")


def log_in(server: RunningServer, user: str, password: str) -> Answer:
    browser = Browser(server.issuer)
    return browser.submit(browser.ask("GET", "/account"), username=user, password=password)


def add(operator: Operator, name: str, password: str = "demo") -> None:
    operator.does("users", "add", name, "--tenant", "tenant-a", "--scope", "tools:call", typed=f"{password}\n")


def test_who_is_added_can_log_in_and_call_at_once(server, operator):
    assert log_in(server, "dave", NEW_PASSWORD).status == 403
    add(operator, "dave", NEW_PASSWORD)
    client = Client.register(server.issuer)
    tokens = client.sign_in(user="dave", password=NEW_PASSWORD, scope="tools:call admin")
    assert tokens["scope"] == "tools:call"
    assert call(client, tokens) == 200
    [dave] = [user for user in operator.sees("users", "list", "--tenant", "tenant-a") if user["name"] == "dave"]
    assert (dave["from"], dave["state"], dave["scopes"]) == ("command", "enabled", "tools:call")
    added = operator.records()[-1]
    assert (added["kind"], added["tenant"], added["subject"]) == ("user_added", "tenant-a", "dave")
    assert added["operator"]
    for path in server.data.iterdir():
        assert NEW_PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("name", ["carol", "erin"])
def test_who_is_disabled_can_do_nothing_any_more_until_enabled(server, operator, name):
    if name == "erin":
        add(operator, name)
    client = Client.register(server.issuer)
    tokens = client.sign_in(user=name)
    code = client.code_form(client.authorize(user=name))
    assert call(client, tokens) == 200
    operator.does("users", "disable", name)
    assert call(client, tokens) == 401
    assert refresh(client, tokens) == (400, "invalid_grant")
    assert client.token(code).json["error"] == "invalid_grant"
    assert b'type="password"' in client.browser.ask("GET", "/account").body
    refused = log_in(server, name, "demo")
    assert (refused.status, b"User name or password is wrong." in refused.body) == (403, True)
    assert [user["state"] for user in operator.sees("users", "list") if user["name"] == name] == ["disabled"]
    operator.does("users", "enable", name)
    assert log_in(server, name, "demo").status == 303
    assert call(client, tokens) == 401
    assert [row["kind"] for row in operator.records()[-2:]] == ["user_disabled", "user_enabled"]


def test_another_password_ends_what_the_old_one_began(server, operator):
    add(operator, "frank")
    client = Client.register(server.issuer)
    tokens = client.sign_in(user="frank")
    operator.does("users", "passwd", "frank", typed="another\n")
    assert call(client, tokens) == 401
    assert refresh(client, tokens) == (400, "invalid_grant")
    assert b'type="password"' in client.browser.ask("GET", "/account").body
    assert [log_in(server, "frank", password).status for password in ("demo", "another")] == [403, 303]
    assert operator.records()[-1]["kind"] == "user_password_set"


def test_one_grant_is_ended_and_no_other(server, operator):
    first, second = Client.register(server.issuer), Client.register(server.issuer)
    ended, kept = first.sign_in(), second.sign_in()
    [grant] = operator.sees("grants", "list", "--user", "alice", "--client", first.client_id)
    assert (grant["tenant"], grant["scopes"], grant["name"]) == ("tenant-a", "tools:call", "test")
    operator.does("grants", "revoke", grant["grant"])
    assert (call(first, ended), call(second, kept)) == (401, 200)
    assert refresh(first, ended) == (400, "invalid_grant")
    revoked = operator.records()[-1]
    assert (revoked["kind"], revoked["client"], revoked["family"]) == ("grant_revoked", first.client_id, grant["grant"])
    assert operator.run("grants", "revoke", grant["grant"])[0] == 1


def test_a_client_is_forgotten_with_all_its_grants(server, operator):
    client = Client.register(server.issuer)
    tokens = client.sign_in()
    [known] = [each for each in operator.sees("clients", "list") if each["client"] == client.client_id]
    assert (known["name"], known["grants"]) == ("test", 1)
    operator.does("clients", "revoke", client.client_id)
    assert call(client, tokens) == 401
    assert refresh(client, tokens) == (401, "invalid_client")
    assert client.client_id not in [each["client"] for each in operator.sees("clients", "list")]
    assert (operator.records()[-1]["kind"], operator.records()[-1]["client"]) == ("client_revoked", client.client_id)


def test_a_person_reads_a_table(operator):
    command = [*TENANTRY, "users", "list", "--data", str(operator.data)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^alice +tenant-a +admin audit:read tools:call +configuration +enabled *$", printed, re.MULTILINE)


def test_the_tenants_are_those_of_the_configuration(operator):
    tenants = operator.sees("tenants", "list")
    assert [(tenant["name"], tenant["title"], tenant["scopes"]) for tenant in tenants] == [
        ("tenant-a", "Tenant A", "admin tools:call"),
        ("tenant-b", "Tenant B", "tools:call"),
    ]


@pytest.mark.parametrize(
    ("words", "typed", "status", "says"),
    [
        (("users", "add", "alice", "--tenant", "tenant-a", "--scope", "tools:call"), "x\n", 1, "already"),
        (("users", "add", "ann", "--tenant", "tenant-z", "--scope", "tools:call"), "x\n", 1, "tenant-a, tenant-b"),
        (("users", "add", "ann", "--tenant", "tenant-b", "--scope", "admin"), "x\n", 1, "nothing in tenant-b needs"),
        (("users", "add", "_", "--tenant", "tenant-a", "--scope", "tools:call"), "x\n", 1, "letters, digits"),
        (("users", "add", "ann", "--tenant", "tenant-a", "--scope", "tools:call"), "\n", 2, "no password"),
        (("users", "add", "ann", "--tenant", "tenant-a", "--scope", "tools:call"), "x" * 1025, 2, "1024"),
        (("users", "passwd", "alice"), "x\n", 1, "tenantry reload"),
        (("users", "passwd", "nobody"), "x\n", 1, "no user nobody"),
        (("users", "disable", "nobody"), "", 1, "no user nobody"),
        (("users", "enable", "nobody"), "", 1, "no user nobody"),
        (("clients", "revoke", "nobody"), "", 1, "no client nobody"),
        (("grants", "revoke", "none"), "", 1, "no grant none"),
        (("clients", "revoke", "-Obody"), "", 1, "no client -Obody"),  # one id in sixty-four begins so
        (("grants", "revoke", "-Ox"), "", 1, "no grant -Ox"),
        (("keys", "retire", "-Oy"), "", 1, "no such key"),
        (("grants", "list", "--client", "-Obody"), "", 0, ""),
    ],
)
def test_what_can_not_be_done_is_said_and_leaves_no_trace(operator, words, typed, status, says):
    before = operator.records()
    done = operator.run(*words, typed=typed)
    assert done[:2] == (status, "")
    assert says in done[2]
    assert operator.records() == before
    assert "ann" not in [user["name"] for user in operator.sees("users", "list")]


def test_a_directory_without_data_is_not_made_one(tmp_path):
    for words in (("users", "list"), ("users", "disable", "alice")):
        status, printed, complaint = Operator(tmp_path / "typo").run(*words)
        assert (status, printed) == (1, "")
        assert "no server has kept its data here" in complaint
    assert list(tmp_path.iterdir()) == []


def test_a_password_changed_in_the_configuration_ends_what_the_old_one_began(tmp_path):
    path = tmp_path / "tenantry.toml"
    text = (files("tenantry.demo") / "demo.toml").read_text()
    path.write_text(text)
    old = text[text.index("[users.alice]") :].split('password_hash = "')[1].split('"')[0]
    with running_server(tmp_path / "data", "--config", str(path)) as server:
        client, other = Client.register(server.issuer), Client.register(server.issuer)
        tokens, bobs = client.sign_in(), other.sign_in(user="bob")
        path.write_text(text.replace(old, PasswordHasher(1, 8, 1).hash("another")))
        subprocess.run([*TENANTRY, "reload", "--data", str(server.data)], check=True)
        while (status := call(client, tokens)) == 200:
            assert server.process.poll() is None
        assert status == 401
        assert refresh(client, tokens) == (400, "invalid_grant")
        assert call(other, bobs) == 200
        assert [log_in(server, "alice", password).status for password in ("demo", "another")] == [403, 303]
    records = [record.decode(body) for _, body in audit_log.read(server.data / audit_log.FILE_NAME)]
    ended = [entry for entry in records if entry["kind"] == "subject_ended"]
    assert [(entry["subject"], entry["reason"]) for entry in ended] == [("alice", "password_changed")]
