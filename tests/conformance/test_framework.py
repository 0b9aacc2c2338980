"""What the conformance suite stands on: schemas, streams, the matrix, and that nothing slips past a test."""

import json
import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
from conformance.clauses import Clause, use_of
from conformance.client import Endpoint, Event, Legacy, Modern, Silence, header_value, parse_event
from conformance.matrix import DIVERGES, FAILS, NOT_APPLICABLE, NOT_RUN, SHOWN, UNTESTED, Outcome
from conformance.peer import COLUMNS, Column, features

from conformance import matrix, schemas

TOOL = {"name": "echo", "inputSchema": {"type": "object"}}
MODERN_TOOLS = {"tools": [TOOL], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
LISTED: dict[str, Any] = {"jsonrpc": "2.0", "id": 0, "result": {"tools": [TOOL]}}
MODERN_LISTED: dict[str, Any] = {**LISTED, "result": MODERN_TOOLS}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
LOG = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}
UNREADABLE: dict[str, Any] = {"jsonrpc": "2.0", "error": {"code": -32700, "message": "no JSON"}}


@pytest.mark.parametrize("revision", schemas.REVISIONS)
def test_the_schema_files_hold_facts_and_no_prose(revision):
    text = (schemas.FOLDER / f"{revision}.json").read_text()
    assert schemas.stripped(json.loads(text)) == json.loads(text)
    assert max(len(word) for word in json.dumps(json.loads(text)).split('"')) < 80


@pytest.mark.parametrize("revision", schemas.LEGACY)
@pytest.mark.parametrize("message", [LISTED, PING, LOG, UNREADABLE], ids=lambda message: str(message.get("method")))
def test_good_legacy_messages_are_let_through(revision, message):
    assert schemas.violations(revision, message, "tools/list") == []


@pytest.mark.parametrize("message", [MODERN_LISTED, LOG, UNREADABLE])
def test_good_modern_messages_are_let_through(message):
    assert schemas.violations("2026-07-28", message, "tools/list") == []


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("2025-11-25", 1),
        ("2025-11-25", {}),
        ("2025-11-25", [LISTED]),
        ("2025-03-26", []),
        ("2025-03-26", [{**LISTED, "id": None}]),
        ("2025-11-25", {**LISTED, "jsonrpc": "1.0"}),
        ("2025-11-25", {**LISTED, "id": 1.5}),
        ("2025-11-25", {**LISTED, "result": {"tools": [{"name": "echo"}]}}),
        ("2025-11-25", {**UNREADABLE, "id": None}),
        ("2025-11-25", {**UNREADABLE, "error": {"code": "x", "message": ""}}),
        ("2025-11-25", {**UNREADABLE, "result": {}}),
        ("2025-11-25", {**LOG, "params": {"level": "loud", "data": 1}}),
        ("2025-11-25", {**PING, "id": None}),
        ("2026-07-28", PING),
        ("2026-07-28", LISTED),
        ("2026-07-28", {**MODERN_LISTED, "result": {**MODERN_TOOLS, "cacheScope": "shared"}}),
        ("2026-07-28", {**UNREADABLE, "error": {"code": -32022, "message": "no data"}}),
    ],
)
def test_a_message_that_breaks_its_schema_is_found(revision, message):
    assert schemas.violations(revision, message, "tools/list")


def test_what_the_server_sends_is_checked_by_the_method_that_it_answers():
    client = Legacy("http://127.0.0.1:1/mcp")
    client._asked = {"7": "tools/list", '"7"': "ping"}
    client.received(b'{"jsonrpc": "2.0", "id": "7", "result": {}}', None)
    assert client.recorder.violations == []
    client.received(b'{"jsonrpc": "2.0", "id": 7, "result": {}}', None)
    assert "ListToolsResult" in client.recorder.violations[0]
    client.received(b"{", None)
    assert "no JSON" in client.recorder.violations[1]


@pytest.mark.parametrize(
    ("block", "event"),
    [
        ("data: a\ndata:b", Event(data="a\nb")),
        ("id: 1\ndata:", Event(id="1", data="")),
        (": still here", Event(comments=("still here",))),
        ("retry: 5\nevent: message\ndata:  x", Event(retry="5", event="message", data=" x")),
    ],
)
def test_events_are_read(block, event):
    assert parse_event(block) == event


@pytest.fixture
def answering():
    """A server of one answer: call it with the pieces to send; gives the URL and what was received."""
    listener = socket.create_server(("127.0.0.1", 0))
    received, done = [], threading.Event()

    def start(*pieces):
        def serve():
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(65536))
                for piece in pieces:
                    connection.sendall(piece)
                    done.wait(0.01)
                done.wait(5)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", received

    yield start
    done.set()
    listener.close()


def test_a_stream_is_read_whatever_the_pieces_it_comes_in(answering):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    data = json.dumps({**LOG, "params": {"level": "info", "data": "ü"}}, ensure_ascii=False).encode()
    stream = b"id: 1\r\ndata:\r\n\r\n: alive\r\n\r\ndata: " + data + b"\r\n\r\n"
    url, _ = answering(head, *[stream[place : place + 1] for place in range(len(stream))])
    with Modern(url).open("tools/list") as read:
        assert read.message()["params"]["data"] == "ü"
        assert read.last_id == "1"
        assert read.quiet(0.05)
        with pytest.raises(Silence):
            read.next(0.05)


def test_silence_is_told_from_the_end(answering):
    url, _ = answering(b"")
    with pytest.raises(Silence):
        Endpoint(url, timeout=0.05).http("GET")


def test_headers_are_doubled_left_out_and_put_over_the_usual_ones(answering):
    url, received = answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    client = Modern(url, "secret")
    headers = {"Accept": None, "Origin": ["a", "b"], "mcp-method": "other"}
    assert client.post({"id": [1], "method": "x"}, headers).status == 202
    lines = received[0].decode().lower().split("\r\n")
    assert "authorization: bearer secret" in lines
    assert {"origin: a", "origin: b", "mcp-method: other"} <= set(lines)
    assert not [line for line in lines if line.startswith("accept:")]


@pytest.mark.parametrize(("text", "value"), [("plain", "plain"), ("ü", "=?base64?w7w=?="), (" a", "=?base64?IGE=?=")])
def test_what_a_header_cannot_carry_is_encoded(text, value):
    assert header_value(text) == value


def test_features_are_read_from_capabilities():
    assert features({"tools": {"listChanged": True}, "completions": {}}) == {"tools", "completion", "subscriptions"}
    assert features({"extensions": {"io.modelcontextprotocol/tasks": {}}}) == {"tasks"}
    assert features({}) == frozenset()


def row(identifier="doc:1:a", **more):
    return Clause(id=identifier, level="MUST", binds="server", says="Something.", **more)


@pytest.mark.parametrize(
    ("clause", "held"),
    [
        (row(), {column.id for column in COLUMNS}),
        (row(revisions=("2026-07-28",), modes=("stateless",)), {"2026-07-28-stateless"}),
        (
            row(revisions=("2026-07-28",), modes=("sessionful", "stateless")),
            {"2026-07-28-dual", "2026-07-28-stateless"},
        ),
        (row(revisions=("2025-11-25",), modes=("sessionful",)), {"2025-11-25-sessionful"}),
        (row(revisions=("2024-11-05",)), set()),
    ],
)
def test_a_clause_holds_in_the_columns_that_it_names(clause, held):
    assert {column.id for column in COLUMNS if clause.holds(column.revision, column.mode)} == held


def test_marks_of_a_test_add_up():
    marks = [pytest.mark.clause("a", "b").mark, pytest.mark.clause("b", "c", modes=("dual",)).mark]
    assert use_of(marks).ids == ("a", "b", "c")
    assert use_of(marks).modes == {"dual"}


COLUMN = Column("2026-07-28", "dual")


def outcome(state, test="t"):
    return Outcome(test, "doc:1:a", COLUMN.revision, COLUMN.mode, state, "because")


@pytest.mark.parametrize(
    ("clause", "states", "expected"),
    [
        (row(), [SHOWN], SHOWN),
        (row(), [SHOWN, FAILS, NOT_APPLICABLE], FAILS),
        (row(), [SHOWN, NOT_APPLICABLE], SHOWN),
        (row(), [NOT_APPLICABLE], NOT_APPLICABLE),
        (row(), [DIVERGES, SHOWN], DIVERGES),
        (row(), [], NOT_RUN),
        (row(untested="binds the client"), [], UNTESTED),
    ],
)
def test_the_gravest_outcome_of_a_clause_is_its_state(clause, states, expected):
    table = matrix.build([clause], [COLUMN], [outcome(state) for state in states])
    assert [cell.state for each in table.rows for cell in each.cells] == [expected]
    assert table.counts(COLUMN)[expected] == table.counts()[expected] == 1
    assert f"| {expected} |" in matrix.as_markdown(table)
    json.dumps(matrix.as_json(table))


PREAMBLE = """
import pytest
from conformance.clauses import clause
from conformance.client import NotApplicable

@clause("jsonrpc-2.0:5:id-repeated")
"""


@pytest.mark.parametrize(
    ("test", "state", "reason"),
    [
        ("def test_inner(peer): pass", SHOWN, ""),
        ("def test_inner(peer): assert peer.mode == 'x'", FAILS, ""),
        ("def test_inner(peer): peer.recorder.note(peer.revision, {}, None)", FAILS, ""),
        ("def test_inner(peer): raise NotApplicable('it has no tools')", NOT_APPLICABLE, "it has no tools"),
        ("def test_inner(peer): peer.needs('sessions')", NOT_APPLICABLE, "the server does not advertise sessions"),
        ("def test_inner(peer): pytest.skip('not today')", FAILS, ""),
        ("@pytest.mark.skip(reason='not today')\ndef test_inner(peer): pass", FAILS, ""),
        ("def test_inner(peer): peer.connect().request('ping')", FAILS, ""),
    ],
)
def test_what_comes_of_a_test_is_in_the_matrix(tmp_path, test, state, reason, unused_port):
    (tmp_path / "test_inner.py").write_text(PREAMBLE + test)
    suite = schemas.FOLDER.parent
    command = [sys.executable, "-m", "pytest", "-c", str(suite / "standalone.ini"), "--rootdir", str(tmp_path)]
    where = ["--url", f"http://127.0.0.1:{unused_port}/mcp", "--revision", COLUMN.revision, "--mode", COLUMN.mode]
    words = ["-p", "conformance.conftest", *where, "--matrix", str(tmp_path / "out"), str(tmp_path)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == (state == FAILS), done.stdout + done.stderr
    rows = json.loads((tmp_path / "out" / "matrix.json").read_text())["clauses"]
    (cell,) = next(each["cells"] for each in rows if each["id"] == "jsonrpc-2.0:5:id-repeated")
    assert cell["state"] == state
    assert reason in cell["reason"]
