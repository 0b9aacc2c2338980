"""`tenantry conformance`: the suite against a running server, as others use it."""

import json
import os
import subprocess
import sys

import pytest
from conformance.broken.faults import FAULTS
from conformance.broken.proxy import spoilt_server
from conformance.serving import PASSWORD, demo

COMMAND = (sys.executable, "-m", "tenantry", "conformance")
ONE = ("--clause", "jsonrpc-2.0:5:id-repeated")


def run(*words, cwd, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with demo(tmp_path_factory.mktemp("command") / "data", "dual") as server:
        yield server


@pytest.fixture(scope="module")
def token(server):
    return server.sign_in().access_token


def test_the_matrix_of_a_running_server_is_printed(server, token, tmp_path):
    done = run("--url", server.url, "--token", token, *ONE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Conformance\n")
    assert "| `jsonrpc-2.0:5:id-repeated` | MUST | shown | shown | shown | shown |" in done.stdout
    assert token not in done.stdout + done.stderr


def test_revision_and_mode_narrow_the_columns(server, token, tmp_path):
    words = ("--url", server.url, "--token", token, *ONE, "--json")
    done = run(*words, "--revision", "2025-06-18", "--revision", "2026-07-28", cwd=tmp_path)
    columns = [(each["revision"], each["mode"]) for each in json.loads(done.stdout)["columns"]]
    assert columns == [("2025-06-18", "sessionful"), ("2026-07-28", "dual")]
    done = run(*words, "--mode", "sessionful", "--output", str(tmp_path / "out"), cwd=tmp_path)
    assert {each["mode"] for each in json.loads(done.stdout)["columns"]} == {"sessionful"}
    assert json.loads((tmp_path / "out" / "matrix.json").read_text()) == json.loads(done.stdout)
    assert (tmp_path / "out" / "matrix.md").read_text().startswith("# Conformance\n")


def test_a_server_that_wants_a_token_is_not_judged_without_one(server, tmp_path):
    done = run("--url", server.url, *ONE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give an access token with --token" in done.stderr


def test_where_nobody_listens_there_is_no_matrix(unused_port, tmp_path):
    done = run("--url", f"http://127.0.0.1:{unused_port}/mcp", *ONE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "refused" in done.stderr


def test_a_failing_clause_makes_the_exit_status_1(server, tmp_path, token):
    with spoilt_server(server.url, FAULTS["ids-as-text"]) as proxy:
        done = run("--url", proxy.url, "--token", token, *ONE, cwd=tmp_path)
    assert done.returncode == 1
    assert "| `jsonrpc-2.0:5:id-repeated` | MUST | fails | fails | fails | fails |" in done.stdout


def test_the_authorization_server_is_tested_by_who_may_sign_in_and_a_client_that_acts_for_itself(
    server, token, tmp_path
):
    name, secret = server.add_service()
    clauses = ("--clause", "rfc6749:5.1:access-token", "--clause", "rfc6749:4.4.2:grant-type")
    words = ("--url", server.url, "--token", token, *clauses, "--revision", "2026-07-28", "--json")
    done = run(*words, cwd=tmp_path)
    assert states(done) == {"rfc6749:5.1:access-token": "not applicable", "rfc6749:4.4.2:grant-type": "not applicable"}
    known = {"CONFORMANCE_PASSWORD": PASSWORD, "CONFORMANCE_SERVICE_SECRET": secret}
    done = run(*words, "--user", server.user, "--service", name, cwd=tmp_path, **known)
    assert states(done) == {"rfc6749:5.1:access-token": "shown", "rfc6749:4.4.2:grant-type": "shown"}
    assert secret not in done.stdout + done.stderr


def states(done):
    assert done.returncode == 0, done.stderr
    wanted = {"rfc6749:5.1:access-token", "rfc6749:4.4.2:grant-type"}
    rows = json.loads(done.stdout)["clauses"]
    return {row["id"]: row["cells"][0]["state"] for row in rows if row["id"] in wanted}
