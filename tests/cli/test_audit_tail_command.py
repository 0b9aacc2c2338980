import json
import signal
import subprocess
from contextlib import contextmanager

from tests.http_client import Client, call_headers, call_message
from tests.running import TENANTRY, RunningServer, free_port, running_server


def call(server: RunningServer, token: str, number: int) -> None:
    client = Client(server.issuer, browser=Client.register(server.issuer).browser, client_id="")
    answer = client.browser.ask("POST", "/mcp", call_message(number).decode(), **call_headers(token))
    assert answer.status == 200, answer


@contextmanager
def tail(*flags: str):
    """Run the command; gives an iterator over what it prints of calls."""
    with subprocess.Popen([*TENANTRY, "audit", "tail", "--json", *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        entries = map(json.loads, process.stdout)
        try:
            yield (entry for entry in entries if entry["kind"] == "tool_call")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(10)


def test_a_person_follows_their_tenant_over_the_network_and_over_a_restart_without_a_hole(tmp_path):
    port = str(free_port())
    data = tmp_path / "data"
    with running_server(data, "--port", port) as server:
        alice = Client.register(server.issuer).sign_in()["access_token"]
        carol = Client.register(server.issuer).sign_in(user="carol")["access_token"]
        call(server, alice, 0)
        with tail("--follow", "--from", "1", "--url", server.url, "--user", "alice") as calls:
            first = next(calls)
            call(server, carol, 1)
            call(server, alice, 2)
            second = next(calls)
            server.stop()
            with running_server(data, "--port", port) as again:
                call(again, carol, 3)
                call(again, alice, 4)
                third = next(calls)
    assert [entry["jsonrpc_id"] for entry in (first, second, third)] == [0, 2, 4]
    assert {entry["tenant"] for entry in (first, second, third)} == {"tenant-a"}


def test_an_operator_reads_the_files_and_follows_them(tmp_path):
    data = tmp_path / "data"
    with running_server(data) as server:
        alice = Client.register(server.issuer).sign_in()["access_token"]
        carol = Client.register(server.issuer).sign_in(user="carol")["access_token"]
        call(server, alice, 0)
        with (
            tail("--data", str(data), "--follow") as calls,
            tail("--data", str(data), "-f", "--tenant", "tenant-b") as own,
        ):
            assert next(calls)["jsonrpc_id"] == 0
            call(server, carol, 1)
            assert next(calls)["jsonrpc_id"] == next(own)["jsonrpc_id"] == 1
    shown = subprocess.run(
        [*TENANTRY, "audit", "tail", "--data", str(data)], capture_output=True, text=True, check=True
    )
    assert " tool_call tenant-b carol echo succeeded\n" in shown.stdout


def test_what_can_not_be_followed_is_said(tmp_path):
    for flags, status, text in (
        (["--data", str(tmp_path / "none")], 1, "there is no audit log"),
        (["--from", "x"], 2, "a place is SEQ or NAME:SEQ"),
        (["--url", "http://localhost:1/mcp"], 2, "--url needs --user and --follow"),
        (["--url", "http://evil.example/mcp", "--user", "alice", "--follow"], 2, "--url http://evil.example/mcp"),
        (["--url", "http://localhost:1/mcp", "--user", "alice", "--follow"], 1, "http://localhost:1/mcp"),
    ):
        run = subprocess.run([*TENANTRY, "audit", "tail", *flags], capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout) == (status, ""), (flags, run)
        assert text in run.stderr
        assert "Traceback" not in run.stderr
