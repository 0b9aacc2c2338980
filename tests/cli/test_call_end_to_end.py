"""`tenantry call` against a real server, in each mode and both eras."""

import subprocess
from contextlib import ExitStack
from functools import cache

import pytest

from tenantry.cli.call import call
from tenantry.server import audit_log
from tests.running import TENANTRY, running_server

at_every_mode = pytest.mark.parametrize("server", ["dual", "sessionful", "stateless"], indirect=True)
at_dual = pytest.mark.parametrize("server", ["dual"], indirect=True)
at_sessionful = pytest.mark.parametrize("server", ["sessionful"], indirect=True)
SERVED = [
    ("dual", "modern"),
    ("dual", "legacy"),
    ("sessionful", "legacy"),
    ("stateless", "modern"),
    ("stateless", "legacy"),
]
REPORT = {"tool": "export_report", "args": '{"reportId":"r1"}'}
PURGE = {"tool": "admin_purge", "args": '{"confirm":true}'}
CALLS = [
    ({"tenant": "tenant-a", "tool": "echo", "args": '{"message":"grüß dich"}'}, 0, "grüß dich\n"),
    ({"tenant": "tenant-b", **REPORT}, 0, '"tenant": "tenant-b"'),
    ({"tenant": "tenant-a", **REPORT}, 3, "denied: Unknown tool: export_report"),
    ({"tenant": "tenant-a", "tool": "wür m"}, 3, "denied: Unknown tool: wür m"),
    ({"tenant": "tenant-a", "scope": "tools:call admin", **PURGE}, 0, '"removed": '),
    ({"tenant": "tenant-a", **PURGE}, 3, 'insufficient_scope: this needs --scope "admin tools:call"'),
    ({"user": "bob", "scope": "tools:call admin", **PURGE}, 3, "denied: admin_purge needs admin tools:call"),
    (
        {"user": "carol", "tool": "export_report", "args": '{"reportId":"r9"}'},
        4,
        "tool error: tenant-b has no report r9",
    ),
    ({"user": "carol", "tool": "export_report"}, 4, "tool error: Invalid arguments"),
    ({"user": "bob", "tool": "echo", "password": "wrong"}, 1, "tenantry: bob can't log in"),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Give the server of a mode, started at its first use."""
    with ExitStack() as stack:

        @cache
        def of(mode):
            return stack.enter_context(running_server(tmp_path_factory.mktemp(mode) / "data", "--mode", mode))

        yield of


@pytest.fixture
def server(request, servers):
    return request.param, servers(request.param)


def last_call(running):
    """The record of the last call, denied or not."""
    records = audit_log.matching(running.data / audit_log.FILE_NAME)
    return [entry for entry in records if entry["kind"] in ("tool_call", "tool_denied")][-1]


@pytest.mark.parametrize("expected", CALLS)
@pytest.mark.parametrize(("server", "era"), SERVED, indirect=["server"])
def test_a_call_ends_as_it_should(server, era, expected, capsys):
    mode, running = server
    words, status, shown = expected
    assert call(url=running.url, era=era, **words) == status
    captured = capsys.readouterr()
    assert shown in (captured.err if status else captured.out)
    assert not (captured.out if status else captured.err)
    if status != 1:
        entry = last_call(running)
        assert (entry["tool"], entry["era"], entry["mode"]) == (words["tool"], era, mode)
        assert ("session" in entry) is (era == "legacy" and mode != "stateless")


@at_every_mode
def test_without_an_era_every_mode_is_spoken_to_as_it_can(server, capsys):
    mode, running = server
    assert call(url=running.url, user="bob", tool="echo", args='{"message":"hi"}') == 0
    assert capsys.readouterr().out == "hi\n"
    assert last_call(running)["era"] == ("legacy" if mode == "sessionful" else "modern")


@at_sessionful
def test_a_modern_call_at_a_server_with_sessions_only_is_a_fault(server, capsys):
    _, running = server
    assert call(url=running.url, user="bob", tool="echo", args='{"message":"hi"}', era="modern") == 1
    assert "unsupported protocol version" in capsys.readouterr().err


@at_every_mode
def test_another_tenants_tool_and_one_that_does_not_exist_look_alike_but_are_recorded_apart(server, capsys):
    _, running = server
    shown, reasons = [], []
    for tool in ("export_report", "exp0rt_rep0rt"):
        assert call(url=running.url, tenant="tenant-a", tool=tool) == 3
        shown.append(capsys.readouterr().err.replace(tool, "TOOL"))
        reasons.append(last_call(running)["reason"])
    assert shown[0] == shown[1]
    assert reasons == ["foreign", "unknown"]


@at_dual
def test_a_url_by_another_name_of_this_machine_is_not_the_resource(server, capsys):
    _, running = server
    other = running.url.replace("localhost", "127.0.0.1")
    assert call(url=other, user="bob", tool="echo") == 1
    assert f"calls itself {running.url}" in capsys.readouterr().err


@at_dual
@pytest.mark.parametrize(
    ("words", "status", "shown"),
    [
        (["--tenant", "tenant-a", "--tool", "echo", "--args", '{"message":"hi"}'], 0, "hi"),
        (
            ["--tenant", "tenant-b", "--tool", "export_report", "--args", '{"reportId":"r1"}'],
            0,
            "Documents of tenant-b",
        ),
        (["--tenant", "tenant-a", "--tool", "export_report", "--args", '{"reportId":"r1"}'], 3, "denied: Unknown tool"),
        (
            ["--tenant", "tenant-a", "--tool", "admin_purge", "--args", '{"confirm":true}', "--scope=tools:call admin"],
            0,
            '{"tenant": "tenant-a", "removed": ',
        ),
    ],
)
def test_the_four_calls_of_the_demo_work_from_a_shell(server, words, status, shown):
    _, running = server
    command = [*TENANTRY, "call", "--url", running.url, *words]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status
    told, silent = (ended.stderr, ended.stdout) if status else (ended.stdout, ended.stderr)
    assert shown in told
    assert silent == ""
