"""Attacks by the message itself: JSON that two readers could read in two ways, and messages that are none."""

import json
import random
import time
from collections.abc import Callable

import pytest

from tests.attacks.people import sign_in
from tests.attacks.speaker import Speaker, eras, legacy, modern, speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import Target
from tests.attacks.wire import connect, read_all, read_reply, request_bytes, status_of

PARSE, INVALID, NO_METHOD, BAD_PARAMS = -32700, -32600, -32601, -32602


def each_era(test: Callable[[Speaker], None], server: Target, user: str = "alice") -> None:
    """Do the same in each era that the server has."""
    token = sign_in(server, user).access
    for spoken in eras(server, token):
        test(spoken)


def body_of(spoken: Speaker, **changes: object) -> dict[str, object]:
    """A good call of echo with other members."""
    params = {"name": "echo", "arguments": {"message": "hello"}}
    return {**spoken.message("tools/call", params), **changes}


def post(spoken: Speaker, body: object, **headers: str | None):
    """Send a body with the headers of a call of echo."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = spoken.fields(**headers) | spoken.mirrored("tools/call", {"name": "echo"})
    return spoken.post(raw, fields)


def calls(server: Target) -> int:
    return len(server.records("tool_call"))


@attack("JSONRPC-03")
def test_a_member_in_other_letters_is_no_member(server):
    def attempt(spoken: Speaker) -> None:
        good = body_of(spoken)
        for name, other in (
            ("method", "Method"),
            ("method", "METHOD"),
            ("method", "meth\u0131d"),
            ("jsonrpc", "JSONRPC"),
            ("jsonrpc", "j\u017fonrpc"),
            ("params", "param\u017f"),
            ("params", "Params"),
        ):
            before = calls(server)
            renamed = {other if key == name else key: value for key, value in good.items()}
            reply = post(spoken, renamed)
            assert reply.status >= 400 or reply.code is not None, other
            assert reply.code in (INVALID, BAD_PARAMS), (other, reply)
            assert calls(server) == before
        twice = json.dumps(good)[:-1] + ', "method": "tools/list"}'
        assert post(spoken, twice.encode()).code == PARSE

    each_era(attempt, server)


@attack("JSONRPC-04")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_does_not_have_is_refused(server, number):
    def attempt(spoken: Speaker) -> None:
        text = json.dumps(body_of(spoken)).replace('"hello"', number)
        reply = post(spoken, text.encode())
        assert (reply.status, reply.code) == (400, PARSE)

    each_era(attempt, server)


@attack("JSONRPC-05")
def test_a_huge_integer_costs_an_answer_and_no_fault(server):
    def attempt(spoken: Speaker) -> None:
        for digits in (str(2**53), str(2**53 + 1), "9" * 4000, "9" * 5000):
            for text in (digits, f"-{digits}"):
                as_id = json.dumps(body_of(spoken, id="@")).replace('"@"', text)
                reply = post(spoken, as_id.encode())
                assert reply.status == 400, reply
                assert reply.code in (INVALID, PARSE)
                as_argument = json.dumps(body_of(spoken)).replace('"hello"', text)
                assert post(spoken, as_argument.encode()).status < 500
        assert text_of(post(spoken, body_of(spoken, id=2**53 - 1))) == "hello"

    each_era(attempt, server)
    assert server.faults() == []


@attack("JSONRPC-06")
def test_an_id_comes_back_as_it_was_sent_or_is_refused(server):
    def attempt(spoken: Speaker) -> None:
        for good in ("a", "1", 1, 0, -1, ""):
            answer = post(spoken, body_of(spoken, id=good)).message
            assert answer["id"] == good
            assert type(answer["id"]) is type(good)
        bad: object
        for bad in (None, 1.0, 1.5, True, False, {}, [], "x" * 10_240):
            reply = post(spoken, body_of(spoken, id=bad))
            assert (reply.status, reply.code) == (400, INVALID), (bad, reply)
            assert "id" not in reply.message

    each_era(attempt, server)


@attack("JSONRPC-08")
def test_text_that_is_no_text_is_refused_before_anything_runs(server):
    def attempt(spoken: Speaker) -> None:
        good = json.dumps(body_of(spoken)).encode()
        for bad in (
            rb'"\ud800"',
            rb'"\udfff\ud800"',
            b'"\xff"',
            b'"\xc0\xaf"',
            b'"\xed\xa0\x80"',
            b'"a\x00b"',
            b'"a\nb"',
        ):
            before = calls(server)
            reply = post(spoken, good.replace(b'"hello"', bad))
            assert (reply.status, reply.code) == (400, PARSE), (bad, reply)
            assert calls(server) == before
        assert post(spoken, b"\xef\xbb\xbf" + good).code == PARSE
        assert text_of(post(spoken, good.replace(b'"hello"', rb'"a\u0000b"'))) == "a\0b"

    each_era(attempt, server)
    assert server.faults() == []


@attack("JSONRPC-10")
def test_a_batch_is_refused_but_where_the_revision_has_them_and_there_it_is_bounded(server):
    token = sign_in(server).access
    for revision in ("2025-03-26", "2025-06-18", "2025-11-25"):
        spoken = legacy(server, token, revision)
        header = {"MCP_Protocol_Version": revision}
        call = body_of(spoken)
        for batch, good in (
            ([], False),
            ([call] * 1000, False),
            ([call], True),
            ([call] * 50, True),
            ([call] * 51, False),
        ):
            before = calls(server)
            reply = post(spoken, batch, **header)
            if good and revision == "2025-03-26":
                assert (reply.status, len(reply.json)) == (200, len(batch))
                assert calls(server) == before + len(batch)
            else:
                assert (reply.status, reply.code) == (400, INVALID), (revision, len(batch), reply)
                assert calls(server) == before
        if revision == "2025-03-26":
            assert [answer["error"]["code"] for answer in post(spoken, [1, "x", [call]], **header).json] == [
                INVALID
            ] * 3
    if server.modern:
        reply = post(modern(server, token), [body_of(modern(server, token))])
        assert (reply.status, reply.code) == (400, INVALID)


@attack("JSONRPC-11")
def test_a_message_that_is_none_is_refused_with_its_own_code(server):
    def attempt(spoken: Speaker) -> None:
        for changes, code in (
            ({"jsonrpc": "1.0"}, INVALID),
            ({"jsonrpc": 2.0}, INVALID),
            ({"jsonrpc": None}, INVALID),
            ({"params": []}, BAD_PARAMS),
            ({"params": None}, INVALID),
            ({"params": 7}, INVALID),
            ({"method": 7}, INVALID),
            ({"method": "x" * 10_240}, INVALID),
            ({"result": {}}, INVALID),
        ):
            assert post(spoken, body_of(spoken, **changes)).code == code, changes
        assert post(spoken, body_of(spoken, method="tools/list", params=[])).code == BAD_PARAMS
        for method in ("", "rpc.discover", "tools/Call"):
            reply = post(spoken, body_of(spoken, method=method), Mcp_Method=method)
            assert reply.code in (NO_METHOD, -32020), (method, reply)
        without = {name: value for name, value in body_of(spoken).items() if name != "jsonrpc"}
        assert post(spoken, without).code == INVALID
        assert text_of(post(spoken, body_of(spoken, more={"ignored": True}))) == "hello"

    each_era(attempt, server)


def padded(spoken: Speaker, size: int) -> bytes:
    """A good call of exactly so many bytes."""
    text = json.dumps(body_of(spoken)).encode()
    return text + b" " * (size - len(text))


@attack("JSONRPC-12")
def test_a_body_over_the_limit_is_refused_before_it_is_read(server):
    limit = 1024 * 1024
    token = sign_in(server).access
    for spoken in eras(server, token):
        assert text_of(post(spoken, padded(spoken, limit))) == "hello"
        assert post(spoken, padded(spoken, limit + 1)).status == 413
    fields = [(name, value) for name, value in spoken.fields().items() if value is not None]
    head = [("Host", server.netloc), *fields]
    before = server.rss_kib()
    with connect(server.port) as sock:  # nothing of the body is sent, and the answer comes
        sock.sendall(request_bytes("POST", "/mcp", [*head, ("Content-Length", str(100 * limit))]))
        assert read_reply(sock).status == 413
    with connect(server.port) as sock:
        sock.sendall(request_bytes("POST", "/mcp", [*head, ("Transfer-Encoding", "chunked")]))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        try:
            for _ in range(16 * 100):
                sock.sendall(chunk)
        except ConnectionError:
            pass
        received = read_all(sock)
    assert status_of(received) in (0, 413)  # 0: the reset of a closed connection came before the answer
    assert server.rss_kib() < before + 32 * 1024
    short = server.raw(request_bytes("POST", "/mcp", [*head, ("Content-Length", "900")], b"{}"))
    assert status_of(short) in (0, 400)
    long = server.raw(request_bytes("POST", "/mcp", [*head, ("Content-Length", "1")], b"{}{}"))
    assert b"HTTP/1.1 200" not in long
    assert server.ask("POST", "/mcp", headers=fields).status == 400


@attack("JSONRPC-13")
def test_a_body_made_to_be_slow_is_refused_by_count(server):
    spoken = speaker(server, sign_in(server).access)
    megabyte = 1024 * 1024 - 4096
    before = server.cpu_s()
    bodies = [
        b"[" + b"{}," * (megabyte // 3) + b"{}]",
        b"{" + b",".join(b'"%d":1' % number for number in range(90_000)) + b"}",
        b"[" * (megabyte // 2) + b"]" * (megabyte // 2),
        b'{"a":' * (megabyte // 6) + b"1" + b"}" * (megabyte // 6),
        b'{"a":' * 200 + b"1" + b"}" * 200,
    ]
    for body in bodies:
        reply = spoken.post(body)
        assert (reply.status, reply.code) == (400, PARSE), reply
    # A tenth of a second each is what counting leaves, and a slow machine gets room.
    assert server.cpu_s() - before < 2.0


@attack("JSONRPC-14")
def test_whatever_is_generated_never_leads_to_a_fault(server, longer):
    source = random.Random(20_260_728)
    spoken = speaker(server, sign_in(server).access)
    methods = ["tools/call", "tools/list", "resources/read", "prompts/get", "completion/complete", "ping", "tasks/get"]
    methods += ["initialize", "logging/setLevel", "server/discover", "notifications/cancelled", "tasks/cancel", "x"]
    values: list[object] = [
        None,
        True,
        0,
        -1,
        1.5,
        "",
        "echo",
        "note://own",
        [],
        {},
        [1],
        {"a": {"b": []}},
        2**60,
        "\u202e",
    ]
    names = ["name", "uri", "arguments", "cursor", "ref", "argument", "taskId", "level", "_meta", "requestId"]
    for _ in range(longer(200, 1_000_000)):
        method = source.choice(methods)
        params = {name: source.choice(values) for name in source.sample(names, source.randint(0, 4))}
        message = {**spoken.message(method), "params": params, "id": source.choice(values)}
        if source.random() < 0.5:
            message = spoken.message(method, {k: v for k, v in params.items() if k != "_meta"}, source.randint(0, 9))
        for name in source.sample(sorted(message), source.choice([0, 0, 0, 1])):
            message[name] = source.choice(values)
        started = time.monotonic()
        fields = spoken.fields() | spoken.mirrored(method, params)
        reply = spoken.post(json.dumps(message).encode(), fields)
        assert reply.status < 500, (message, reply)
        assert time.monotonic() - started < 2.0
    assert server.faults() == []


@attack("JSONRPC-15")
def test_a_name_that_only_looks_like_a_tool_is_unknown(server):
    def attempt(spoken: Speaker) -> None:
        for name in (
            "ech\u043e",
            "echo\u200b",
            "ECHO",
            "Echo",
            "echo ",
            " echo",
            "%65cho",
            "e\u0301cho",
            "echo\0",
            "\uff45cho",
        ):
            before = calls(server)
            reply = spoken.call(name, {"message": "x"}, id_=3)
            assert reply.code in (BAD_PARAMS, -32020), (name, reply)
            assert calls(server) == before
        for name in ("purge\u200b", "PURGE"):  # never the denial of the tool that it looks like
            assert spoken.call(name).code in (BAD_PARAMS, -32020)

    each_era(attempt, server, "bob")
