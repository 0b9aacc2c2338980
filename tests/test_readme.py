"""The README's commands and examples are run as they are printed there."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import dev
import pytest
from bench.tables import tables

from tenantry.config import load
from tests.http_client import Client, call_headers, call_message
from tests.running import RunningServer, running_server

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
OURS = [line for line in COMMANDS if line.startswith("python3 dev.py ")]
TENANTRY = (sys.executable, "-m", "tenantry")


def words(line: str) -> list[str]:
    """What stands behind `python3 dev.py`, without the comment."""
    return shlex.split(line, comments=True)[2:]


def the(kind: str, start: str) -> str:
    """The block of that kind whose first line is `# start`."""
    texts: list[str] = [text for found, text in BLOCKS if found == kind and text.startswith(f"# {start}\n")]
    return texts[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("readme") / "data") as server:
        yield server


def test_the_two_commands_stand_there_and_are_known():
    assert "python3 dev.py run" in OURS
    assert "python3 dev.py test" in OURS
    assert dev.steps(["run"])[-1][1:] == ["serve", "--demo"]


@pytest.mark.parametrize("line", [line for line in OURS if words(line)[0] == "call"])
def test_a_call_ends_as_its_comment_says(server: RunningServer, line):
    done = subprocess.run([*TENANTRY, *words(line), "--url", server.url], capture_output=True, text=True, check=False)

    assert done.returncode == (3 if "# denied" in line else 0), done.stderr
    assert bool(done.stdout) == ("# denied" not in line)


@pytest.mark.parametrize("line", [line for line in OURS if words(line)[0] == "audit"])
def test_the_audit_commands_work_beside_the_running_server(server: RunningServer, line):
    done = subprocess.run(
        [*TENANTRY, *words(line), "--data", str(server.data)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout


ADMINISTRATION = ("keys", "users", "grants", "clients")


@pytest.mark.parametrize("line", [line for line in OURS if words(line)[0] in ADMINISTRATION])
def test_the_commands_that_look_after_a_server_work_beside_it(server: RunningServer, line):
    done = subprocess.run(
        [*TENANTRY, *words(line), "--data", str(server.data)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_a_password_hash_comes_out_of_its_command():
    done = subprocess.run([*TENANTRY, "hash-password"], input="hunter2\n", capture_output=True, text=True, check=False)

    assert done.stdout.startswith("$argon2id$")


def test_every_command_of_ours_is_run_here():
    run_here = {"run", "test", "call", "audit", "hash-password", "conformance", *ADMINISTRATION}
    assert {words(line)[0] for line in OURS} == run_here


def test_the_conformance_command_takes_what_the_readme_gives_it():
    (line,) = [line for line in OURS if words(line)[0] == "conformance"]
    flags = [word for word in words(line) if word.startswith("--")]
    shown = subprocess.run([*TENANTRY, "conformance", "--help"], capture_output=True, text=True, check=True).stdout

    assert all(flag in shown for flag in flags)


def test_the_example_that_asks_is_offered(tmp_path):
    (tmp_path / "painter.py").write_text(the("python", "painter.py"))
    config = tmp_path / "painter.toml"
    config.write_text(
        (Path(__file__).parent.parent / "src/tenantry/demo/demo.toml")
        .read_text()
        .replace('tool_modules = ["tenantry.demo.tools"]', 'tool_modules = ["tenantry.demo.tools", "painter"]')
        .replace("[tools]\n", '[tools]\npaint = { scopes = ["tools:call"] }\n')
        .replace('"admin_purge"]', '"admin_purge", "paint"]\nresources = ["colours"]\nprompts = ["repaint"]')
        + '\n[resources.colours]\nscopes = ["tools:call"]\n[prompts.repaint]\nscopes = ["tools:call"]\n'
    )
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        client = Client.register(server.issuer)
        token = client.sign_in()["access_token"]
        body = call_message(1, "paint", what="door")
        answer = client.browser.ask("POST", "/mcp", body.decode(), **call_headers(token, "paint"))

    assert answer.json["error"]["data"] == {"requiredCapabilities": {"elicitation": {}}}


def test_the_example_of_ones_own_tools_serves(tmp_path):
    hashed = subprocess.run(
        [*TENANTRY, "hash-password"], input="beep\n", capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "my_tools.py").write_text(the("python", "my_tools.py"))
    config = tmp_path / "tenantry.toml"
    config.write_text(the("toml", "tenantry.toml").replace("$argon2id$v=19$m=65536,t=3,p=1$...", hashed))
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        done = subprocess.run(
            [
                *(*TENANTRY, "call", "--url", server.url, "--user", "wile", "--password", "beep"),
                *("--scope", "stock:read", "--tool", "count_stock", "--args", '{"item": "bolts"}'),
            ],
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert '"count": 7' in done.stdout


def test_who_may_call_what_is_what_the_demo_says():
    demo = Path(__file__).parent.parent / "src/tenantry/demo/demo.toml"
    config = load(demo.read_text(), source="demo")
    rows = re.findall(r"^\| (\w+) \| ([\w-]+) \| ([\w, ]+) \|", README, re.MULTILINE)
    people = {who: (tenant, sorted(tools.split(", "))) for who, tenant, tools in rows if who in config.users}

    assert people == {
        who: (user.tenant, sorted(config.tenants[user.tenant].tools)) for who, user in config.users.items()
    }


def test_the_tests_that_the_promises_name_are_there():
    root = Path(__file__).parent.parent
    for path in re.findall(r"`(tests/[\w/.]+)`", README):
        assert (root / path).exists(), path
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"] == "tenantry"


def test_the_tables_are_the_kept_results():
    between = README.split("python -m bench.tables -->")[1].split("<!-- end of the tables -->")[0]

    assert between.strip() == tables()
