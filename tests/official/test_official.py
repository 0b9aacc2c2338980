"""The official conformance suites against a server of our own, and the fixtures that only their tenant may see."""

import json
import socket
import subprocess
import threading

import pytest

from tests.http_client import Browser, Client, legacy_headers
from tests.official import authorization, runner
from tests.official.proxy import Route, running_proxy
from tests.running import TENANTRY, running_server

# --- the suites


@pytest.fixture
def official_runner():
    """Skip where the runner can't run."""
    if missing := runner.missing_tools():
        pytest.skip(f"the official runner needs {' and '.join(missing)}")


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("official_runner")
@pytest.mark.parametrize(
    ("name", "mode", "scored"),
    [
        ("0.1.16", "dual", 32),
        ("2025-11-25", "dual", 30),
        ("2026-07-28", "dual", 37),
        ("2026-07-28", "stateless", 37),
    ],
)
def test_every_scored_scenario_of_the_official_suites_is_clean(name, mode, scored, tmp_path, capsys):
    verdicts = runner.run(runner.SUITES[name], mode, tmp_path / "out")
    report = runner.table(f"{name}, {mode}", verdicts)
    with capsys.disabled():
        print(f"\n{report}")
    judged = [verdict for verdict in verdicts if verdict.scored]
    known = runner.expected_failures()
    assert len(judged) == scored, report
    assert {verdict.scenario for verdict in judged if not verdict.clean} == set(known), report
    assert all(verdict.strict or verdict.scenario in known for verdict in judged), report


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("official_runner")
def test_the_official_scenarios_for_authorization_servers_pass_without_a_warning(tmp_path, capsys):
    verdicts = authorization.run(tmp_path / "out", client_documents=True)
    report = runner.table("authorization server", verdicts)
    with capsys.disabled():
        print(f"\n{report}")
    assert len(verdicts) == len(authorization.SCENARIOS)
    assert all(verdict.strict for verdict in verdicts), report


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("official_runner")
def test_without_client_documents_the_official_runner_warns_of_that_alone(tmp_path):
    verdicts = authorization.run(tmp_path / "out", client_documents=False)
    assert all(verdict.clean for verdict in verdicts), runner.table("authorization server", verdicts)
    [problem] = [problem for verdict in verdicts for problem in verdict.problems]
    assert problem.startswith("WARNING authorization-server-metadata-cimd:")


# --- the judge


def written(out, **scenarios):
    """Write down checks as the runner does, by scenario."""
    for scenario, checks in scenarios.items():
        directory = out / f"server-{scenario}-2026-07-28T10-00-00-000Z"
        directory.mkdir(parents=True)
        (directory / "checks.json").write_text(
            json.dumps([{"id": f"check-{number}", "status": status} for number, status in enumerate(checks)])
        )


def test_a_scenario_is_judged_as_a_whole(tmp_path):
    written(
        tmp_path,
        good=["SUCCESS", "INFO", "SKIPPED"],
        warned=["SUCCESS", "WARNING"],
        empty=["INFO"],
        bad=["SUCCESS", "SUCCESS", "FAILURE"],
        extra=["FAILURE"],
    )
    verdicts = {verdict.scenario: verdict for verdict in runner.judge(tmp_path, ["good", "warned", "empty", "bad"])}
    grades = {name: (verdict.clean, verdict.strict, verdict.scored) for name, verdict in verdicts.items()}
    assert grades == {
        "good": (True, True, True),
        "warned": (True, False, True),
        "empty": (True, False, True),
        "bad": (False, False, True),
        "extra": (False, False, False),
    }
    assert "scored: 3 clean, 1 strict, 4 in all" in runner.table("title", list(verdicts.values()))


def test_a_scored_scenario_that_did_not_run_has_failed(tmp_path):
    [verdict] = runner.judge(tmp_path, ["ping"])
    assert not verdict.clean
    assert verdict.scored


# --- the proxy


def headed(head):
    """What the proxy makes of a head."""
    route = Route(own="localhost:1", server="localhost:2", token=lambda: "t")
    lines = route.head(head.replace("\n", "\r\n").encode()).decode().split("\r\n")
    assert lines[-2:] == ["", ""]
    return lines[:-2]


def test_the_proxy_replaces_its_own_names_alone_and_signs():
    own = headed("POST /mcp HTTP/1.1\nHost: localhost:1\nOrigin: http://localhost:1\nAuthorization: x\nX-Y:  z ")
    assert own == [
        "POST /mcp HTTP/1.1",
        "host: localhost:2",
        "origin: http://localhost:2",
        "X-Y:  z ",
        "authorization: Bearer t",
        "connection: close",
    ]
    foreign = headed("POST /mcp HTTP/1.1\nHost: evil.example\nOrigin: http://evil.example\nConnection: keep-alive")
    assert foreign[1:3] == ["Host: evil.example", "Origin: http://evil.example"]
    assert foreign[3:] == ["authorization: Bearer t", "connection: close"]


def test_the_proxy_streams_both_ways():
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve():
            peer, _ = server.accept()
            with peer:
                assert peer.recv(65536).startswith(b"GET /mcp HTTP/1.1\r\n")
                peer.sendall(b"first")
                assert peer.recv(65536) == b"second"
                assert peer.recv(65536) == b""  # the client's end is told
            done.set()

        threading.Thread(target=serve).start()
        with (
            running_proxy(f"127.0.0.1:{server.getsockname()[1]}", lambda: "t") as url,
            socket.create_connection(("127.0.0.1", int(url.split(":")[2].partition("/")[0]))) as client,
        ):
            client.sendall(b"GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65536) == b"first"
            client.sendall(b"second")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(65536) == b""
            assert done.wait(10)


def test_the_way_to_the_server_outlives_the_first_token(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "TOKEN_AGE_MAX_S", -1)  # every token is too old at once
    with runner.signed_in("stateless", tmp_path / "data") as url:
        browser = Browser(url.removesuffix("/mcp"))
        signed = [listed(browser, "not a token", "tools") for _ in range(3)]
    assert signed[0]
    assert signed[0] == signed[1] == signed[2]


# --- the tenant of the fixtures


def test_only_the_tenant_conformance_sees_the_fixtures(tmp_path):
    with running_server(tmp_path / "data", "--conformance", "--mode", "stateless") as server:
        names = {}
        for user in ("alice", "tester"):
            client = Client.register(server.issuer)
            token = client.sign_in(user=user)["access_token"]
            names[user] = {
                method: listed(client.browser, token, method) for method in ("tools", "prompts", "resources")
            }
    assert names["alice"] == {
        "tools": {"echo", "search_documents", "admin_purge"},
        "prompts": set(),
        "resources": set(),
    }
    assert {"test_simple_text", "greet", "json_schema_2020_12_tool"} <= names["tester"]["tools"]
    assert not names["tester"]["tools"] & names["alice"]["tools"]
    assert len(names["tester"]["prompts"]) == 5
    assert names["tester"]["resources"] == {"static-text", "static-binary", "watched-resource"}


def listed(browser: Browser, token: str, kind: str) -> set[str]:
    """The names in a list, asked for as a legacy client does."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": f"{kind}/list"})
    answer = browser.ask("POST", "/mcp", body, **legacy_headers(token, None))
    assert answer.status == 200, answer
    return {item["name"] for item in answer.json["result"][kind]}


def test_the_fixtures_come_with_the_demo_alone(tmp_path):
    command = [*TENANTRY, "serve", "--conformance", "--config", "any.toml", "--data", str(tmp_path / "data")]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == "tenantry: --conformance adds to the demo: say --demo --conformance\n"
