import json
from functools import partial

import pytest
import trio
import trio.testing

from tenantry import CallContext, tool
from tenantry.server.audit_writer import Ticket
from tenantry.server.features import Incoming
from tenantry.server.turns import Turns
from tests.server.in_process import MODERN_META, InProcess, in_process, request, until

MODES = ["sessionful", "stateless", "dual"]
LEGACY_REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


async def legacy_session(server: InProcess, token: str, revision: str = "2025-11-25") -> dict[str, str]:
    """Open a session and give the headers of its requests; in stateless mode there is no id."""
    answer = await server.initialize(token, revision)
    assert answer.status == 200, answer
    session_id = answer.headers.get("mcp-session-id")
    headers = {"mcp_protocol_version": revision, **({"mcp_session_id": session_id} if session_id else {})}
    accepted = await server.post(request("notifications/initialized", None), token, **headers)
    assert (accepted.status, accepted.body) == (202, b"")
    return headers


# --- strangers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "PUT", "OPTIONS", "HEAD", "PATCH"])
async def test_a_stranger_is_told_where_to_sign_in_whatever_the_method(tmp_path, mode, method):
    async with in_process(tmp_path, mode) as server:
        answer = await server.ask(method, "/mcp")

        assert answer.status == 401
        assert answer.headers["www-authenticate"] == (
            'Bearer resource_metadata="http://localhost:3000/.well-known/oauth-protected-resource/mcp", '
            'scope="tools:call admin"'
        )


async def test_a_bad_access_token_is_refused_in_the_same_words_whatever_is_wrong(tmp_path):
    async with in_process(tmp_path) as server:
        bad = [
            server.token(issued_at=1_799_990_000, expires_at=1_799_990_600),
            server.token(audience="http://localhost:3000/other"),
            server.token(issuer="http://localhost:3001"),
            server.token()[:-4] + "AAAA",
            "nonsense",
        ]
        answers = [await server.post(request("ping"), token) for token in bad]

        assert {answer.status for answer in answers} == {401}
        assert len({(answer.body, answer.headers["www-authenticate"]) for answer in answers}) == 1
        assert 'error="invalid_token"' in answers[0].headers["www-authenticate"]


@pytest.mark.parametrize("headers", [{"host": "evil.tld"}, {"origin": "https://evil.tld"}, {"origin": "null"}])
@pytest.mark.parametrize("path", ["/mcp", "/token", "/register", "/authorize", "/jwks", "/nothing"])
async def test_foreign_names_are_refused_on_every_path_before_anything_else(tmp_path, headers, path):
    async with in_process(tmp_path) as server:
        for method in ("GET", "POST", "OPTIONS"):
            answer = await server.ask(method, path, headers=headers)
            assert answer.status == 403


@pytest.mark.parametrize("path", ["/", "/mcp/", "/MCP", "/%6dcp", "//mcp", "/.well-known/openid-configuration", "*"])
async def test_a_path_is_compared_exactly_and_anything_else_is_a_clean_404(tmp_path, path):
    async with in_process(tmp_path) as server:
        assert (await server.ask("GET", path)).status == 404


# --- transport


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_type": None}, 415),
        ({"content_type": "application/json; charset=utf-16"}, 415),
        ({"accept": "application/json"}, 406),
        ({"accept": "text/event-stream"}, 406),
        ({"accept": None}, 200),
        ({"accept": "*/*"}, 200),
    ],
)
async def test_the_transport_is_judged_before_the_message(tmp_path, headers, status):
    async with in_process(tmp_path, "stateless") as server:
        answer = await server.post(request("ping"), server.token(), **headers)
        assert answer.status == status


async def test_a_body_over_the_limit_is_413(tmp_path):
    async with in_process(tmp_path) as server:
        answer = await server.post(b" " * (server.config.limits.body_bytes + 1), server.token())
        assert answer.status == 413


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, -32700),
        (b"[]", 400, -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', 400, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"nothing"}', 200, -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', 200, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}', 200, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":[]}}', 200, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}', 200, -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}', 200, -32602),
    ],
)
async def test_a_bad_message_gets_its_code_and_leaves_nothing(tmp_path, body, status, code):
    async with in_process(tmp_path, "stateless") as server:
        answer = await server.post(body, server.token())

        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert server.records() == []


# --- the modern era


@pytest.mark.parametrize("mode", ["stateless", "dual"])
async def test_discover_says_what_there_is(tmp_path, mode):
    async with in_process(tmp_path, mode) as server:
        answer = await server.modern("server/discover", server.token(), id_="server-discover-probe-1")

        assert answer.status == 200
        assert answer.json["id"] == "server-discover-probe-1"
        result = answer.json["result"]
        assert result["resultType"] == "complete"
        assert result["supportedVersions"][0] == "2026-07-28"
        assert result["capabilities"]["tools"] == {"listChanged": True}
        assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "tenantry"
        assert "mcp-session-id" not in answer.headers


async def test_a_list_of_the_modern_era_is_private_and_has_the_id_zero(tmp_path):
    async with in_process(tmp_path) as server:
        answer = await server.modern("tools/list", server.token("carol"))
        result = answer.json["result"]

        assert answer.json["id"] == 0
        assert [tool["name"] for tool in result["tools"]] == ["echo", "export_report", "search_documents"]
        assert result["cacheScope"] == "private"
        assert result["ttlMs"] >= 0
        assert result["resultType"] == "complete"


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "nothing"])
async def test_a_method_that_the_modern_era_lacks_is_404(tmp_path, method):
    async with in_process(tmp_path) as server:
        answer = await server.modern(method, server.token(), id_=5)
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (404, -32601, 5)


async def test_a_modern_notification_is_accepted_without_a_body(tmp_path):
    async with in_process(tmp_path) as server:
        answer = await server.post(
            request("notifications/cancelled", None, requestId=1), server.token(), mcp_protocol_version="2026-07-28"
        )
        assert (answer.status, answer.body) == (202, b"")


async def test_session_and_event_ids_mean_nothing_in_the_modern_era(tmp_path):
    async with in_process(tmp_path) as server:
        answer = await server.post(
            request("tools/list", _meta=MODERN_META),
            server.token(),
            mcp_protocol_version="2026-07-28",
            mcp_method="tools/list",
            mcp_session_id="unknown",
            last_event_id="x",
        )
        assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_sessions_get_and_delete_are_not_served(tmp_path, method):
    async with in_process(tmp_path, "stateless") as server:
        answer = await server.ask(method, "/mcp", headers={"authorization": f"Bearer {server.token()}"})
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_a_sessionful_server_sends_a_modern_client_back_to_the_handshake(tmp_path):
    async with in_process(tmp_path, "sessionful") as server:
        answer = await server.modern("server/discover", server.token())

        assert answer.status == 400
        assert answer.json["error"]["code"] not in (-32020, -32021, -32022)


# --- the legacy era


@pytest.mark.parametrize("revision", LEGACY_REVISIONS)
@pytest.mark.parametrize("mode", MODES)
async def test_a_legacy_client_of_any_revision_shakes_hands_lists_and_calls(tmp_path, mode, revision):
    async with in_process(tmp_path, mode) as server:
        token = server.token("alice")
        handshake = await server.initialize(token, revision)
        assert handshake.json["result"]["protocolVersion"] == revision
        headers = await legacy_session(server, token, revision)
        ping = await server.post(request("ping", "p"), token, **headers)
        tools = await server.post(request("tools/list", 0), token, **headers)
        call = await server.post(request("tools/call", 7, name="echo", arguments={"message": "hi"}), token, **headers)

        assert ping.json == {"jsonrpc": "2.0", "id": "p", "result": {}}
        assert [tool["name"] for tool in tools.json["result"]["tools"]] == ["admin_purge", "echo", "search_documents"]
        assert call.json["id"] == 7
        assert call.json["result"]["content"] == [{"type": "text", "text": "hi"}]
        assert "resultType" not in call.json["result"]
        (entry,) = server.records()
        assert (entry["era"], entry["revision"], entry["mode"]) == ("legacy", revision, mode)
        assert ("session" in entry) == (mode != "stateless")


@pytest.mark.parametrize("asked", ["2026-07-28", "1999-01-01", "", "latest"])
async def test_a_revision_that_no_handshake_leads_to_is_answered_with_the_newest_that_one_does(tmp_path, asked):
    async with in_process(tmp_path) as server:
        assert (await server.initialize(server.token(), asked)).json["result"]["protocolVersion"] == "2025-11-25"


async def test_a_session_id_stands_on_the_handshakes_answer_alone_and_can_not_be_guessed(tmp_path):
    async with in_process(tmp_path) as server:
        first, second = [(await server.initialize(server.token())).headers["mcp-session-id"] for _ in range(2)]
        headers = await legacy_session(server, server.token())
        ping = await server.post(request("ping"), server.token(), **headers)

        assert first != second
        assert len(first) >= 43
        assert first.isascii()
        assert "mcp-session-id" not in ping.headers


async def test_a_request_without_its_session_is_400_and_one_with_a_lost_session_404(tmp_path):
    async with in_process(tmp_path) as server:
        missing = await server.post(request("ping"), server.token())
        lost = await server.post(request("ping"), server.token(), mcp_session_id="x" * 43)

        assert (missing.status, lost.status) == (400, 404)


@pytest.mark.parametrize("thief", [("bob", "client"), ("carol", "client"), ("alice", "another client")])
async def test_anothers_session_is_answered_as_one_that_never_was_and_the_attempt_recorded(tmp_path, thief):
    user, client = thief
    async with in_process(tmp_path) as server:
        session = (await server.initialize(server.token("alice"))).headers["mcp-session-id"]
        token = server.token(user, client=client)
        stolen = await server.post(request("ping", 1), token, mcp_session_id=session)
        unknown = await server.post(request("ping", 1), token, mcp_session_id="y" * 43)

        assert (stolen.status, stolen.body, stolen.headers) == (unknown.status, unknown.body, unknown.headers)
        (entry,) = server.records()
        assert (entry["kind"], entry["subject"]) == ("session_refused", user)


async def test_a_session_ends_by_delete_and_then_is_gone(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token()
        session = (await server.initialize(token)).headers["mcp-session-id"]
        fields = {"authorization": f"Bearer {token}", "mcp-session-id": session}
        ended = await server.ask("DELETE", "/mcp", headers=fields)
        again = await server.ask("DELETE", "/mcp", headers=fields)
        used = await server.post(request("ping"), token, mcp_session_id=session)

        assert (ended.status, again.status, used.status) == (204, 404, 404)


async def test_a_session_does_not_stand_for_an_access_token(tmp_path):
    async with in_process(tmp_path) as server:
        session = (await server.initialize(server.token())).headers["mcp-session-id"]
        answer = await server.post(request("tools/list"), None, mcp_session_id=session)

        assert answer.status == 401


async def test_a_session_goes_on_after_a_restart_of_the_server(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token()
        headers = await legacy_session(server, token)
    async with in_process(tmp_path) as server:
        answer = await server.post(request("tools/call", name="echo", arguments={"message": "x"}), token, **headers)

        assert answer.json["result"]["isError"] is False


def streaming(token: str, session: str, **more: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {token}",
        "mcp-session-id": session,
        "accept": "text/event-stream",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


async def test_the_standalone_stream_ends_with_its_access_token(tmp_path):
    async with in_process(tmp_path, clock=lambda: 1_800_000_000.7) as server:
        session = (await server.initialize(server.token())).headers["mcp-session-id"]
        token = server.token(
            issued_at=1_799_999_400, expires_at=1_799_999_996
        )  # with the leeway for clocks, 0.3 s are left
        with trio.fail_after(5):
            ended = await server.ask("GET", "/mcp", headers=streaming(token, session))

        assert ended.status == 200
        assert ended.headers["content-type"] == "text/event-stream"
        assert ended.body.startswith(b"id: standalone.0\ndata: \n\n")


async def test_the_standalone_stream_ends_with_its_successor_and_with_its_session(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token()
        session = (await server.initialize(token)).headers["mcp-session-id"]
        over: list[int] = []

        async def listen(number: int, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await server.ask("GET", "/mcp", headers=streaming(token, session))
            over.append(number)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                await nursery.start(listen, 1)
                await until(lambda: bool(server.parts.sessions.streams))
                await nursery.start(listen, 2)
                await until(lambda: bool(over))
                assert over == [1]
                await server.ask("DELETE", "/mcp", headers=streaming(token, session))

        assert over == [1, 2]


@pytest.mark.parametrize("mode", ["sessionful", "dual"])
async def test_a_stream_needs_a_session_and_its_accept(tmp_path, mode):
    async with in_process(tmp_path, mode) as server:
        fields = {"authorization": f"Bearer {server.token()}"}
        without = await server.ask("GET", "/mcp", headers={**fields, "accept": "text/event-stream"})
        wrong = await server.ask("GET", "/mcp", headers={**fields, "accept": "text/html"})

        assert (without.status, wrong.status) == (400, 406)


# --- who may call what


async def everywhere(server: InProcess, token: str, name: str, **arguments: object):
    """The same call in each era that the server's mode has."""
    answers = []
    if server.config.mode.modern:
        answers.append(await server.modern("tools/call", token, name=name, arguments=arguments))
    headers = await legacy_session(server, token)
    answers.append(await server.post(request("tools/call", name=name, arguments=arguments), token, **headers))
    return answers


@pytest.mark.parametrize("mode", MODES)
async def test_alice_may_purge(tmp_path, mode):
    async with in_process(tmp_path, mode) as server:
        for answer in await everywhere(server, server.token("alice"), "admin_purge", confirm=True):
            assert answer.json["result"]["structuredContent"]["tenant"] == "tenant-a"
        assert {entry["kind"] for entry in server.records()} == {"tool_call"}


@pytest.mark.parametrize("mode", MODES)
async def test_bob_is_refused_in_words_and_not_sent_to_ask_for_what_he_can_not_get(tmp_path, mode):
    async with in_process(tmp_path, mode) as server:
        for answer in await everywhere(server, server.token("bob"), "admin_purge", confirm=True):
            assert answer.status == 200
            assert answer.json["result"]["isError"] is True
            assert "admin" in answer.json["result"]["content"][0]["text"]
        assert {(entry["kind"], entry["reason"]) for entry in server.records()} == {
            ("tool_denied", "scope_not_grantable")
        }


@pytest.mark.parametrize("mode", MODES)
async def test_alice_without_the_scope_is_challenged_for_all_that_the_tool_needs(tmp_path, mode):
    async with in_process(tmp_path, mode) as server:
        for answer in await everywhere(server, server.token("alice", "tools:call"), "admin_purge", confirm=True):
            assert answer.status == 403
            challenge = answer.headers["www-authenticate"]
            assert 'error="insufficient_scope"' in challenge
            assert 'scope="admin tools:call"' in challenge
            assert "resource_metadata=" in challenge
        assert {entry["reason"] for entry in server.records()} == {"insufficient_scope"}


@pytest.mark.parametrize("mode", MODES)
async def test_another_tenants_tool_is_answered_as_one_that_does_not_exist(tmp_path, mode):
    async with in_process(tmp_path, mode) as server:
        foreign = await everywhere(server, server.token("alice"), "export_report", reportId="r1")
        unknown = await everywhere(server, server.token("alice"), "export_xeport", reportId="r1")

        for one, other in zip(foreign, unknown, strict=True):
            assert one.json["error"]["code"] == -32602
            assert (one.status, one.body.replace(b"report", b"xeport")) == (other.status, other.body)
        assert {entry["reason"] for entry in server.records()} == {"foreign", "unknown"}
        assert {entry["kind"] for entry in server.records()} == {"tool_denied"}


async def test_documents_stay_in_their_tenant(tmp_path):
    async with in_process(tmp_path) as server:
        texts = {}
        for user in ("bob", "carol"):
            answer = await server.modern(
                "tools/call", server.token(user), name="search_documents", arguments={"query": ""}
            )
            texts[user] = answer.body.decode()

        assert "tenant-b" not in texts["bob"]
        assert "tenant-a" not in texts["carol"]
        assert "tenant-b" in texts["carol"]


# --- a call that nobody waits for


def waiting(entered: trio.Event, gate: trio.Event):
    @tool(name="echo")
    async def echo(message: str, ctx: CallContext) -> str:
        entered.set()
        await gate.wait()
        return message

    return echo


async def test_a_modern_client_that_leaves_cancels_its_call(tmp_path):
    entered, gate, left = trio.Event(), trio.Event(), trio.Event()
    async with in_process(tmp_path, tools=[waiting(entered, gate)]) as server:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                message = request("tools/call", 1, name="echo", arguments={"message": "x"}, _meta=MODERN_META)
                headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": "tools/call", "mcp_name": "echo"}
                nursery.start_soon(lambda: server.post(message, server.token(), left=left, **headers))
                await entered.wait()
                left.set()

        assert [entry["outcome"] for entry in server.records()] == ["cancelled"]


async def test_a_legacy_client_that_leaves_does_not_cancel_its_call(tmp_path):
    entered, gate, left = trio.Event(), trio.Event(), trio.Event()
    async with in_process(tmp_path, tools=[waiting(entered, gate)]) as server:
        token = server.token()
        headers = await legacy_session(server, token)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                message = request("tools/call", 1, name="echo", arguments={"message": "x"})
                nursery.start_soon(lambda: server.post(message, token, left=left, **headers))
                await entered.wait()
                left.set()
                await trio.testing.wait_all_tasks_blocked()
                gate.set()

        assert [entry["outcome"] for entry in server.records()] == ["succeeded"]


async def test_sixty_four_clients_with_one_id_get_each_their_own_answer(tmp_path):
    async with in_process(tmp_path) as server:
        answers: dict[str, str] = {}

        async def call(text: str) -> None:
            answer = await server.modern("tools/call", server.token(), id_=1, name="echo", arguments={"message": text})
            answers[text] = answer.json["result"]["content"][0]["text"]

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(call, f"canary-{number}")

        assert answers == {f"canary-{number}": f"canary-{number}" for number in range(64)}
        assert len(server.records()) == 64


async def test_arguments_are_in_no_file_that_the_server_writes(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token()
        await server.modern("tools/call", token, name="echo", arguments={"message": "a-canary-in-an-argument"})
        await server.modern("tools/call", token, name="nothing", arguments={"message": "a-canary-in-an-argument"})
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

        assert len(server.records()) == 2
        assert b"a-canary" not in written
        assert token.encode() not in written


async def test_what_a_tool_names_is_recorded_in_clear_and_nothing_else_and_of_a_denied_call_nothing(tmp_path):
    @tool(name="echo", record=("path",))
    def read(path: str, message: str) -> str:
        return path + message

    arguments = {"path": "/a", "message": "a-canary"}
    async with in_process(tmp_path, tools=[read]) as server:
        await server.modern("tools/call", server.token(), name="echo", arguments=arguments)
        await server.modern("tools/call", server.token("alice", "admin"), name="echo", arguments=arguments)
        allowed, denied = server.records()

        assert allowed["recorded"] == {"path": "/a"}
        assert "recorded" not in denied
        assert "a-canary" not in str(allowed)


async def test_every_answer_is_json_with_the_same_id_type(tmp_path):
    async with in_process(tmp_path) as server:
        for id_ in (0, "0", -1, "", 2**53 - 1):
            answer = await server.modern("tools/call", server.token(), id_=id_, name="echo", arguments={"message": "x"})
            assert json.loads(answer.body)["id"] == id_
            assert type(json.loads(answer.body)["id"]) is type(id_)
        assert [entry["jsonrpc_id"] for entry in server.records()] == [0, "0", -1, "", 2**53 - 1]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_version_header_that_is_not_served_is_refused_on_every_method(tmp_path, method):
    async with in_process(tmp_path) as server:
        token = server.token()
        session = (await server.initialize(token)).headers["mcp-session-id"]
        fields = streaming(token, session, mcp_protocol_version="1999-01-01")
        refused = await server.ask(method, "/mcp", headers=fields)
        known = await server.post(request("ping"), token, mcp_session_id=session)

        assert (refused.status, known.status) == (400, 200)


async def test_what_can_not_be_read_is_judged_by_the_era_of_its_header(tmp_path):
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}'
    async with in_process(tmp_path, "stateless") as server:
        modern = await server.post(body, server.token(), mcp_protocol_version="2026-07-28")
        legacy = await server.post(body, server.token(), mcp_protocol_version="2025-11-25")

        assert (modern.status, legacy.status) == (400, 200)


async def test_an_answer_that_can_not_be_written_is_a_fault_and_comes_behind_its_record(tmp_path, monkeypatch):
    waited = []
    durable = Ticket.durable

    async def noted(ticket: Ticket) -> None:
        await durable(ticket)
        waited.append(ticket)

    def unwritable(*_: object) -> None:
        raise ValueError("no JSON")

    monkeypatch.setattr(Ticket, "durable", noted)
    monkeypatch.setattr(Incoming, "answer", unwritable)
    async with in_process(tmp_path) as server:
        answer = await server.modern("tools/call", server.token(), name="echo", arguments={"message": "x"})
        assert (answer.status, len(waited)) == (500, 1)


async def test_who_is_alone_goes_all_the_way_at_once_and_who_is_not_pauses_half_way(tmp_path, monkeypatch):
    paused: list[int] = []
    begun: list[int] = []
    pause = Turns.pause

    async def noted(turns: Turns) -> None:
        paused.append(len(begun))
        await pause(turns)

    monkeypatch.setattr(Turns, "pause", noted)
    gate = trio.Event()

    @tool
    async def echo() -> str:
        """Wait."""
        begun.append(1)
        await gate.wait()
        return "done"

    def are_begun(count: int) -> bool:
        return len(begun) == count

    async with in_process(tmp_path, "stateless", tools=[echo]) as server:
        token = server.token()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(server.post, request("tools/call", number, name="echo"), token)
                await until(partial(are_begun, number + 1))
                assert server.audit.under_way() == number + 1
            gate.set()
        assert server.audit.under_way() == 0
    assert paused == [1, 2]
