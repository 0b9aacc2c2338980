"""Several processes behind one port: any of them answers anything, and one that dies is missed by nobody for long."""

import os
import signal
import sqlite3
import subprocess
from pathlib import Path

from tests.http_client import Browser, Client, call_headers, call_message, initialize, legacy_call
from tests.running import TENANTRY, RunningServer, demo_with, eventually, running_server

WORKERS = ("--workers", "2")
# Each request comes on a connection of its own, and the kernel deals them out by their ports.
ENOUGH_FOR_BOTH = 40


def children(server: RunningServer) -> list[int]:
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def recorded(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM record WHERE instr(CAST(body AS TEXT), 'tool_call')").fetchone()
    connection.close()
    return int(count)


def answers(server: RunningServer) -> bool:
    try:
        return Browser(server.issuer).ask("GET", "/jwks").status == 200
    except OSError:
        return False


def test_any_worker_answers_any_request_and_each_keeps_its_own_log(tmp_path: Path):
    with running_server(tmp_path, *WORKERS) as server:
        token = Client.register(server.issuer).sign_in()["access_token"]
        browser = Browser(server.issuer)
        session = initialize(browser, token)
        for number in range(ENOUGH_FOR_BOTH):
            modern = browser.ask("POST", "/mcp", call_message(number).decode(), **call_headers(token))
            assert modern.status == 200, modern
            assert legacy_call(browser, token, session).status == 200
    logs = [recorded(tmp_path / f"audit-{number}.db") for number in range(2)]
    assert sum(logs) == 2 * ENOUGH_FOR_BOTH
    assert all(logs)


def test_a_worker_that_dies_is_replaced_and_the_end_is_in_good_order(tmp_path: Path):
    with running_server(tmp_path, *WORKERS) as server:
        first, second = children(server)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(children(server)) == 2 and first not in children(server))
        assert second in children(server)
        eventually(lambda: server.logged().count("a worker died") == 1)
        for _ in range(ENOUGH_FOR_BOTH):
            eventually(lambda: answers(server))


def test_workers_end_when_their_supervisor_is_gone(tmp_path: Path):
    with running_server(tmp_path, *WORKERS, exit_status=-signal.SIGKILL) as server:
        workers = children(server)
        server.process.kill()
        server.process.wait()
        eventually(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_configuration_that_no_worker_can_serve_ends_the_start(tmp_path: Path):
    config = demo_with(tmp_path, "[limits]\nbody_bytes = 2048")
    config.write_text('tool_modules = ["no_such_module"]\n' + config.read_text().replace("tool_modules", "#"))
    command = [*TENANTRY, "serve", "--config", str(config), "--port", "0", "--data", str(tmp_path / "data"), *WORKERS]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "no_such_module" in ended.stderr


def test_a_reload_that_needs_a_restart_takes_one_worker_after_the_other(tmp_path: Path):
    config = demo_with(tmp_path, "[limits]\nbody_bytes = 65536")
    with running_server(tmp_path / "data", "--config", str(config), *WORKERS) as server:
        before = children(server)
        config.write_text(config.read_text().replace("body_bytes = 65536", "body_bytes = 2048"))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "one worker after the other" in server.logged())
        assert not set(before) & set(children(server))
        token = Client.register(server.issuer).sign_in()["access_token"]
        big = call_message(1, text="x" * 8000).decode()
        for _ in range(ENOUGH_FOR_BOTH):
            assert Browser(server.issuer).ask("POST", "/mcp", big, **call_headers(token)).status == 413


def test_a_reload_that_no_worker_can_serve_leaves_the_one_before_and_every_worker(tmp_path: Path):
    config = demo_with(tmp_path, "[limits]\nbody_bytes = 65536")
    with running_server(tmp_path / "data", "--config", str(config), *WORKERS) as server:
        before = children(server)
        config.write_text(config.read_text().replace("[tools]", '[tools]\nno_such_tool = { scopes = ["admin"] }'))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.logged().count("the configuration was not reloaded") == len(before))
        assert children(server) == before
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: len(children(server)) == 2 and before[0] not in children(server))
        for _ in range(ENOUGH_FOR_BOTH):
            eventually(lambda: answers(server))
        assert server.logged().count("a worker died") == 1


def test_a_reload_that_a_worker_cannot_start_with_leaves_the_one_before(tmp_path: Path):
    config = demo_with(tmp_path, "[limits]\nbody_bytes = 65536")
    good = config.read_text()
    with running_server(tmp_path / "data", "--config", str(config), *WORKERS) as server:
        config.write_text('tool_modules = ["no_such_module"]\n' + good.replace("tool_modules", "#"))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "a worker can't start with it" in server.logged())
        eventually(lambda: len(children(server)) == 2)
        for _ in range(ENOUGH_FOR_BOTH):
            eventually(lambda: answers(server))
