"""The parts of the benchmarks that compute: nothing here is timed."""

import json
import os
import sqlite3
import sys
import time
import xml.etree.ElementTree as ET
from contextlib import closing
from subprocess import DEVNULL, Popen

import jwt
import pytest
from bench.peers import PEERS, Signer

from bench import ceiling, flood, growth, load, neighbour, plot, rounds, sharing, workers_down
from tests.needed import needed
from tests.tools import ROOT

# Answers every request with the same body.
PARROT = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Parrot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n%b" % (len(body), body))

    def log_message(self, *_):
        pass

body = sys.argv[1].encode()
server = ThreadingHTTPServer(("127.0.0.1", 0), Parrot)
print(f"http://127.0.0.1:{server.server_port}/mcp", flush=True)
server.serve_forever()
"""
SVG = "{http://www.w3.org/2000/svg}"


def test_a_ratio_is_taken_round_by_round():
    assert rounds.ratio([2.0, 6.0, 8.0], [1.0, 2.0, 1.0]) == (3.0, 2.0, 8.0)
    with pytest.raises(ValueError, match="shorter"):
        rounds.ratio([1.0, 2.0], [1.0])


def test_who_measures_for_long_refreshes_with_the_token_that_was_given_last():
    class Grant:
        def __init__(self, number: int) -> None:
            self.access_token = f"access {number}"
            self._number = number
            self._is_spent = False

        def refreshed(self) -> "Grant":
            assert not self._is_spent
            self._is_spent = True
            return Grant(self._number + 1)

    server = rounds.Server("http://localhost/mcp", Popen([sys.executable, "-V"], stdout=DEVNULL), Grant(0))
    with server.process:
        assert [server.new_token() for _ in range(3)] == ["access 1", "access 2", "access 3"]


def test_every_second_round_goes_the_other_way():
    taken = []

    def contender(name):
        def once():
            taken.append(name)
            return float(len(taken))

        return once

    figures = rounds.alternate(3, {name: contender(name) for name in "ab"})
    assert "".join(taken) == "abbaab"
    assert figures == {"a": [1, 4, 5], "b": [2, 3, 6]}


@pytest.mark.parametrize(
    ("greatest", "step"), [(0, 1), (1, 0.2), (5, 1), (5.1, 2), (12, 2.5), (49, 10), (3516, 1000), (0.003, 0.001)]
)
def test_an_axis_has_round_steps(greatest, step):
    assert plot.step(greatest) == pytest.approx(step)


def test_a_plot_is_a_document_with_a_line_a_series():
    at = plot.Point(2, 1, 3)
    document = plot.lines(
        "a < b", across="callers", up="calls/s", at=["1", "16"], series={"x": [at, at], "y": [None, at]}
    )
    root = ET.fromstring(document)
    paths = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    assert [len(points) for points in paths] == [2, 1]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"a < b", "callers", "calls/s", "1", "16", "x", "y", "0", "3"} <= set(texts)


def test_a_series_without_a_point_for_each_place_is_refused():
    with pytest.raises(ValueError, match="each place"):
        plot.lines("t", across="x", up="y", at=["1"], series={"x": []})


def test_the_node_peer_is_the_base_where_it_takes_part():
    assert ceiling.parse(["--contenders", "audited", "node"]).base == "node"
    assert ceiling.parse(["--contenders", "audited", "bare-h11"]).base == "audited"
    options = ceiling.parse(["--flush-ms", "0.7"])
    assert options.name == "ceiling-0.7ms"
    assert options.contenders == list(ceiling.CONTENDERS)


@pytest.mark.parametrize("words", [["--base", "node", "--contenders", "audited"], ["--contenders", "nobody"]])
def test_a_contender_that_is_none_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        ceiling.parse(words)
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("head", "rest", "body"),
    [
        (b"content-length: 3", b"ab", None),
        (b"content-length: 3", b"abc", b"abc"),
        (b"x: y", b"", b""),
        (b"transfer-encoding: chunked", b"3\r\nabc\r\n", None),
        (b"transfer-encoding: chunked", b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", b"abcd"),
    ],
)
def test_an_answer_is_whole_by_either_way_of_telling_its_length(head, rest, body):
    assert load._whole(b"http/1.1 200 ok\r\n" + head, rest) == body


@pytest.mark.parametrize(
    ("status", "body", "good"),
    [
        (200, b'{"id":7,"result":{"content":[]}}', True),
        (200, b'{"id":7,"result":{"isError":false}}', True),
        (200, b'{"id":8,"result":{"isError":false}}', False),
        (200, b'{"id":7,"result":{"isError":true}}', False),
        (200, b'{"id":7,"error":{"code":-32602}}', False),
        (503, b"", False),
    ],
)
def test_an_answer_counts_where_it_is_the_result_of_its_own_call(status, body, good):
    assert load.called(status, body, 7) is good


def test_a_peers_token_is_signed_by_the_key_that_the_peer_is_given():

    signer = Signer()
    key = jwt.PyJWK(json.loads(signer.environment["PEER_KEY"]))
    claims = jwt.decode(
        signer.token("tenant-b"), key, algorithms=["ES256"], audience=signer.environment["PEER_AUDIENCE"]
    )
    assert claims["tenant"] == "tenant-b"


def test_every_peers_program_is_here():
    names = {"node/server.js", "python_sdk.py", "fast_mcp.py", "typescript_sdk.mjs", "bare_h11.py"}
    assert len(PEERS) == len(names)
    assert all((ROOT / "bench" / "peers" / name).is_file() for name in names)


def test_the_load_is_answered_by_our_server_and_by_the_barest_peer(tmp_path):
    needed("wrk")
    with rounds.running(rounds.serve(rounds.configured(tmp_path), tmp_path / "data")) as server:
        token = server.signed_in.access_token
        figures = rounds.measure(server, token, callers=4, seconds=0.5, era="legacy", session=False)
        with pytest.raises(RuntimeError, match="401"):
            rounds.measure(server, "none", callers=1, seconds=0.1, era="legacy", session=False)
    assert figures["calls"] >= 4
    with rounds.started(PEERS["bare-h11"].command()) as peer:
        assert rounds.measure(peer, "-", callers=4, seconds=0.5, era="legacy", session=False)["calls"] >= 4


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"jsonrpc":"2.0","id":7000000,"result":{}}', "7000000"),
        ('{"jsonrpc":"2.0","id":1,"result":{"isError": true}}', "isError"),
        ('{"jsonrpc":"2.0","id":1,"error":{"code":-32602}}', "error"),
        ('{"jsonrpc":"2.0","id":1,"result":{}}', "id..1"),
    ],
)
def test_the_load_counts_what_is_no_result_of_a_call_that_waits(answer, why):
    needed("wrk")
    with rounds.started([sys.executable, "-c", PARROT, answer]) as parrot, pytest.raises(RuntimeError, match=why):
        rounds.measure(parrot, "-", callers=2, seconds=1, era="legacy", session=False)


def test_a_quantile_is_one_of_the_values():
    assert neighbour.p(0.5, [3.0, 1.0, 2.0]) == 2.0
    assert neighbour.p(0.99, [float(value) for value in range(100)]) == 99.0
    assert neighbour.p(0.99, [4.0]) == 4.0


def test_a_pause_counts_from_the_moment_of_the_kill():
    assert workers_down.longest_pause([0.5, 1.5, 1.25, 3.0], 1.0) == 1.5
    assert workers_down.longest_pause([0.5], 1.0) == 0.0
    assert workers_down.rate([0.1, 0.2, 0.6], 0.0, 0.5) == 4.0


def test_a_flood_is_written_as_requests():
    call = flood.builder("denials", "http://127.0.0.1:1/mcp", "t")(3)
    head, _, body = call.partition(b"\r\n\r\n")
    assert json.loads(body)["params"]["name"] == "export_report"
    assert b"content-length: %d" % len(body) in head
    names = {
        json.loads(flood.builder("registrations", "http://x/mcp", "")(number).split(b"\r\n\r\n")[1])["client_name"]
        for number in range(3)
    }
    assert len(names) == 3


def test_what_a_process_uses_is_seen():
    before = rounds.processor_s(os.getpid())
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert rounds.processor_s(os.getpid()) > before
    assert os.getpid() in rounds.processes(os.getpid())


def test_ratios_are_of_calls_and_of_processor_time():
    figures = {"ours": {"calls_per_s": [4.0, 6.0], "processor_us": [5.0, 5.0]}}
    figures["node"] = {"calls_per_s": [2.0, 2.0], "processor_us": [10.0, 20.0]}
    found = ceiling.with_ratios(figures, "node")["ours"]
    assert found["ratio"] == (2.5, 2.0, 3.0)
    assert found["processor_ratio"] == (3.0, 2.0, 4.0)


def test_rows_are_filled_in_where_the_server_finds_them(tmp_path):
    config = rounds.configured(tmp_path)
    for kind, table in {"users": "added_person", "sessions": "mcp_session", "clients": "client"}.items():
        data = tmp_path / kind
        growth.fill(kind, 20, config, data)
        with closing(sqlite3.connect(data / "state.db")) as connection:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= 20


def test_tenants_that_share_are_measured_together_and_counted_apart(tmp_path):
    needed("wrk")
    with rounds.running(rounds.serve(rounds.configured(tmp_path), tmp_path / "data")) as server:
        found = sharing.compare(server, callers=8, rounds=1, seconds=1)
    assert list(found) == ["one", "two alike", "two, one with few"]
    assert found["one"]["ratio"] == (1.0, 1.0, 1.0)
    assert found["one"]["smaller_part"] == 1.0
    assert 0 < found["two alike"]["smaller_part"] <= 0.5
