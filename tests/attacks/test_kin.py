"""Attacks that the list does not have, near those that it has."""

import base64
import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from urllib.parse import urlencode

import pytest

from tenantry.server import audit_log
from tests.attacks.people import CALLBACK, Client, answer_of, forms_of, posted_forms, sign_in
from tests.attacks.speaker import eras, legacy, modern, text_of
from tests.attacks.table import attack
from tests.attacks.target import FORM
from tests.attacks.test_bearer import shown
from tests.attacks.wire import connect, read_all, read_reply, status_of
from tests.running import free_port

WITH_SESSIONS = ("dual", "sessionful")
WITH_MODERN = ("dual", "stateless")
WEB = "https://app.example/cb"


@attack("KIN-DCR-01")
def test_a_client_that_somebody_consented_to_is_given_to_nobody_else(server):
    metadata = {"client_name": "A client that many register alike", "redirect_uris": [WEB]}
    first = server.register(**metadata).json["client_id"]
    assert server.register(**metadata).json["client_id"] == first  # registering again is cheap, as long as it is unused
    body = json.dumps(metadata).encode()
    elsewhere = server.ask(
        "POST", "/register", headers={"Content-Type": "application/json"}, body=body, source="127.66.0.1"
    )
    assert elsewhere.json["client_id"] != first  # a neighbour in another network can't come to wait in it
    client = Client(server, first, WEB)
    assert "code" in answer_of(client.authorize("alice"))
    assert server.register(**metadata).json["client_id"] != first


@attack("KIN-DCR-02")
def test_registration_is_for_whom_the_policy_says(start, mode):
    token = "canary-initial-access-token-0123456789"
    digest = hashlib.sha256(token.encode()).hexdigest()
    policy = f'[clients]\nregistration = "initial_access_token"\ninitial_access_tokens = ["{digest}"]\n'
    server = start(mode, edit=lambda text: text + policy)
    server.keep_secret(token)
    body = json.dumps({"redirect_uris": [WEB]}).encode()

    def tried(*authorization: str) -> object:
        fields = [("Content-Type", "application/json"), *(("Authorization", value) for value in authorization)]
        return server.ask("POST", "/register", headers=fields, body=body).status

    for bad in ((), ("Bearer wrong",), (f"Basic {token}",), (f"Bearer {digest}",), (f"Bearer {token}x",)):
        assert tried(*bad) == 401, bad
    assert tried(f"Bearer {token}", f"Bearer {token}") == 400
    assert tried(f"Bearer {token}") == 201
    closed = start(mode, edit=lambda text: text + '[clients]\nregistration = "closed"\n')
    assert closed.register().status in (403, 404)
    assert "registration_endpoint" not in closed.ask("GET", "/.well-known/oauth-authorization-server").json


@attack("KIN-CLIENT-01")
def test_a_client_with_a_secret_has_to_show_it_and_in_one_way(server):
    made = server.register(token_endpoint_auth_method="client_secret_basic").json
    client = Client(server, made["client_id"])
    secret = made["client_secret"]
    server.keep_secret(secret)
    code = client.code()
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": client.verifier,
        "redirect_uri": CALLBACK,
    }

    def tried(values: dict[str, str], *pairs: str):
        basic = [("Authorization", "Basic " + base64.b64encode(pair.encode()).decode()) for pair in pairs]
        fields = [("Content-Type", FORM), *basic]
        return server.ask("POST", "/token", headers=fields, body=urlencode({**form, **values}).encode())

    id_ = {"client_id": client.client_id}
    for values, pairs, wanted in (
        (id_, (), 401),
        ({**id_, "client_secret": "wrong"}, (), 401),
        ({}, (f"{client.client_id}:wrong",), 401),
        ({}, (f"{client.client_id}:",), 401),
        ({**id_, "client_secret": secret}, (f"{client.client_id}:{secret}",), 400),
        ({"client_id": "x" * 43}, (f"{client.client_id}:{secret}",), 400),
    ):
        assert tried(values, *pairs).status == wanted, (values, pairs)
    public = Client.new(server)
    assert public.redeem(public.code(), client_secret="anything-at-all").status == 401
    given = tried({}, f"{client.client_id}:{secret}")
    assert given.status == 200
    server.keep_secret(given.json["access_token"], given.json["refresh_token"])
    assert client.refresh(given.json["refresh_token"]).status == 401
    assert client.revoke(given.json["refresh_token"]).status == 401
    assert shown(server, f"Bearer {given.json['access_token']}").status == 200


@attack("KIN-INTROSPECT-01")
def test_introspection_tells_strangers_nothing(server):
    victim = sign_in(server, "carol")
    made = server.register(token_endpoint_auth_method="client_secret_post").json
    server.keep_secret(made["client_secret"])
    asker = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    public = Client.new(server)
    for token in (victim.access, victim.refresh, "unknown", "a.b.c"):
        reply = server.form("/introspect", {**asker, "token": token})
        assert (reply.status, reply.json) == (200, {"active": False})
        assert "no-store" in (reply.header("cache-control") or "")
        assert server.form("/introspect", {"client_id": public.client_id, "token": token}).status in (400, 401)
        assert server.form("/introspect", {"token": token}).status in (400, 401)
    own = Client(server, made["client_id"])
    code = own.code("carol")
    given = own.redeem(code, client_secret=made["client_secret"])
    reply = server.form("/introspect", {**asker, "token": given.json["access_token"]})
    assert reply.json["active"] is True
    assert reply.json["sub"] == "carol"


@attack("KIN-CONSENT-01")
def test_no_page_gets_a_code_for_a_program_on_this_machine_without_a_click(server):
    client = Client.new(server)
    assert "code" in answer_of(client.authorize("alice"))
    # The person is logged in and has allowed just this. Any page could now send the browser here.
    again = client.browser.get(client.authorization())
    assert again.status == 200
    assert "/consent" in forms_of(again)
    assert answer_of(client.browser.get(client.authorization(prompt="none")))["error"] == "consent_required"
    # Where the answer goes to a site the decision is remembered, for no more than was decided.
    web = Client.new(server, redirect_uris=[WEB])
    web.browser = client.browser
    assert "code" in answer_of(web.authorize("alice", scope="tools:call"))
    assert web.browser.get(web.authorization(scope="tools:call")).status == 303
    assert "/consent" in forms_of(web.browser.get(web.authorization(scope="tools:call admin")))
    assert "/consent" in forms_of(web.browser.get(web.authorization(prompt="consent")))


@attack("KIN-ACCOUNT-01")
def test_nobody_ends_the_grants_of_another(server):
    victim, attacker = sign_in(server, "carol"), sign_in(server, "dave")
    theirs = victim.client.browser.get("/account")
    own = attacker.client.browser.get("/account")
    sealed = [form.hidden["sealed"] for form in posted_forms(theirs) if form.action == "/account"]
    assert sealed
    assert posted_forms(own)
    for value in (*sealed, "", "x" * 200):
        assert attacker.client.browser.post("/account", {"sealed": value}).status == 403
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert victim.client.browser.post("/account", {"sealed": sealed[0]}, foreign).status == 403
    assert shown(server, f"Bearer {victim.access}").status == 200
    assert victim.client.browser.get("/account").status == 200


@attack("KIN-ASK-01", modes=WITH_SESSIONS)
def test_nobody_answers_what_another_was_asked(server):
    victim = legacy(server, sign_in(server, "alice").access)
    thieves = [legacy(server, sign_in(server, user).access) for user in ("alice", "carol")]
    with victim.stream("tools/call", {"name": "ask_colour", "arguments": {}}) as stream:
        question = stream.message()
        assert question["method"] == "elicitation/create"
        answer = {"action": "accept", "content": {"colour": "the thief's"}}
        for thief in thieves:
            body = {"jsonrpc": "2.0", "id": question["id"], "result": answer}
            assert thief.post(json.dumps(body).encode()).status == 202
        mine = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"colour": "red"}}}
        assert victim.post(json.dumps(mine).encode()).status == 202
        said = stream.message()
    assert said["result"]["content"][0]["text"] == "alice chose red"


@attack("KIN-STATE-01", modes=WITH_MODERN)
def test_the_state_of_a_question_is_good_for_who_was_asked_and_for_that_call(server):
    tokens = sign_in(server, "alice")
    victim = modern(server, tokens.access)
    asked = victim.call("ask_colour").message["result"]
    assert asked["resultType"] == "input_required"
    state, (key,) = asked["requestState"], asked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"colour": "red"}}}
    for user in ("alice", "bob", "carol"):
        thief = modern(server, sign_in(server, user).access)
        reply = thief.call("ask_colour", inputResponses=answers, requestState=state)
        assert reply.code == -32602, user
    for bad in (state[:-2] + "AA", state[::-1], "x", "", 7, {"a": 1}):
        assert victim.call("ask_colour", inputResponses=answers, requestState=bad).code == -32602, bad
    other = victim.call("echo", {"message": "x"}, inputResponses={}, requestState=state)
    assert other.code == -32602
    server.shift(480)
    victim.token = tokens.client.tokens(tokens.client.refresh(tokens.refresh)).access  # which is good for longer
    assert text_of(victim.call("ask_colour", inputResponses=answers, requestState=state)) == "alice chose red"
    server.shift(601)
    assert victim.call("ask_colour", inputResponses=answers, requestState=state).code == -32602


@attack("KIN-TASK-01", modes=WITH_MODERN)
def test_one_person_has_no_more_tasks_than_their_share(server):
    hoarder, bystander = (modern(server, sign_in(server, user).access) for user in ("dave", "carol"))
    replies = [hoarder.call("later", {"seconds": 3.0}) for _ in range(25)]
    begun = [reply.message["result"]["taskId"] for reply in replies if "result" in reply.message]
    assert len(begun) == 20
    assert all((reply.status, reply.code) == (429, -32603) for reply in replies if "result" not in reply.message)
    assert "taskId" in bystander.call("later", {"seconds": 0}).message["result"]
    for task in begun:
        hoarder.ask("tasks/cancel", {"taskId": task})


@attack("KIN-CURSOR-01")
def test_a_cursor_leads_to_nothing_hidden_and_to_no_fault(server):
    for spoken in eras(server, sign_in(server, "bob").access):
        for cursor in (
            "",
            "x",
            "\u00e9",
            "e30=",
            base64.b64encode(b'{"after": 7}').decode(),
            "A" * 100_000,
            "[" * 999,
            "==",
        ):
            assert spoken.ask("tools/list", {"cursor": cursor}).code == -32602, cursor[:20]
        before_hidden = base64.urlsafe_b64encode(json.dumps({"after": "export_repor"}).encode()).decode()
        listed = [
            tool["name"] for tool in spoken.ask("tools/list", {"cursor": before_hidden}).message["result"]["tools"]
        ]
        assert "export_report" not in listed
        assert "later" in listed
    assert server.faults() == []


@attack("KIN-SMUGGLE-01")
def test_a_request_of_two_lengths_is_refused_and_its_connection_closed(server):
    own = f"Host: {server.netloc}\r\n"
    hidden = f"GET /jwks HTTP/1.1\r\n{own}\r\n"
    for head in (
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: x, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 0x4\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
    ):
        received = server.raw(f"POST /token HTTP/1.1\r\n{own}{head}\r\n0\r\n\r\n{hidden}".encode())
        assert status_of(received) in (400, 501), head
        assert received.count(b"HTTP/1.1 ") == 1, head  # what was hidden behind it is no request
        assert b'"keys"' not in received
    assert (
        status_of(server.raw(f"POST /token HTTP/1.0\r\n{own}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()))
        == 400
    )


@attack("KIN-AUDIT-01")
def test_who_can_write_the_file_still_can_not_change_the_past_unseen(server, tmp_path):
    sign_in(server)
    log = server.running.data / audit_log.FILE_NAME
    first = "SELECT body FROM record WHERE seq = 1"
    with closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as source:
        for number, (change, named) in enumerate(
            (
                ("UPDATE record SET body = X'7B7D' WHERE seq = 3", "record 3 was changed"),
                ("DELETE FROM record WHERE seq = (SELECT max(seq) FROM record)", "cut off behind"),
                ("DELETE FROM record WHERE seq = 2", "record 2 is missing"),
                (f"UPDATE record SET body = ({first}) WHERE seq = 2", "record 2 was changed"),
            )
        ):
            folder = tmp_path / str(number)
            shutil.copytree(server.running.data, folder, ignore=shutil.ignore_patterns("*.db*", "lock"))
            with closing(sqlite3.connect(folder / log.name)) as copy:
                source.backup(copy)
                assert audit_log.verify(folder / log.name).problem is None
                with pytest.raises(sqlite3.DatabaseError, match="append-only"):  # the file itself refuses
                    copy.execute(change)
                copy.rollback()
                triggers = copy.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
                for name, _ in triggers:
                    copy.execute(f'DROP TRIGGER "{name}"')
                copy.execute(change)
                for _, sql in triggers:
                    copy.execute(sql)
                copy.commit()
            assert named in (audit_log.verify(folder / log.name).problem or ""), change


@attack("KIN-SECOND-01", modes=WITH_SESSIONS)
def test_a_stream_of_a_revoked_grant_ends_and_so_does_its_session(server):
    tokens = sign_in(server, "bob")
    spoken = legacy(server, tokens.access)
    params = {"name": "steps", "arguments": {"count": 2, "seconds": 2.0}, "_meta": {"progressToken": 1}}
    with spoken.listen() as stream, spoken.stream("tools/call", params) as call:
        assert stream.event() is not None
        assert call.message()["method"] == "notifications/progress"
        assert tokens.client.revoke(tokens.refresh).status == 200
        assert list(stream.rest()) == []
        assert not any('"result"' in event.get("data", "") for event in call.rest())
    assert spoken.ask("tools/list").status == 401
    later = tokens.client.sign_in("bob")
    spoken.token = later.access
    assert spoken.ask("tools/list").status == 404


@attack("KIN-FIGURES-01")
def test_what_is_for_operators_is_neither_at_the_public_door_nor_for_pages(start, mode):
    port = free_port()
    server = start(mode, "--management-port", str(port))
    for path in ("/metrics", "/health/live", "/health/ready", "/health", "/debug", "/admin"):
        assert server.ask("GET", path).status == 404, path
    server.port, public = port, server.port
    try:
        for path in ("/metrics", "/health/live", "/health/ready"):
            assert server.ask("GET", path).status == 200, path
            assert server.ask("GET", path, headers={"Host": "evil.example"}).status == 403
            assert server.ask("GET", path, headers={"Origin": "https://evil.example"}).status == 403
    finally:
        server.port = public


@attack("KIN-HEAD-01")
def test_what_resembles_a_good_request_on_its_connection_is_judged_by_itself(server):
    alice, bob, again = sign_in(server), sign_in(server, "bob"), sign_in(server)
    speakers = {each.access: eras(server, each.access)[-1] for each in (alice, bob, again)}
    broken = alice.access[:-4] + "AAAA"

    def request(token: str, **more: str | None) -> bytes:
        speaker = speakers[token]
        params = {"name": "echo", "arguments": {"message": "hello"}}
        fields = {**speaker.fields(), **speaker.mirrored("tools/call", params), "Host": server.netloc, **more}
        body = json.dumps(speaker.message("tools/call", params, 1)).encode()
        fields["Content-Length"] = str(len(body))
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value is not None]
        return f"POST /mcp HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body

    good = request(alice.access)
    length = next(line for line in good.split(b"\r\n") if line.startswith(b"Content-Length"))
    length = length + b"\r\n"
    other = b"Content-Length: 9\r\n"
    with connect(server.port) as sock:

        def answers(data: bytes) -> int:
            sock.sendall(data)
            return read_reply(sock, "POST").status

        assert [answers(good), answers(good)] == [200, 200]
        for status, data in (
            (200, request(bob.access)),
            (401, good.replace(alice.access.encode(), broken.encode())),
            (401, good.replace(b"Authorization: Bearer", b"Authorization: Digest")),
            (403, request(alice.access, Origin="https://elsewhere.example")),
            (403, request(alice.access, Host="elsewhere.example")),
            (400, request(alice.access, MCP_Protocol_Version="1999-01-01")),
            (415, good.replace(b"application/json\r\n", b"text/plain\r\n", 1)),
        ):
            assert [answers(data), answers(good)] == [status, 200], data
        alice.client.revoke(alice.refresh)
        assert answers(good) == 401
    good = request(again.access)
    longer = b"Content-Length: %d\r\n" % (int(length.split()[1]) + 1)
    for first, data in (
        (good, good.replace(length, length + other)),
        (good, good.replace(length, other + length)),
        (good, good.replace(length, length + b"Transfer-Encoding: chunked\r\n")),
        (good.replace(length, 2 * length), good.replace(length, longer + length) + b" "),
    ):
        with connect(server.port) as sock:
            for packet, statuses in ((first, [200]), (2 * first, [200, 200]), (first, [200]), (data, [400])):
                sock.sendall(packet)
                assert [read_reply(sock, "POST").status for _ in statuses] == statuses, packet
            assert read_all(sock) == b""
