"""Attacks on the MCP endpoint: its headers, its sessions, its streams, and what belongs to somebody else."""

import base64
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.attacks.people import Client, sign_in
from tests.attacks.speaker import Speaker, eras, legacy, modern, speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import Target
from tests.attacks.wire import data_of, eventually, status_of

WITH_SESSIONS = ("dual", "sessionful")
WITH_MODERN = ("dual", "stateless")
PATHS = {
    "GET": [
        "/mcp",
        "/authorize",
        "/jwks",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource/mcp",
        "/nothing",
    ],
    "POST": ["/mcp", "/register", "/token", "/revoke", "/login", "/consent", "/logout"],
    "DELETE": ["/mcp"],
    "OPTIONS": ["/mcp", "/token", "/register"],
}
MISMATCH, INVALID, BAD_PARAMS, UNSUPPORTED = -32020, -32600, -32602, -32022


def everywhere(server: Target, **headers: str) -> set[int]:
    """The statuses of one request to each endpoint with these headers."""
    fields = {"Content-Type": "application/json", **headers}
    return {
        server.ask(method, path, headers=fields, body=b"{}" if method == "POST" else None).status
        for method, paths in PATHS.items()
        for path in paths
    }


@attack("MCP-TRANSPORT-01")
def test_a_foreign_origin_is_refused_on_every_endpoint(server):
    port = server.port
    for origin in (
        "https://evil.example",
        "null",
        f"https://localhost:{port}",
        f"http://localhost:{port + 1}",
        f"http://evil-localhost:{port}",
        f"http://localhost:{port}.evil.example",
        f"http://localhost.evil.example:{port}",
        f"http://evil.example/http://localhost:{port}",
    ):
        assert everywhere(server, Origin=origin) == {403}, origin
    assert 403 not in everywhere(server, Origin=f"http://localhost:{port}")
    token = sign_in(server).access
    reply = speaker(server, token).ask("tools/list", Origin="https://evil.example")
    assert reply.status == 403
    assert "echo" not in reply.text


@attack("MCP-TRANSPORT-02")
def test_a_foreign_host_is_refused_on_every_endpoint(server):
    for host in (
        "evil.example",
        f"evil.example:{server.port}",
        f"localhost:{server.port + 1}",
        "localhost",
        f"localhost:{server.port}.evil.example",
        f"user@localhost:{server.port}",
        "",
    ):
        assert everywhere(server, Host=host) == {403}, host
    token = sign_in(server).access
    bearer = f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    own = f"Host: {server.netloc}\r\n"
    for head in (
        f"GET http://evil.example/jwks HTTP/1.1\r\n{own}",
        f"GET http://{server.netloc}/jwks HTTP/1.1\r\nHost: evil.example\r\n",
        f"GET /jwks HTTP/1.1\r\n{own}Host: evil.example\r\n",
        f"GET /jwks HTTP/1.1\r\nHost: evil.example\r\n{own}",
        "GET /jwks HTTP/1.1\r\n",
    ):
        assert status_of(server.raw((head + bearer).encode())) in (400, 403, 404), head
    assert 403 not in everywhere(server, Host=f"LOCALHOST:{server.port}")


@attack("MCP-TRANSPORT-03")
def test_a_body_of_another_type_is_refused_before_it_is_parsed(server):
    token = sign_in(server).access
    for spoken in eras(server, token):
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            None,
            "application/json;charset=utf-16",
            "application/json; charset=latin-1",
            "application/jsonp",
            "text/plain;application/json",
        ):
            for body in (json.dumps(spoken.message("tools/list")).encode(), b"no json at all"):
                reply = spoken.post(body, spoken.fields(Content_Type=kind))
                assert reply.status == 415, (kind, reply)
        for kind in ("application/json; charset=utf-8", "APPLICATION/JSON"):
            assert "result" in spoken.ask("tools/list", Content_Type=kind).message


@attack("MCP-TRANSPORT-04")
def test_a_client_that_does_not_accept_both_forms_of_an_answer_is_told_so(server):
    token = sign_in(server).access
    for spoken in eras(server, token):
        for accept in (
            "application/json",
            "text/event-stream",
            "text/html",
            "application/json, text/event-stream;q=0",
            "*/*;q=0",
        ):
            assert spoken.ask("tools/list", Accept=accept).status == 406, accept
        for good in ("*/*", "application/*, text/*", "application/json;q=0.1,text/event-stream;q=0.1", None):
            assert spoken.ask("tools/list", Accept=good).status == 200, good


@attack("MCP-TRANSPORT-05")
def test_a_protocol_version_that_is_unknown_or_differs_is_refused(server):
    token = sign_in(server).access
    old = legacy(server, token)
    for version in ("2099-01-01", "1.0", "2025-11-25 ", "2025-11-25, 2025-06-18", ""):
        reply = old.ask("tools/list", MCP_Protocol_Version=version)
        good = version.strip() == "2025-11-25"
        assert reply.status == (200 if good else 400), (version, reply)
    if server.sessions:
        with old.listen(MCP_Protocol_Version="2099-01-01") as stream:
            assert stream.status == 400
    if not server.modern:
        return
    new = modern(server, token)
    meta = "io.modelcontextprotocol/protocolVersion"
    for header, body, code in (
        ("2026-07-28", "2025-11-25", MISMATCH),
        ("2099-01-01", "2026-07-28", MISMATCH),
        ("2099-01-01", "2099-01-01", UNSUPPORTED),
        (None, "2026-07-28", MISMATCH),
        ("2025-11-25", "2026-07-28", MISMATCH),
    ):
        reply = new.ask("tools/list", {"_meta": {meta: body}}, MCP_Protocol_Version=header)
        assert (reply.status, reply.code) == (400, code), (header, body, reply)


@attack("MCP-TRANSPORT-06", modes=WITH_MODERN)
def test_a_mirrored_header_that_differs_from_the_body_is_refused_and_nothing_runs(server):
    spoken = modern(server, sign_in(server, "alice", scope="tools:call admin").access)
    before = len(server.records(tool="purge"))
    wanted = {"name": "purge", "arguments": {}}
    for headers in (
        {"Mcp_Name": "echo"},
        {"Mcp_Name": "Purge"},
        {"Mcp_Name": None},
        {"Mcp_Name": "=?base64?!!?="},
        {"Mcp_Name": f"=?base64?{base64.b64encode(b'echo').decode()}?="},
        {"Mcp_Method": "tools/list"},
        {"Mcp_Method": "TOOLS/CALL"},
        {"Mcp_Method": None},
    ):
        reply = spoken.ask("tools/call", wanted, **headers)
        assert (reply.status, reply.code) == (400, MISMATCH), (headers, reply)
    for name, value in (("Mcp-Name", "purge"), ("Mcp-Name", "echo"), ("Mcp-Method", "tools/call")):
        fields = [(key, text) for key, text in spoken.fields().items() if text is not None]
        mirrored = spoken.mirrored("tools/call", wanted)
        fields += [(key, text) for key, text in mirrored.items() if text is not None]
        body = json.dumps(spoken.message("tools/call", wanted)).encode()
        reply = server.ask("POST", "/mcp", headers=[*fields, (name, value)], body=body)
        assert reply.status == 400, (name, value, reply)
    assert len(server.records(tool="purge")) == before
    encoded = f"=?base64?{base64.b64encode(b'purge').decode()}?="
    assert spoken.ask("tools/call", wanted, Mcp_Name=encoded).status == 200
    # The header alone never decides: who may not call it is denied by the body.
    other = modern(server, sign_in(server, "bob").access)
    assert other.ask("tools/call", wanted, Mcp_Name="echo").code == MISMATCH


@attack("MCP-TRANSPORT-07", modes=WITH_SESSIONS)
def test_a_session_is_of_no_use_to_anybody_else(server):
    alice = legacy(server, sign_in(server, "alice").access)
    unknown = Speaker(server, alice.token, modern=False, session="x" * 43).ask("tools/list")
    assert unknown.status == 404
    for user in ("bob", "carol", "alice"):  # a colleague, a stranger, the same person by another client
        before = len(server.records("session_refused", subject=user))
        thief = Speaker(server, sign_in(server, user).access, modern=False, session=alice.session)
        reply = thief.ask("tools/list")
        assert (reply.status, reply.body) == (unknown.status, unknown.body)
        with thief.listen() as stream:
            assert stream.status == 404
        assert thief.end().status == 404
        assert len(server.records("session_refused", subject=user)) == before + 3
    assert alice.ask("tools/list").status == 200


@attack("MCP-TRANSPORT-08", modes=WITH_SESSIONS)
def test_session_ids_can_not_be_guessed(server, longer):
    token = sign_in(server, "erin").access
    count = longer(100, 10_000)
    replies = (Speaker(server, token, modern=False).initialize() for _ in range(count))
    ids = [reply.header("mcp-session-id") or "" for reply in replies]
    server.keep_secret(*ids)
    assert len(set(ids)) == count
    assert all(len(id_) * 6 >= 128 and id_.isascii() and id_.isprintable() for id_ in ids)
    for place in range(len(ids[0]) - 1):  # the last of 43 characters carries four bits only
        seen = Counter(id_[place] for id_ in ids)
        expected = count / 64
        chi_square = sum((seen.get(mark, 0) - expected) ** 2 / expected for mark in alphabet())
        assert chi_square < 150, (place, seen)  # 63 degrees of freedom: beyond it once in ten million
    for guess in (ids[0][:-1], ids[0] + "A", ids[0].swapcase(), "0", "a" * 10_000):
        assert Speaker(server, token, modern=False, session=guess).ask("ping").status == 404
    assert Speaker(server, token, modern=False, session=ids[-1]).ask("ping").status == 200


def alphabet() -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@attack("MCP-TRANSPORT-11")
def test_a_rejected_handshake_leaves_nothing_behind(server, longer):
    token = sign_in(server).access
    spoken = Speaker(server, token, modern=False)
    stranger = Speaker(server, None, modern=False)
    before = server.stored("SELECT count(*) FROM mcp_session")
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    for _ in range(20):  # what is allocated at the first refusal is no growth
        assert stranger.initialize().status == 401
    memory = server.rss_kib()
    rounds = longer(100, 200_000)
    for _ in range(rounds):
        assert stranger.initialize().status == 401
        assert spoken.initialize(Accept="text/html").status == 406
        assert spoken.initialize(MCP_Protocol_Version="2099-01-01").status == 400
        assert spoken.post(json.dumps(initialize).encode(), spoken.fields()).code == BAD_PARAMS
        assert spoken.initialize(Content_Type="text/plain").status == 415
    assert server.stored("SELECT count(*) FROM mcp_session") == before
    # The interpreter's own pages come and go; 5 KiB for each refusal would be seen.
    assert server.rss_kib() - memory < max(5 * 5 * rounds, 2048)


@attack("MCP-TRANSPORT-12", modes=WITH_SESSIONS)
def test_sessions_that_nobody_ends_push_out_nobody_else(start, mode, longer):
    server = start(mode, edit=lambda text: text + "sessions_per_tenant = 50\n")
    tokens = sign_in(server, "bob")
    bystander = legacy(server, tokens.access)
    stranger = legacy(server, sign_in(server, "carol").access)
    hoarder = sign_in(server, "alice").access
    kept = [
        Speaker(server, hoarder, modern=False).initialize().header("mcp-session-id") for _ in range(longer(60, 100_000))
    ]
    ((count,),) = server.stored("SELECT count(*) FROM mcp_session WHERE subject = 'alice'")
    assert count == 5  # a tenth of the tenant's
    assert bystander.ask("ping").status == stranger.ask("ping").status == 200
    assert Speaker(server, hoarder, modern=False, session=kept[0]).ask("ping").status == 404
    assert Speaker(server, hoarder, modern=False, session=kept[-1]).ask("ping").status == 200
    server.shift(9 * 60)
    assert Speaker(server, hoarder, modern=False, session=kept[-1]).ask("ping").status == 200
    server.shift(25 * 3600)
    later = tokens.client.tokens(tokens.client.refresh(tokens.refresh))
    assert Speaker(server, later.access, modern=False, session=bystander.session).ask("ping").status == 404


@attack("MCP-TRANSPORT-13", modes=WITH_SESSIONS)
def test_a_last_event_id_leads_to_the_own_session_alone(server):
    client = Client.new(server)
    tokens = client.sign_in("carol")
    mine, other = legacy(server, tokens.access), legacy(server, tokens.access)  # even of one person and one client
    params = {
        "name": "steps",
        "arguments": {"count": 2, "message": "canary of one session"},
        "_meta": {"progressToken": 1},
    }
    with mine.stream("tools/call", params) as stream:
        events = list(stream.rest())
    ids = [event["id"] for event in events if "id" in event]
    name = ids[0].rpartition(".")[0]
    with mine.listen(Last_Event_ID=ids[0]) as stream:
        assert [event["data"] for event in stream.rest()] == [event["data"] for event in events[1:]]
    thief = legacy(server, sign_in(server, "alice").access)
    for spoken in (other, thief):
        for id_ in (
            ids[0],
            f"{name}.0",
            "standalone.0 ",
            "standalone.-1",
            f"{name}.-1",
            "x" * 8000,
            "nonsense",
            "a.1;b.2",
        ):
            with spoken.listen(Last_Event_ID=id_) as stream:
                assert stream.status == 400, id_
                assert b"canary" not in stream.response.read()
    for id_ in (f"{name}.-1", f"{name}.x", name, f"{name}.1.1", "x" * 8000):
        with mine.listen(Last_Event_ID=id_) as stream:
            assert stream.status == 400, id_
    with mine.listen(Last_Event_ID=f"{name}.999999") as stream:  # the future holds nothing
        assert list(stream.rest()) == []


@attack("MCP-TRANSPORT-14", modes=WITH_SESSIONS)
def test_each_message_goes_out_on_one_stream(server):
    token = sign_in(server, "dave").access
    spoken = legacy(server, token)
    assert spoken.ask("resources/subscribe", {"uri": "note://own"}).status == 200
    first, second = spoken.listen(), spoken.listen()
    with first, second:
        assert first.event() is not None
        assert second.event() is not None
        for _ in range(3):
            assert text_of(spoken.call("touch_note")) == "touched"
        told = [second.message()["method"] for _ in range(3)]
        assert told == ["notifications/resources/updated"] * 3
        assert list(first.rest()) == []  # the older stream has ended, and got nothing


@attack("MCP-TRANSPORT-15")
def test_answers_reach_who_asked_though_all_count_alike(server, longer):
    users = ["alice", "bob", "carol", "dave"] * 4
    speakers = [speaker(server, sign_in(server, user).access) for user in users]

    def calls(place: int) -> list[tuple[str, str]]:
        spoken, said = speakers[place], []
        for number in range(longer(6, 6_000)):
            wanted = f"canary-{users[place]}-{place}-{number}"
            said.append((wanted, text_of(spoken.call("pause", {"seconds": number % 3 * 0.01, "message": wanted}))))
        return said

    with ThreadPoolExecutor(len(users)) as pool:
        answers = [pair for said in pool.map(calls, range(len(users))) for pair in said]
    assert [pair for pair in answers if pair[0] != pair[1]] == []


STRANGE = {
    "line feeds": "a\n\nb",
    "carriage returns": "a\r\rb\r\nc",
    "separators": "a\u2028b\u2029c\u0085d",
    "an event": "x\n\nevent: message\ndata: {}\nid: 9.9\n\n",
    "nul": "a\0b",
    "a comment": "\n: x\nretry: 1\n",
}


@attack("MCP-TRANSPORT-16")
@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
def test_text_of_a_tool_does_not_become_an_event(server, text):
    for spoken in eras(server, sign_in(server).access):
        assert text_of(spoken.call("strange_text", {"codepoints": list(map(ord, text))})) == text
        params = {"name": "steps", "arguments": {"count": 1, "message": text}, "_meta": {"progressToken": 1}}
        reply = spoken.ask("tools/call", params)
        assert reply.header("content-type") == "text/event-stream"
        events = [event for event in reply.body.split(b"\n\n") if b"data: {" in event]
        assert len(events) == len(data_of(reply.body)) == 2
        assert all({line.split(b":")[0] for line in event.split(b"\n")} <= {b"data", b"id"} for event in events)
        assert text_of(reply) == text
        assert json.loads(data_of(reply.body)[0])["params"]["message"] == f"{text} 1"


@attack("MCP-TRANSPORT-19", modes=WITH_SESSIONS)
def test_nobody_cancels_what_another_has_asked_for(server):
    victim = legacy(server, sign_in(server, "alice").access)
    thieves = [legacy(server, sign_in(server, user).access) for user in ("alice", "bob", "carol")]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(victim.call, "pause", {"seconds": 0.7, "message": "done"}, "shared-id")
        for _ in range(3):
            for thief in thieves:
                params = {"requestId": "shared-id", "reason": "mine"}
                assert thief.notify("notifications/cancelled", params).status == 202
        assert text_of(waiting.result()) == "done"


@attack("MCP-TRANSPORT-19", modes=WITH_MODERN)
def test_nobody_sees_or_cancels_the_task_of_another(server):
    victim = modern(server, sign_in(server, "alice").access)
    task = victim.call("later", {"seconds": 1.0}).message["result"]["taskId"]
    unknown = modern(server, victim.token).ask("tasks/get", {"taskId": "x" * 43})
    for user in ("alice", "bob", "carol"):  # the same person by another client too
        thief = modern(server, sign_in(server, user).access)
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            reply = thief.ask(method, {"taskId": task, "inputResponses": {}})
            assert reply.body == unknown.body, (user, method)
            assert reply.status == unknown.status
    ended = lambda: victim.ask("tasks/get", {"taskId": task}).message["result"]["status"] == "completed"  # noqa: E731
    assert eventually(ended)
