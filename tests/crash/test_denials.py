"""A flood of denials is bounded in the log and exact in number, over a kill -9 too."""

import http.client
import itertools
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from urllib.parse import urlsplit

from tenantry.audit import record
from tenantry.server import audit_log
from tests.http_client import Client, call_headers, call_message
from tests.running import demo_with, running_server

KILLED = -9
ENOUGH = 400
MOST = 5


def flood(origin: str, token: str, name: str, ids: "itertools.count[int]", seen: Counter[str]) -> None:
    """Call what is denied, under a name of its own each time where `name` is empty, until the connection dies."""
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=10)
    try:
        while True:
            number = next(ids)
            called = name or f"invented-{number}"
            seen["asked"] += 1
            connection.request("POST", "/mcp", call_message(number, called), call_headers(token, called))
            answer = connection.getresponse()
            answer.read()
            seen[str(answer.status)] += 1
    except (OSError, http.client.HTTPException):
        connection.close()


def recorded(path) -> tuple[int, int, int]:
    """How many denials are records, summed up in records, and still counted."""
    entries = [record.decode(body) for _, body in audit_log.read(path)]
    alone = sum(entry["kind"] == "tool_denied" for entry in entries)
    summed = sum(entry["count"] for entry in entries if entry["kind"] == "denials_summarised")
    with closing(sqlite3.connect(path)) as connection:
        (pending,) = connection.execute("SELECT coalesce(sum(count), 0) FROM denial").fetchone()
    return alone, summed, pending


def test_after_a_kill_records_and_counters_are_all_denials_that_were_answered(tmp_path):
    data, path = tmp_path / "data", tmp_path / "data" / audit_log.FILE_NAME
    config = ("--config", str(demo_with(tmp_path, f"[limits]\ndenials_recorded = {MOST}")))
    ids, seen = itertools.count(1), [Counter[str]() for _ in range(8)]
    with running_server(data, *config, exit_status=KILLED) as server:
        token = Client.register(server.issuer).sign_in()["access_token"]
        floods = [
            threading.Thread(target=flood, args=(server.issuer, token, ("export_report", "")[number % 2], ids, mine))
            for number, mine in enumerate(seen)
        ]
        for thread in floods:
            thread.start()
        while sum(mine.total() - mine["asked"] for mine in seen) < ENOUGH and any(t.is_alive() for t in floods):
            floods[0].join(0.01)
        server.process.kill()
        for thread in floods:
            thread.join()
    whole = sum(seen, Counter[str]())
    answered = whole.total() - whole["asked"]
    alone, summed, pending = recorded(path)

    assert answered >= ENOUGH
    assert set(whole) <= {"asked", "200", "400"}
    assert alone == 2 * MOST, "two kinds: a tool of another tenant, and names that nobody knows"
    assert answered <= alone + summed + pending <= whole["asked"]
    with running_server(data, *config):
        pass
    assert recorded(path) == (alone, summed + pending, 0)
    assert audit_log.verify(path)[1] is None
