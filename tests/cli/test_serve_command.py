"""`tenantry serve` as a process: what it refuses to start with, how it stops, and what it leaves on the disk."""

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import tomllib
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.certificates import self_signed
from tests.running import TENANTRY, eventually, running_server

DEMO_HASH = tomllib.loads((files("tenantry.demo") / "demo.toml").read_text())["users"]["alice"]["password_hash"]
CONFIG = f"""
tool_modules = ["slow_tool_of_a_test"]
[scopes]
"tools:call" = "Call tools"
[tools]
slow = {{ scopes = ["tools:call"] }}
[tenants.acme]
tools = ["slow"]
[users.dora]
tenant = "acme"
scopes = ["tools:call"]
password_hash = "{DEMO_HASH}"
"""
SLOW_TOOL = '''
from pathlib import Path
from tenantry import tool

HERE = Path(__file__).parent

@tool
def slow() -> str:
    """Say that the call has begun, then wait for the answer to give: both pipes hold until the test comes."""
    (HERE / "begun").write_text("begun")
    return (HERE / "answer").read_text()
'''


def refused(*flags):
    """Start a server that must refuse: give what it says on stderr; its exit status is 2, and it is never ready."""
    command = [*TENANTRY, "serve", *map(str, flags)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mode = 'dual", "not valid TOML"),
        ("colour = 'red'", "colour: Extra inputs are not permitted"),
        ("[limits]\nbody_bytes = 'much'", "limits.body_bytes: Input should be a valid integer"),
        ("public_url = 'http://example.com'", "public_url: http is for localhost only"),
        ("[users.ann]\ntenant = 'nix'\nscopes = []\npassword_hash = '$argon2id$'", "users.ann.tenant: there is no"),
        ("tool_modules = ['no_such_module_of_a_test']", "tool_modules: no_such_module_of_a_test can't be imported"),
        ("[tools]\nnix = { scopes = [] }", "tools.nix: no module in tool_modules offers it"),
    ],
)
def test_a_bad_configuration_is_refused_with_file_key_and_reason(tmp_path, text, reason):
    path = tmp_path / "tenantry.toml"
    path.write_text(text)
    told = refused("--config", path, "--port", 0, "--data", tmp_path / "data")
    assert told.startswith(f"tenantry: {path}: {reason}")
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "tenantry.toml"
    assert refused("--config", path, "--data", tmp_path).startswith(f"tenantry: {path}: can't be read")


def test_config_and_demo_together_are_refused_and_so_is_neither(tmp_path):
    path = tmp_path / "tenantry.toml"
    path.write_text(CONFIG)
    for flags in ((), ("--demo", "--config", path)):
        assert "say either --config FILE or --demo" in refused("--data", tmp_path / "data", *flags)


def test_an_address_that_others_can_reach_needs_a_public_url(tmp_path):
    told = refused("--demo", "--host", "0.0.0.0", "--port", 0, "--data", tmp_path / "data")
    assert "--public-url https://" in told


def test_a_second_server_on_the_same_data_is_refused_and_the_first_goes_on(tmp_path):
    with running_server(tmp_path / "data") as first:
        told = refused("--demo", "--port", 0, "--data", first.data)
        assert told == f"tenantry: --data {first.data}: another tenantry is serving from it\n"
        assert httpx2.get(first.url, trust_env=False).status_code == 401


def test_a_port_in_use_is_refused(tmp_path, unused_port):
    told = refused("--demo", "--port", unused_port, "--data", tmp_path / "data")
    assert told.startswith(f"tenantry: --host 127.0.0.1 --port {unused_port}: Address already in use")


def test_port_0_prints_the_port_that_it_got(tmp_path):
    with running_server(tmp_path / "one") as first, running_server(tmp_path / "two") as second:
        assert len({urlsplit(first.url).port, urlsplit(second.url).port, 0}) == 3
        for server in (first, second):
            document = httpx2.get(f"{server.issuer}/.well-known/oauth-protected-resource/mcp", trust_env=False).json()
            assert document["resource"] == server.url


@pytest.mark.parametrize("workers", ["1", "2"])
def test_https_is_served_under_its_own_names(tmp_path, workers):
    made = self_signed(tmp_path)
    tls = ("--certfile", str(made.certfile), "--keyfile", str(made.keyfile), "--workers", workers)
    with running_server(tmp_path / "data", *tls) as server:
        assert server.url == f"https://localhost:{server.port}/mcp"
        with httpx2.Client(verify=made.client(), trust_env=False) as client:
            document = client.get(f"{server.issuer}/.well-known/oauth-protected-resource/mcp")
            elsewhere = client.get(f"https://127.0.0.1:{server.port}/nothing")
        assert document.json()["resource"] == server.url
        assert "strict-transport-security" not in document.headers  # it would hold for all ports of localhost
        assert elsewhere.status_code == 404


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--certfile", "cert.pem"), "--certfile and --keyfile belong together"),
        (("--certfile", "none.pem", "--keyfile", "key.pem"), "none.pem: No such file or directory"),
        (("--certfile", "key.pem", "--keyfile", "cert.pem"), "--certfile, --keyfile: "),
        (
            ("--certfile", "cert.pem", "--keyfile", "key.pem", "--public-url", "http://localhost:1"),
            "--certfile serves https, and the public URL is http://localhost:1",
        ),
        (("--trusted-proxy", "10.0.0.1/8"), "--trusted-proxy: 10.0.0.1/8 has host bits set"),
        (("--trusted-proxy", "::/0"), "--trusted-proxy: ::/0 is everybody"),
    ],
)
def test_what_contradicts_itself_about_the_way_in_is_refused(tmp_path, flags, reason):
    self_signed(tmp_path)
    placed = [str(tmp_path / flag) if flag.endswith(".pem") else flag for flag in flags]
    assert reason in refused("--demo", "--port", 0, "--data", tmp_path / "data", *placed)


def test_only_the_owner_can_read_what_a_server_keeps(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    with running_server(data) as server:
        subprocess.run(
            [*TENANTRY, "call", "--url", server.url, "--user", "bob", "--tool", "search_documents"],
            check=False,
            capture_output=True,
        )
        running = modes(data)
    assert {"audit-0.db", "state.db", "lock"} <= set(running)
    for kept in (running, modes(data)):
        assert set(kept.values()) == {0o600}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def wait_until_closed(url):
    """Return once nobody listens any more at the port of `url`."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=5).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            continue  # the port closed while we knocked


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_request_in_flight_is_answered_after_sigterm(tmp_path, era):
    (tmp_path / "slow_tool_of_a_test.py").write_text(SLOW_TOOL)
    (tmp_path / "tenantry.toml").write_text(CONFIG)
    for name in ("begun", "answer"):
        os.mkfifo(tmp_path / name)
    with running_server(tmp_path / "data", "--config", str(tmp_path / "tenantry.toml")) as server:
        command = [*TENANTRY, "call", "--url", server.url, "--user", "dora", "--tool", "slow", "--era", era]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as calling:
            assert (tmp_path / "begun").read_text() == "begun"
            server.process.send_signal(signal.SIGTERM)
            wait_until_closed(server.url)
            assert server.process.poll() is None
            (tmp_path / "answer").write_text("late but whole")
            assert calling.communicate(timeout=60) == ("late but whole\n", "")
            assert calling.returncode == 0
        assert server.process.wait(60) == 0


def test_an_idle_server_stops_at_sigterm_and_starts_again_over_its_data(tmp_path):
    for _ in range(2):
        with running_server(tmp_path / "data") as server:
            server.stop()
            assert "Traceback" not in server.logged()


def test_what_is_over_is_forgotten_by_a_server_at_which_nobody_registers(tmp_path: Path):
    with running_server(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "state.db")) as store, store:
        store.execute("INSERT INTO login_session (digest, tenant, subject, expires_at) VALUES ('x', 'a', 'b', 1)")

    def is_forgotten() -> bool:
        with closing(sqlite3.connect(tmp_path / "state.db")) as store:
            return store.execute("SELECT 1 FROM login_session").fetchone() is None

    with running_server(tmp_path):
        eventually(is_forgotten)
