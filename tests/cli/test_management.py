"""What an operator sees on the management listener, of one process and of several."""

import http.client
import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.http_client import Answer, Browser, Client, call_headers, call_message
from tests.running import eventually, free_port, running_server


def ask(port: int, path: str, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    connection.close()
    return answer


def samples(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = ask(port, "/metrics").body.decode()
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if name != "pid")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_calls_denials_commits_and_health_are_shown(tmp_path: Path, workers: str):
    called = {"tenant": "tenant-a", "kind": "tool", "name": "echo"}
    port = free_port()
    flags = ("--workers", workers, "--management-port", str(port))
    with running_server(tmp_path, *flags) as server:
        token = Client.register(server.issuer).sign_in()["access_token"]
        browser = Browser(server.issuer)
        for number in range(10):
            assert browser.ask("POST", "/mcp", call_message(number).decode(), **call_headers(token)).status == 200
        stranger = "no-such-tool-" + "x" * 20
        body = call_message(11, stranger).decode()
        browser.ask("POST", "/mcp", body, **call_headers(token, stranger))
        # Levels are looked at each second, and what a worker has tallied is settled.
        eventually(lambda: samples(port).get(of("tenantry_requests_running", tenant="tenant-a")) == 0)
        eventually(lambda: samples(port).get(of("tenantry_calls_total", **called, outcome="succeeded")) == 10)
        eventually(lambda: samples(port)[of("tenantry_audit_batch_records_sum")] >= 11)
        seen = samples(port)
        assert ask(port, "/health/live").status == 200
        ready = ask(port, "/health/ready")
        assert ready.status == 200
        if workers == "2":
            assert [worker["ready"] for worker in json.loads(ready.body)["workers"].values()] == [True, True]
    assert seen[of("tenantry_calls_total", **called, outcome="succeeded")] == 10
    assert seen[of("tenantry_call_seconds_count", **called)] == 10
    assert seen[of("tenantry_denials_total", tenant="tenant-a", reason="unknown")] == 1
    assert seen[of("tenantry_requests_total", path="/mcp", status="200")] >= 10
    assert seen[of("tenantry_audit_batch_records_sum")] >= 11
    assert seen[of("tenantry_audit_state")] == 0
    assert seen[of("tenantry_tasks")] > 10
    assert not any(stranger in value for _, labels in seen for _, value in labels)


def test_only_this_machine_by_its_own_name_is_answered(tmp_path: Path):
    port = free_port()
    with running_server(tmp_path, "--management-port", str(port)):
        assert ask(port, "/metrics", host="evil.example").status == 403
        assert ask(port, "/mcp").status == 404


def test_a_port_that_was_chosen_and_is_taken_ends_the_start(tmp_path: Path):
    port = free_port()
    with (
        running_server(tmp_path / "one", "--management-port", str(port)),
        pytest.raises(AssertionError, match="management-port"),
        running_server(tmp_path / "two", "--management-port", str(port)),
    ):
        pass
