"""The parts of `tenantry call` that need no server: what it reads, what it refuses, how it ends."""

import base64
import json
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli import app, client
from tenantry.cli.call import BadArguments, call, parse_arguments, user_of
from tenantry.cli.client import Endpoint, Fault, Outcome, Person, Reply, Verdict
from tenantry.web import decode_mirrored

URL = "http://localhost:3000/mcp"
ISSUER = "http://localhost:3000"
ALICE = Person(user="alice", password="demo", scope="tools:call")
SERVER = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "registration_endpoint": f"{ISSUER}/register",
    "code_challenge_methods_supported": ["S256"],
    "authorization_response_iss_parameter_supported": True,
}
RESOURCE = {"resource": URL, "authorization_servers": [ISSUER]}
LOGIN = """
<p role="alert">Wrong
  password.</p>
<form method="post" action="/login"><input type="hidden" name="sealed" value="a&amp;b">
<input name="username" value=""><input name="password" type="password">
<button type="submit" name="action" value="login">Log in</button></form>
"""
CONSENT = """
<form action="/logout"><input type="hidden" name="sealed" value="not this"><button name="switch" value="account"></form>
<form action="/consent"><input type="hidden" name="sealed" value="this">
<button name="decision" value="deny">Deny</button><button name="decision" value="allow">Allow</button></form>
"""


# --- pages


def test_the_login_form_is_filled_and_its_hidden_fields_are_kept():
    assert client.fill(client.read_page(LOGIN), ALICE) == (
        "/login",
        {"sealed": "a&b", "username": "alice", "password": "demo", "action": "login"},
    )


def test_the_allow_button_is_pressed_wherever_it_stands_and_no_other():
    assert client.fill(client.read_page(CONSENT), ALICE) == ("/consent", {"sealed": "this", "decision": "allow"})


def test_what_a_page_complains_of_is_read_as_one_line():
    assert client.read_page(LOGIN).problem == "Wrong password."


def test_a_page_without_a_known_form_is_a_fault_with_the_words_of_the_page():
    with pytest.raises(Fault, match=r"^not registered$"):
        client.fill(client.read_page('<p role="alert">not registered</p><form action="/x"></form>'), ALICE)


def test_controls_outside_of_a_form_belong_to_none():
    page = client.read_page('<form action="/a"></form><input name="stray" value="1">')
    assert [form.fields for form in page.forms] == [{}]


@given(st.text())
def test_any_text_can_be_read_as_a_page(text):
    client.read_page(text)


# --- headers


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("echo", "echo"),
        ("two words", "two words"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ],
)
def test_a_mirrored_value_is_encoded_as_the_text_of_the_protocol_has_it(text, encoded):
    assert client.encode_header_value(text) == encoded


@given(st.text(max_size=40) | st.text(max_size=9).map(lambda text: f"=?base64?{text}?="))
def test_the_server_reads_the_same_value_out_of_the_header(text):
    assert decode_mirrored(client.encode_header_value(text)) == text


def test_a_challenge_is_read_with_quoted_and_bare_values():
    header = r'Bearer error="insufficient_scope", error_description="say \"please\", then go", Scope=admin'
    assert client.parse_challenge(header) == {
        "error": "insufficient_scope",
        "error_description": 'say "please", then go',
        "scope": "admin",
    }


def test_a_challenge_of_another_scheme_says_nothing():
    assert client.parse_challenge('Basic realm="x"') == {}


# --- discovery


def test_the_documents_about_this_server_are_accepted():
    assert client.check_resource(RESOURCE, URL) == ISSUER
    assert client.check_server(SERVER, ISSUER) == SERVER


def test_the_metadata_of_another_resource_are_refused():
    with pytest.raises(Fault, match=r"calls itself http://127\.0\.0\.1:3000/mcp"):
        client.check_resource({**RESOURCE, "resource": "http://127.0.0.1:3000/mcp"}, URL)


@pytest.mark.parametrize("servers", [None, [], "http://localhost:3000", [1]])
def test_a_resource_without_an_authorization_server_is_refused(servers):
    with pytest.raises(Fault, match="names no authorization server"):
        client.check_resource({**RESOURCE, "authorization_servers": servers}, URL)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"issuer": "http://localhost:3000/"}, "says that it is"),
        ({"code_challenge_methods_supported": ["plain"]}, "S256"),
        ({"code_challenge_methods_supported": None}, "S256"),
        ({"registration_endpoint": None}, "registration_endpoint"),
        ({"token_endpoint": "http://192.0.2.1/token"}, "use https"),
    ],
)
def test_an_authorization_server_that_can_not_be_trusted_is_refused(change, reason):
    with pytest.raises(Fault, match=reason):
        client.check_server({**SERVER, **change}, ISSUER)


def test_well_known_documents_lie_between_host_and_path():
    assert client.well_known(URL, "oauth-protected-resource") == f"{ISSUER}/.well-known/oauth-protected-resource/mcp"
    assert client.well_known(ISSUER, "oauth-authorization-server") == f"{ISSUER}/.well-known/oauth-authorization-server"


def test_the_code_challenge_is_that_of_the_example_in_rfc_7636():
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert client.challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


# --- the redirect


def test_the_code_is_taken_from_a_redirect_with_our_state_and_the_right_issuer():
    assert client.code_of({"code": "c", "state": "s", "iss": ISSUER}, state="s", server=SERVER) == "c"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state": "other"}, "another state"),
        ({"state": None}, "another state"),
        ({"iss": "http://localhost:4000"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"code": None}, "no code"),
        ({"code": None, "error": "access_denied"}, "access_denied"),
    ],
)
def test_a_redirect_that_is_not_the_answer_to_our_request_is_refused(change, reason):
    answer = {"code": "c", "state": "s", "iss": ISSUER, **change}
    with pytest.raises(Fault, match=reason):
        client.code_of({name: value for name, value in answer.items() if value}, state="s", server=SERVER)


def test_a_server_that_does_not_promise_an_issuer_may_leave_it_out():
    server = {**SERVER, "authorization_response_iss_parameter_supported": False}
    assert client.code_of({"code": "c", "state": "s"}, state="s", server=server) == "c"
    with pytest.raises(Fault, match="another issuer"):
        client.code_of({"code": "c", "state": "s", "iss": "http://localhost:4000"}, state="s", server=server)


# --- a whole sign-in at a server that is made up


class Site:
    """An authorization server out of a table; it writes down what it is asked."""

    def __init__(self, monkeypatch, **changes):
        self.seen = []
        self.consents = 0
        self.changes = changes
        original = httpx2.AsyncClient
        transport = httpx2.MockTransport(self.answer)
        monkeypatch.setattr(httpx2, "AsyncClient", lambda **options: original(**options, transport=transport))

    def answer(self, request):
        self.seen.append(request)
        path = request.url.path
        if path in self.changes:
            return self.changes[path]
        page = httpx2.Response(200, html=LOGIN)
        back = {"code": "c0de", "iss": ISSUER, "state": self._state()}
        answers = {
            "/mcp": self._mcp,
            "/.well-known/oauth-protected-resource/mcp": lambda: httpx2.Response(200, json=RESOURCE),
            "/.well-known/oauth-authorization-server": lambda: httpx2.Response(200, json=SERVER),
            "/register": lambda: httpx2.Response(201, json={"client_id": "client-1"}),
            "/authorize": lambda: page,
            "/login": lambda: httpx2.Response(303, headers={"location": "/choose"}),
            "/choose": lambda: httpx2.Response(200, html=CONSENT),
            "/consent": lambda: _redirect(client.REDIRECT_URI, back),
            "/token": lambda: httpx2.Response(200, json={"access_token": "t0ken", "token_type": "Bearer"}),
        }
        return answers[path]()

    def _state(self):
        asked = [request for request in self.seen if request.url.path == "/authorize"]
        return parse_qs(asked[0].url.query.decode())["state"][0] if asked else ""

    def _mcp(self):
        request = self.seen[-1]
        if "authorization" not in request.headers:
            where = f"{ISSUER}/.well-known/oauth-protected-resource/mcp"
            return httpx2.Response(401, headers={"www-authenticate": f'Bearer resource_metadata="{where}"'})
        result = {"content": [{"type": "text", "text": "done"}]}
        return httpx2.Response(200, json={"jsonrpc": "2.0", "id": json.loads(request.content)["id"], "result": result})

    def form(self, path):
        (request,) = (request for request in self.seen if request.url.path == path)
        return {name: values[0] for name, values in parse_qs(request.content.decode()).items()}


def _redirect(target, parameters):
    return httpx2.Response(303, headers={"location": str(httpx2.URL(target, params=parameters))})


async def test_the_verifier_fits_the_challenge_and_everything_names_the_resource(monkeypatch):
    site = Site(monkeypatch)
    assert await client.call_tool(URL, ALICE, "echo", {}) == Outcome(Verdict.SUCCEEDED, "done")
    asked = {
        name: values[0]
        for request in site.seen
        if request.url.path == "/authorize"
        for name, values in parse_qs(urlsplit(str(request.url)).query).items()
    }
    redeemed = site.form("/token")
    assert client.challenge_of(redeemed["code_verifier"]) == asked["code_challenge"]
    assert asked["code_challenge_method"] == "S256"
    assert asked["scope"] == "tools:call"
    assert asked["resource"] == redeemed["resource"] == URL
    assert asked["redirect_uri"] == redeemed["redirect_uri"] == client.REDIRECT_URI
    assert redeemed["code"] == "c0de"
    assert site.seen[-1].headers["authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/mcp", httpx2.Response(200, json={}), "answered 200 where 401 was expected"),
        (
            "/register",
            httpx2.Response(429, json={"error": "slow_down"}),
            "registration endpoint answered 429 slow_down",
        ),
        ("/authorize", httpx2.Response(303, headers={"location": "http://localhost:4000/login"}), "leads away to"),
        ("/login", httpx2.Response(403, html=LOGIN), r"alice can't log in: Wrong password\."),
        ("/choose", httpx2.Response(303, headers={"location": "/choose"}), "without end"),
        ("/consent", _redirect(client.REDIRECT_URI, {"code": "c", "state": "x", "iss": ISSUER}), "another state"),
        ("/token", httpx2.Response(400, json={"error": "invalid_grant"}), "token endpoint answered 400 invalid_grant"),
        ("/token", httpx2.Response(200, text="<html>"), "no JSON object"),
        ("/token", httpx2.Response(200, json={"access_token": "t", "token_type": "DPoP"}), "no bearer token"),
    ],
)
async def test_whatever_goes_wrong_while_signing_in_is_one_fault(monkeypatch, path, answer, reason):
    Site(monkeypatch, **{path: answer})
    with pytest.raises(Fault, match=reason):
        await client.call_tool(URL, ALICE, "echo", {})


async def test_the_password_is_not_sent_to_another_site(monkeypatch):
    form = '<form action="http://localhost:4000/login"><input name="p" type="password"></form>'
    site = Site(monkeypatch, **{"/authorize": httpx2.Response(200, html=form)})
    with pytest.raises(Fault, match="leads away to http://localhost:4000/login"):
        await client.call_tool(URL, ALICE, "echo", {})
    assert b"demo" not in b"".join(request.content for request in site.seen)


# --- the MCP endpoint


async def sent_by(method, answers):
    """What an endpoint sends by `method`, each message answered by the next of `answers`."""
    seen, waiting = [], iter(answers)

    def answer(request):
        seen.append(request)
        return next(waiting)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        reply = await getattr(Endpoint(http, URL, "t0ken"), method)("wür m", {"a": 1})
    return seen, reply


async def test_a_modern_call_mirrors_method_and_name_in_headers_and_carries_its_metadata():
    (request,), _ = await sent_by("call_modern", [httpx2.Response(202)])
    body = json.loads(request.content)
    assert request.headers["mcp-method"] == body["method"] == "tools/call"
    assert base64.b64decode(request.headers["mcp-name"][9:-2]).decode() == body["params"]["name"] == "wür m"
    assert request.headers["mcp-protocol-version"] == body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
    assert body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {}
    assert "mcp-session-id" not in request.headers


def initialized(**headers):
    result = {"protocolVersion": "2025-06-18", "capabilities": {}}
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": 0, "result": result}, headers=headers)


async def test_a_legacy_call_shakes_hands_first_and_ends_its_session():
    answers = [
        initialized(**{"mcp-session-id": "s1"}),
        httpx2.Response(202),
        httpx2.Response(200),
        httpx2.Response(405),
    ]
    seen, _ = await sent_by("call_legacy", answers)
    assert [request.method for request in seen] == ["POST", "POST", "POST", "DELETE"]
    bodies = [json.loads(request.content) for request in seen[:3]]
    assert [body["method"] for body in bodies] == ["initialize", "notifications/initialized", "tools/call"]
    assert "id" not in bodies[1]
    assert "mcp-session-id" not in seen[0].headers
    for request in seen[1:]:
        assert request.headers["mcp-session-id"] == "s1"
        assert request.headers["mcp-protocol-version"] == "2025-06-18"
        assert request.headers["authorization"] == "Bearer t0ken"


async def test_without_a_session_id_there_is_nothing_to_end():
    seen, _ = await sent_by("call_legacy", [initialized(), httpx2.Response(202), httpx2.Response(200)])
    assert len(seen) == 3
    assert "mcp-session-id" not in seen[2].headers


async def test_a_refused_handshake_is_the_answer():
    seen, reply = await sent_by("call_legacy", [httpx2.Response(503)])
    assert (len(seen), reply.status) == (1, 503)


def stream_of(*chunks):
    async def content():
        for chunk in chunks:
            yield chunk

    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return httpx2.Response(200, headers=headers, content=content(), request=httpx2.Request("POST", URL))


async def test_the_answer_is_found_in_a_stream_behind_other_messages():
    response = stream_of(
        b"id: 1\ndata:\n\n: still here\n\n",
        b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n',
        b'data: {"jsonrpc":"2.0","id":1,"method":"ping"}\n\n',
        b'data: {"jsonrpc":"2.0",\ndata: "id":1,"res',
        b'ult":{}}\r\n\r\n',
        b'data: {"jsonrpc":"2.0","id":1,"result":{"late":true}}\n\n',
    )
    assert await client.read_answer(response, 1) == {"jsonrpc": "2.0", "id": 1, "result": {}}


async def test_a_stream_that_ends_before_the_answer_is_a_fault():
    with pytest.raises(Fault, match="ended the stream"):
        await client.read_answer(stream_of(b'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n'), 1)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"x"}', b"[" * 100_000])
async def test_a_body_that_holds_no_message_is_no_answer(body):
    assert await client.read_answer(httpx2.Response(502, content=body), 1) is None


def reply(status=200, challenge=None, **message):
    return Reply(status=status, challenge=challenge or {}, message={"jsonrpc": "2.0", "id": 1, **message})


def of_text(text, **more):
    return {"content": [{"type": "text", "text": text}], **more}


@pytest.mark.parametrize(
    ("answer", "verdict", "text"),
    [
        (reply(result=of_text("hi")), Verdict.SUCCEEDED, "hi"),
        (reply(result=of_text("no", isError=True)), Verdict.FAILED, "no"),
        (reply(result=of_text("Denied: not you", isError=True)), Verdict.DENIED, "not you"),
        (reply(result=of_text("Denied: only words")), Verdict.SUCCEEDED, "Denied: only words"),
        (reply(status=400, error={"code": -32602, "message": "Unknown tool: x"}), Verdict.DENIED, "Unknown tool: x"),
        (
            reply(403, {"error": "insufficient_scope", "scope": "admin tools:call"}),
            Verdict.DENIED,
            '--scope "admin tools:call"',
        ),
    ],
)
def test_a_reply_is_judged(answer, verdict, text):
    outcome = client.outcome_of(answer)
    assert (outcome.verdict, text in outcome.text) == (verdict, True)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply(status=502), "answered 502, and no result"),
        (Reply(status=401, challenge={"error": "invalid_token"}), "401 invalid_token"),
        (Reply(status=403), "answered 403"),
        (reply(error={"code": -32602, "message": "Invalid params: x"}), "-32602: Invalid params: x"),
        (reply(error={"code": -32603, "message": "Internal error"}), "-32603"),
        (reply(result={"resultType": "input_required"}), "more input"),
        (reply(result={"content": "hi"}), "without content"),
        (reply(result={}), "without content"),
    ],
)
def test_a_reply_that_is_neither_an_outcome_nor_a_denial_is_a_fault(answer, reason):
    with pytest.raises(Fault, match=reason):
        client.outcome_of(answer)


def test_content_that_is_no_text_is_shown_as_json():
    blocks = [{"type": "text", "text": "a"}, {"type": "image", "data": "AA=="}]
    assert client.text_of({"content": blocks}) == 'a\n{"type": "image", "data": "AA=="}'


@pytest.mark.parametrize(
    ("answer", "falls_back"),
    [
        (reply(400, error={"code": -32600, "message": "unsupported"}), True),
        (reply(400, error={"code": -32022, "message": "unsupported"}), True),
        (Reply(status=404), True),
        (reply(400, error={"code": -32602, "message": "Unknown tool"}), False),
        (reply(400, error={"code": -32020, "message": "mismatch"}), False),
        (reply(200, error={"code": -32600, "message": "x"}), False),
        (Reply(status=403), False),
    ],
)
def test_only_a_server_without_modern_requests_is_called_again(answer, falls_back):
    assert client.knows_no_modern(answer) is falls_back


# --- the command


@pytest.mark.parametrize(
    ("outcome", "status", "shown"),
    [
        (Outcome(Verdict.SUCCEEDED, "two\nlines"), 0, ("two\nlines\n", "")),
        (Outcome(Verdict.SUCCEEDED, "half \ud800"), 0, ("half ?\n", "")),
        (Outcome(Verdict.DENIED, "because"), 3, ("", "denied: because\n")),
        (Outcome(Verdict.FAILED, "no\n\x1b[2Jreport"), 4, ("", "tool error: no \\u001b[2Jreport\n")),
    ],
)
def test_each_outcome_has_its_exit_status(monkeypatch, capsys, outcome, status, shown):
    async def answered(*_arguments):
        return outcome

    monkeypatch.setattr(client, "call_tool", answered)
    assert call(tool="echo", user="alice") == status
    assert capsys.readouterr() == shown


def test_a_fault_is_one_line_and_exit_status_1(monkeypatch, capsys):
    async def broken(*_arguments):
        raise Fault("nothing\nanswers")

    monkeypatch.setattr(client, "call_tool", broken)
    assert call(tool="echo", user="alice") == 1
    assert capsys.readouterr() == ("", "tenantry: nothing answers\n")


def test_no_server_is_a_fault(capsys, unused_port):
    assert call(tool="echo", user="alice", url=f"http://localhost:{unused_port}/mcp") == 1
    assert "is the server running?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--tool", "echo"], "either --tenant or --user"),
        (["--tool", "echo", "--tenant", "tenant-a", "--user", "bob"], "either --tenant or --user"),
        (["--tool", "echo", "--tenant", "tenant-c"], "tenant-a and tenant-b"),
        (["--tool", "echo", "--user", "bob", "--args", "{"], "--args is not JSON"),
        (["--tool", "echo", "--user", "bob", "--args", "[1]"], "--args must be a JSON object"),
        (["--tool", "echo", "--user", "bob", "--url", "localhost:3000"], "give an http or https URL"),
        (["--tool", "echo", "--user", "bob", "--url", "http://[::1/mcp"], "no URL"),
        (["--tool", "echo", "--user", "bob", "--url", "http://192.0.2.1/mcp"], "use https"),
        (["--tool", "echo", "--user", "bob", "--era", "old"], "modern"),
        (["--user", "bob"], "--tool"),
    ],
)
def test_bad_arguments_are_exit_status_2(capsys, words, reason):
    with pytest.raises(SystemExit) as ended:
        app(["call", *words])
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert captured.out == ""


def test_an_argument_that_is_no_unicode_text_is_refused(monkeypatch, capsys):
    Site(monkeypatch)
    assert call(tool="\udcff", user="alice", url=URL) == 2
    assert "no Unicode text" in capsys.readouterr().err


@pytest.mark.parametrize(("tenant", "user"), [("tenant-a", "alice"), ("tenant-b", "carol")])
def test_a_tenant_stands_for_its_first_user(tenant, user):
    assert user_of(tenant, None) == user


def test_arguments_are_a_json_object():
    assert parse_arguments('{"a": [1]}') == {"a": [1]}
    with pytest.raises(BadArguments):
        parse_arguments("null")
