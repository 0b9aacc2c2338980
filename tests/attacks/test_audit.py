"""Attacks on the record of what happened: forging it, filling it, making it fail, and doing things without it."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPException
from resource import RLIMIT_FSIZE, RLIMIT_NOFILE, prlimit

import pytest

from tenantry.server import audit_log
from tests.attacks.people import Client, sign_in
from tests.attacks.speaker import Speaker, eras, legacy, modern, speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import CONFIG, Target, checked, started, tenantry
from tests.attacks.test_bearer import shown
from tests.attacks.wire import Reply, connect, eventually, request_bytes
from tests.faults import power, trace
from tests.needed import needed
from tests.running import free_port

NASTY = (
    "line\r\nfeed",
    "\x1b[2J\x1b[31mred",
    "\u202eright to left\u2066",
    'quote"},{"kind":"login","subject":"alice"',
    "nul\0",
    "\u2028separator\u0085",
    "x" * 200_000,
)


@attack("AUDIT-01")
@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_what_a_caller_writes_stays_inside_of_one_field(server, text):
    before, logged = len(server.records()), len(server.running.logged())
    token = sign_in(server, "dave").access
    for spoken in eras(server, token):
        count = len(server.records())
        assert spoken.call(text if len(text) < 6_000 else "long", {"message": text}).status < 500
        assert len(server.records()) == count + 1
        count = len(server.records())
        assert spoken.ask("resources/read", {"uri": f"note://{text[:5000]}"}).status < 500
        assert len(server.records()) == count + 1
        record = server.records()[-1]
        assert record["kind"] == "resource_denied"
        assert len(json.dumps(record)) < 4096
        count = len(server.records())
        assert spoken.call("echo", {"message": text}, id_="i").status == 200
        (call,) = server.records()[count:]
        assert call["arguments_bytes"] >= len(text)
        assert re.fullmatch(r"[0-9a-f]{64}", call["arguments_sha256"])
    client = Client.new(server)
    client.browser.log_in(client.browser.get(client.authorization()), text[:2000], "wrong")
    server.ask("GET", "/nothing", headers={"User-Agent": "x\tA" * 20, "Referer": "y" * 3000})
    forged = [entry for entry in server.records()[before:] if entry["kind"] == "login" and entry["subject"] == "alice"]
    assert forged == []
    lines = server.running.logged()[logged:].splitlines()
    assert all(re.match(r"(timestamp=|\s|$)", line) for line in lines), lines
    assert "\x1b" not in "".join(lines)


@attack("AUDIT-02")
def test_no_secret_reaches_a_file_or_a_log(server):
    canaries = [f"canary-argument-{number}-of-a-tool-0123456789" for number in range(3)]
    client = Client.new(server)
    tokens = client.sign_in("erin")
    refreshed = client.tokens(client.refresh(tokens.refresh))
    for spoken in eras(server, refreshed.access):
        assert text_of(spoken.call("echo", {"message": canaries[0]})) == canaries[0]
        spoken.call("nothing-of-ours", {"message": canaries[1]})
        spoken.call("echo", {"wrong": canaries[2]})
    client.redeem("canary-of-a-code-that-is-none-0123456789")
    client.refresh("canary-of-a-refresh-token-0123456789")
    shown(server, "Bearer canary-of-an-access-token-0123456789")
    shown(server, "Basic canary-of-a-basic-password-0123456789")
    server.ask("GET", "/authorize?access_token=canary-in-a-query-0123456789")
    client.browser.log_in(client.browser.get(client.authorization(prompt="login")), "erin", "canary-wrong-password-01")
    client.revoke("canary-of-a-revocation-0123456789")
    confidential = server.register(token_endpoint_auth_method="client_secret_basic")
    server.keep_secret(confidential.json["client_secret"], *canaries, "canary-wrong-password-01")
    for kind in ("a-code-that-is-none", "a-refresh-token", "an-access-token", "a-basic-password", "a-revocation"):
        server.keep_secret(f"canary-of-{kind}-0123456789")
    server.keep_secret("canary-in-a-query-0123456789")
    assert len(server.secrets) > 20
    assert server.leaks() == []


def failing(reply: Reply) -> bool:
    return reply.status == 503 and "result" not in reply.text


@attack("AUDIT-06")
def test_without_room_for_the_record_nothing_is_answered_and_with_room_again_it_goes_on(start, mode):
    server = start(mode)
    pid = server.running.process.pid
    spoken = speaker(server, sign_in(server).access)
    assert text_of(spoken.call("echo", {"message": "before"})) == "before"
    before = prlimit(pid, RLIMIT_FSIZE)
    log = server.running.data / audit_log.FILE_NAME
    wal = log.with_name(log.name + "-wal")
    signal_free = (max(log.stat().st_size, wal.stat().st_size) // 4096) * 4096
    prlimit(pid, RLIMIT_FSIZE, (signal_free, before[1]))
    try:
        replies = [spoken.call("echo", {"message": f"full {number}"}) for number in range(40)]
    finally:
        prlimit(pid, RLIMIT_FSIZE, before)
    assert failing(replies[-1]), replies[-1]
    answered = sum("result" in reply.text for reply in replies)
    assert all(failing(reply) or "full" in reply.text for reply in replies)
    assert server.running.process.poll() is None
    assert eventually(lambda: "after" in spoken.call("echo", {"message": "after"}).text, within_s=30)
    recorded = len(server.records("tool_call", tool="echo", subject="alice"))
    assert recorded >= answered + 2
    assert server.records("log_recovered")


@attack("AUDIT-06", modes=("dual",))
def test_without_descriptors_nothing_is_answered_wrongly(server):
    pid = server.running.process.pid
    spoken = speaker(server, sign_in(server).access)
    before = prlimit(pid, RLIMIT_NOFILE)
    prlimit(pid, RLIMIT_NOFILE, (server.running.descriptors() + 3, before[1]))
    counted = len(server.records("tool_call", tool="echo"))
    try:
        replies = []
        for number in range(10):
            with suppress(OSError):
                replies.append(spoken.call("echo", {"message": f"few {number}"}))
    finally:
        prlimit(pid, RLIMIT_NOFILE, before)
    answered = sum("result" in reply.text for reply in replies)
    assert eventually(lambda: spoken.call("echo", {"message": "after"}).status == 200)
    assert len(server.records("tool_call", tool="echo")) >= counted + answered + 1


@attack("AUDIT-07")
def test_a_disk_that_takes_its_time_is_not_waited_for_without_end(start, mode):
    server = start(mode, edit=lambda text: text + "audit_deadline_s = 0.5\naudit_queue = 16\n")
    spoken = speaker(server, sign_in(server).access)
    assert text_of(spoken.call("echo", {"message": "before"})) == "before"
    memory = server.rss_kib()
    flush_s = 4.0
    server.slow_down(flush_s)
    with ThreadPoolExecutor(32) as pool:
        late = list(pool.map(lambda number: spoken.call("echo", {"message": f"late {number}"}), range(32)))
    began = time.monotonic()
    refused = [spoken.call("echo", {"message": "refused"}) for _ in range(5)]
    assert time.monotonic() - began < len(refused) * flush_s / 2, "they waited for the disk and not for their deadline"
    for reply in [*late, *refused]:
        assert failing(reply), reply
        assert int(reply.header("retry-after") or 0) > 0
    assert server.rss_kib() - memory < 32 * 1024
    server.slow_down(0.0)
    assert eventually(lambda: "result" in spoken.call("echo", {"message": "after"}).text, within_s=30)
    # What came too late may be on record all the same; what was refused at once has not run.
    assert 2 <= len(server.records("tool_call", tool="echo")) <= 2 + len(late) + 100
    assert server.faults() == [] or all("audit" in line for line in server.faults())


@attack("AUDIT-09", modes=())
def test_no_power_cut_loses_what_was_answered(tmp_path, longer):
    needed("strace")
    events = trace.record(tmp_path / "power", "none", sessions=2, callers=4, records=10)
    tally = power.replay(events, states=longer(25, 2_000), seed=3)
    assert tally.bad == []
    assert tally.acknowledged == 80


@attack("AUDIT-08")
def test_what_was_answered_stands_in_the_log_after_a_kill(tmp_path, mode, longer):
    data, port = tmp_path / "killed" / "data", str(free_port())
    answered: list[str] = []
    for number in range(longer(2, 200)):
        with started(data, mode, "--port", port, killed=True) as server:
            token = sign_in(server).access
            speakers = [speaker(server, token) for _ in range(8)]

            def hammer(place: int, number: int = number, speakers: list[Speaker] = speakers) -> list[str]:
                said: list[str] = []
                with suppress(OSError, ValueError, HTTPException):
                    for count in range(1000):
                        id_ = f"{number}-{place}-{count}"
                        reply = speakers[place].call("echo", {"message": id_}, id_)
                        if "result" in reply.text:
                            said.append(id_)
                return said

            with ThreadPoolExecutor(8) as pool:
                hammering = [pool.submit(hammer, place) for place in range(8)]
                time.sleep(0.5 + number % 7 * 0.03)  # somewhere in the middle
                server.running.process.send_signal(signal.SIGKILL)
                answered += [id_ for each in hammering for id_ in each.result()]
    with started(data, mode, "--port", port) as again, checked(again):
        recorded = [entry.get("jsonrpc_id") for entry in again.records("tool_call", tool="echo")]
    assert answered
    assert set(answered) <= set(recorded)
    assert len(recorded) == len(set(recorded))


@attack("AUDIT-10")
def test_a_second_server_on_the_same_log_does_not_start(server):
    data = server.running.data
    tried = tenantry("serve", "--config", str(CONFIG), "--port", "0", "--data", str(data))
    assert tried.returncode == 2
    assert "another tenantry is serving from it" in tried.stderr
    # Nor does anything else that would write to it: the log itself is locked.
    code = "import sys, pathlib; from tenantry.server import audit_log; audit_log.AuditLog(pathlib.Path(sys.argv[1]))"
    writer = subprocess.run(
        [sys.executable, "-c", code, str(data / audit_log.FILE_NAME)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert writer.returncode != 0
    assert "AuditLogInUse" in writer.stderr
    assert server.alive()


@attack("AUDIT-12")
def test_no_call_that_is_cut_short_is_without_its_record(server):
    spoken = speaker(server, sign_in(server, "dave").access)
    body = json.dumps(spoken.message("tools/call", {"name": "pause", "arguments": {"seconds": 1.0}}, 9)).encode()
    fields = {**spoken.fields(), **spoken.mirrored("tools/call", {"name": "pause"})}
    pairs = [("Host", server.netloc), *((name, value) for name, value in fields.items() if value is not None)]
    raw = request_bytes("POST", "/mcp", [*pairs, ("Content-Length", str(len(body)))], body)
    before = len(server.records("tool_call", tool="pause", subject="dave"))
    for number in range(12):
        with connect(server.port) as sock:
            sock.sendall(raw)
            time.sleep(number * 0.008)  # the client leaves sooner or later
    whole = [spoken.call("pause", {"seconds": 0.0, "message": "x"}) for _ in range(3)]
    assert all(reply.status == 200 for reply in whole)
    # Every one that began has its record, whether or not anybody was there to take the answer.
    began = lambda: len(server.records("tool_call", tool="pause", subject="dave")) - before  # noqa: E731
    assert eventually(lambda: began() >= 3 + 11)
    timed_out = speaker(server, spoken.token or "")
    assert timed_out.call("pause", {"seconds": 60.0}).status == 200
    assert server.records("tool_call", tool="pause", outcome="timed_out")


@attack("AUDIT-13")
def test_denials_and_failures_are_on_record_and_a_flood_of_strangers_is_not(server):
    spoken = speaker(server, sign_in(server, "bob").access)
    denied = sum(entry["kind"] == "tool_denied" for entry in server.records(subject="bob"))
    for number in range(20):
        assert spoken.call("export_report", {"report_id": str(number)}).status < 500
    noted = [entry for entry in server.records(subject="bob") if entry["kind"].endswith("_denied")]
    assert len(noted) >= denied + 1
    before = len(server.records())
    stranger = modern(server, None)
    for _ in range(50):
        assert stranger.ask("tools/list").status == 401
        assert shown(server, "Bearer nonsense").status == 401
        assert server.ask("POST", "/mcp", body=b"{").status == 401
    assert len(server.records()) - before < 10  # strangers can't write the log full
    assert text_of(spoken.call("echo", {"message": "still here"})) == "still here"


@attack("AUDIT-13")
def test_a_flood_of_denials_is_summed_up_and_the_sum_is_right(start, mode):
    server = start(mode)
    spoken = speaker(server, sign_in(server, "bob").access)
    for _ in range(130):
        spoken.call("export_report", {"report_id": "r"})
    assert text_of(spoken.call("echo", {"message": "still here"})) == "still here"
    server.running.process.send_signal(signal.SIGTERM)
    assert server.running.process.wait(30) == 0
    server.stopped = True
    single = len(server.records("tool_denied", subject="bob"))
    summed = sum(entry["count"] for entry in server.records("denials_summarised", subject="bob"))
    assert single <= 105
    assert single + summed == 130


def spoken_as(server: Target, token: str) -> Speaker:
    """A client that needs no handshake, where there is one."""
    return modern(server, token) if server.modern else legacy(server, token)


@attack("AUDIT-14")
def test_the_log_goes_by_its_own_order_and_not_by_the_clock(server):
    def times() -> list[int]:
        with closing(
            sqlite3.connect(f"{(server.running.data / audit_log.FILE_NAME).as_uri()}?mode=ro", uri=True)
        ) as log:
            rows = log.execute("SELECT seq, body FROM record ORDER BY seq").fetchall()
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        return [json.loads(body)["time"] for _, body in rows if body is not None]

    token = sign_in(server, "erin").access
    assert shown(server, f"Bearer {token}").status == 200
    order: list[str] = []
    for jump in (0, 120, -3600, 0.5, -7 * 86_400, 0):
        server.shift(jump)
        reply = spoken_as(server, token).call("echo", {"message": "x"}, f"jump {len(order)} {jump}")
        assert reply.status == 200, jump
        order.append(f"jump {len(order)} {jump}")
    server.shift(0)
    ids = [entry.get("jsonrpc_id") for entry in server.records("tool_call", subject="erin", tool="echo")]
    assert [id_ for id_ in ids if str(id_).startswith("jump")] == order
    assert times() != sorted(times())  # the clock went back, the order did not
    assert audit_log.verify(server.running.data / audit_log.FILE_NAME).problem is None
