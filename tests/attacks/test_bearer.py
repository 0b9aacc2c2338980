"""Attacks on how the resource server is shown an access token, and on what it answers to a bad one."""

import json
import re
import subprocess
import sys
import time
from urllib.parse import urlencode

from tests.attacks.forge import Forger, another_key, signed
from tests.attacks.people import Client, sign_in
from tests.attacks.speaker import Speaker, eras, legacy, modern, speaker
from tests.attacks.table import attack
from tests.attacks.target import CONFIG, Target
from tests.attacks.wire import Reply


def challenge_of(reply: Reply) -> dict[str, str]:
    """The parameters of the one Bearer challenge, read strictly (RFC 9110 section 11.6.1)."""
    (field,) = reply.all("www-authenticate")
    assert field.startswith("Bearer "), field
    rest, found = field.removeprefix("Bearer "), {}
    while rest:
        match = re.match(r'([a-z_]+)="((?:[^"\\\x00-\x1f]|\\.)*)"(?:, |$)', rest)
        assert match, rest
        found[match[1]] = re.sub(r"\\(.)", r"\1", match[2])
        rest = rest[match.end() :]
    return found


def shown(server: Target, *authorization: str, query: str = "", cookie: str | None = None) -> Reply:
    """List the tools with these Authorization fields."""
    spoken = Speaker(server, None, modern=False)
    fields = [(name, value) for name, value in spoken.fields().items() if value is not None]
    fields += [("Authorization", value) for value in authorization]
    fields += [("Cookie", cookie)] if cookie else []
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HANDSHAKE}).encode()
    return server.ask("POST", f"/mcp{query}", headers=fields, body=body)


HANDSHAKE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@attack("RS-BEARER-02")
def test_every_bad_token_is_refused_in_the_same_words(server):
    tokens = sign_in(server)
    forger = Forger(server, tokens.access)
    now = int(time.time())
    bad = {
        "expired": forger.token(claims={"iat": now - 900, "exp": now - 300}),
        "forged": signed(forger.header, forger.claims, another_key()),
        "of another audience": forger.token(claims={"aud": "https://evil.example/mcp"}),
        "no token at all": "abc",
    }
    assert shown(server, f"Bearer {tokens.access}").status == 200
    assert {shown(server, f"Bearer {token}").status for token in bad.values()} == {401}
    assert tokens.client.revoke(tokens.refresh).status == 200
    bad["revoked"] = tokens.access
    replies = {name: shown(server, f"Bearer {token}") for name, token in bad.items()}
    assert {reply.status for reply in replies.values()} == {401}
    assert len({reply.body for reply in replies.values()}) == 1
    assert len({reply.header("www-authenticate") for reply in replies.values()}) == 1
    assert challenge_of(replies["forged"])["error"] == "invalid_token"
    assert "error" not in challenge_of(shown(server))


@attack("RS-BEARER-03")
def test_a_missing_scope_is_named_with_all_others_that_the_tool_needs(server):
    before = len(server.records("tool_call", tool="purge"))
    tokens = sign_in(server, "alice", scope="tools:call")
    for spoken in eras(server, tokens.access):
        reply = spoken.call("purge")
        assert reply.status == 403, reply
        challenge = challenge_of(reply)
        assert challenge["error"] == "insufficient_scope"
        assert set(challenge["scope"].split()) == {"tools:call", "admin"}
        assert challenge["resource_metadata"] == f"{server.issuer}/.well-known/oauth-protected-resource/mcp"
    assert len(server.records("tool_call", tool="purge")) == before
    assert server.records("tool_denied", tool="purge", subject="alice", reason="insufficient_scope")
    full = sign_in(server, "alice", scope="tools:call admin")
    assert speaker(server, full.access).call("purge").status == 200


@attack("RS-BEARER-04")
def test_a_token_elsewhere_than_in_its_header_is_no_token(server):
    access = sign_in(server).access
    query = "?" + urlencode({"access_token": access})
    assert shown(server, query=query).status == 401
    assert shown(server, cookie=f"access_token={access}").status == 401
    assert shown(server, f"Bearer {access}", query=query).status == 400
    form = urlencode({"access_token": access}).encode()
    reply = server.ask("POST", "/mcp", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=form)
    assert reply.status == 401
    assert server.ask("GET", f"/mcp/{access}").status == 404
    assert server.ask("GET", f"/authorize?access_token={access}").status == 400
    for scheme in ("Basic", "DPoP", "Token", ""):
        assert shown(server, f"{scheme} {access}").status == 401


@attack("RS-BEARER-05")
def test_two_tokens_are_one_too_many(server):
    one, two = sign_in(server).access, sign_in(server).access
    for fields in (
        (f"Bearer {one}", f"Bearer {one}"),
        (f"Bearer {one}", f"Bearer {two}"),
        (f"Bearer {two}", "Basic YTpi"),
        (f"Bearer {one}, Bearer {two}",),
        (f"Bearer {one},{two}",),
        (f"Bearer {one} {two}",),
        (f"Bearer {one}\t{two}",),
    ):
        assert shown(server, *fields).status == 400, fields
    for field in (f"bearer {one}", f"BEARER {one}", f"Bearer  {one}"):
        assert shown(server, field).status == 200, field


@attack("RS-BEARER-07", modes=("dual",))
def test_no_configuration_breaks_out_of_a_challenge(start, mode, tmp_path):
    strange = "a,b=c;d(e)<f>"

    def needed(text: str) -> str:
        named = text.replace("[scopes]\n", f'[scopes]\n"{strange}" = "Strange"\n', 1)
        return named.replace('pause = { scopes = ["tools:call"]', f'pause = {{ scopes = ["{strange}"]', 1)

    server = start(mode, edit=needed)
    challenge = challenge_of(shown(server))
    assert strange in challenge["scope"].split()
    assert set(challenge) == {"scope", "resource_metadata"}
    for name in ('x"y', "x\\\\y", "x\\r\\ny", "x y"):
        path = tmp_path / "bad.toml"
        quoted = '"' + name.replace('"', '\\"') + '"'
        path.write_text(CONFIG.read_text().replace("[scopes]\n", f'[scopes]\n{quoted} = "Bad"\n', 1))
        command = [sys.executable, "-m", "tenantry", "serve", "--config", str(path), "--port", "0"]
        tried = subprocess.run(
            [*command, "--data", str(tmp_path / "data")], capture_output=True, text=True, check=False, timeout=20
        )
        assert tried.returncode == 2, (name, tried)
        assert "scopes" in tried.stderr


@attack("RS-BEARER-08")
def test_every_request_of_a_session_needs_its_token(server):
    tokens = sign_in(server)
    spoken = legacy(server, tokens.access)
    stranger = Speaker(server, None, modern=False, session=spoken.session)
    assert stranger.ask("tools/list").status == 401
    assert stranger.call("own_secret").status == 401
    assert stranger.end().status == 401
    with stranger.listen() as stream:
        assert stream.status == 401
    server.shift(tokens.answer["expires_in"] + 10)
    assert spoken.ask("tools/list").status == 401
    server.shift(0)
    assert spoken.ask("tools/list").status == 200


@attack("RS-BEARER-08")
def test_an_open_stream_ends_with_its_token(server):
    tokens = sign_in(server, "bob")
    streams = []
    if server.sessions:
        session = legacy(server, tokens.access)
        server.shift(tokens.answer["expires_in"] + 5 - 2)
        streams.append(session.listen())
    if server.modern:
        server.shift(tokens.answer["expires_in"] + 5 - 2)
        notifications = {"notifications": {"toolsListChanged": True}}
        streams.append(modern(server, tokens.access).stream("subscriptions/listen", notifications))
    for stream in streams:
        with stream:
            assert stream.status == 200
            assert list(stream.rest(within_s=8.0)) is not None  # the end comes; without it reading times out


@attack("RS-BEARER-09")
def test_a_stolen_token_is_short_lived_and_dies_with_its_family(server):
    client = Client.new(server)
    tokens = client.sign_in()
    assert tokens.answer["expires_in"] <= 600

    def stolen() -> int | None:
        spoken = Speaker(server, tokens.access, modern=False)
        fields = {name: value for name, value in spoken.fields().items() if value is not None}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HANDSHAKE}).encode()
        reply: Reply = server.ask("POST", "/mcp", headers=fields, body=body, source="127.0.0.9")
        return reply.status

    assert stolen() == 200  # the documented limit: a bearer token is good from anywhere
    assert client.revoke(tokens.access).status == 200
    assert stolen() == 401
    later = client.sign_in()
    assert shown(server, f"Bearer {later.access}").status == 200
    server.shift(later.answer["expires_in"] + 6)
    assert shown(server, f"Bearer {later.access}").status == 401
