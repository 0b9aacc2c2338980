"""Attacks on refresh tokens, on revocation, and on the token endpoint's manners."""

import json
import os
import re
import signal
from urllib.parse import urlencode

from tests.attacks.forge import parts_of
from tests.attacks.people import Client, posted_forms, sign_in
from tests.attacks.speaker import speaker
from tests.attacks.table import attack
from tests.attacks.target import FORM, Target, tenantry
from tests.attacks.test_bearer import shown
from tests.attacks.wire import eventually
from tests.http_client import all_at_once

INVALID_GRANT = (400, "invalid_grant")
DAY = 86_400


def is_live(server: Target, access: str) -> bool:
    return shown(server, f"Bearer {access}").status == 200


@attack("O-REFRESH-02")
def test_many_refreshes_at_once_have_one_successor(server, longer):
    for _ in range(longer(2, 200)):
        tokens = sign_in(server)
        form = {"grant_type": "refresh_token", "client_id": tokens.client.client_id, "refresh_token": tokens.refresh}
        answers = all_at_once(server.issuer, "/token", urlencode(form), 64)
        good = [answer.json for answer in answers if answer.status == 200]
        server.keep_secret(*(value for answer in good for value in (answer["access_token"], answer["refresh_token"])))
        assert good
        assert {answer.status for answer in answers} <= {200, 400}
        assert len({answer["refresh_token"] for answer in good}) == 1  # within the grace the same one again
        assert len({parts_of(answer["access_token"])[1]["family"] for answer in good}) == 1
        later = tokens.client.tokens(tokens.client.refresh(good[0]["refresh_token"]))
        assert is_live(server, later.access)
    ((families, unrotated),) = server.stored(
        "SELECT count(DISTINCT family_id), count(*) FROM refresh_token WHERE rotated_at IS NULL"
    )
    assert families == unrotated  # no family has two ends


@attack("O-REFRESH-03")
def test_a_refresh_token_is_of_no_use_to_another_client(server):
    tokens, thief = sign_in(server), Client.new(server)
    assert thief.refresh(tokens.refresh).error == INVALID_GRANT
    assert thief.refresh(tokens.refresh, client_id=None).status == 400
    assert thief.refresh(tokens.refresh, client_id="x" * 43).error[0] in (400, 401)
    assert is_live(server, tokens.client.tokens(tokens.client.refresh(tokens.refresh)).access)


@attack("O-REFRESH-04")
def test_a_refresh_never_widens_what_was_granted(server):
    client = Client.new(server)
    tokens = client.sign_in("alice", scope="tools:call")
    for scope in ("tools:call admin", "admin", "other", "tools:call other", "tools:call  admin"):
        assert client.refresh(tokens.refresh, scope=scope).error == (400, "invalid_scope"), scope
    for resource in ("https://other.example/mcp", server.issuer, server.resource + "/x", server.resource + "?a"):
        assert client.refresh(tokens.refresh, resource=resource).error == (400, "invalid_target"), resource
    full = client.sign_in("alice", scope="tools:call admin", prompt="consent")
    narrow = client.tokens(client.refresh(full.refresh, scope="tools:call"))
    assert narrow.scope == "tools:call"
    assert speaker(server, narrow.access).call("purge").status == 403
    assert client.tokens(client.refresh(narrow.refresh)).scope == "tools:call admin"


@attack("O-REFRESH-06")
def test_who_is_taken_out_of_the_directory_gets_no_further(start, mode):
    server = start(mode)
    config = server.running.data.parent / "server.toml"
    gone, moved, tenant = sign_in(server, "bob"), sign_in(server, "erin"), sign_in(server, "carol")
    text = config.read_text()
    text = re.sub(r"\[users\.bob\]\n(.+\n)+", "", text)
    text = text.replace('[users.erin]\ntenant = "acme"', '[users.erin]\ntenant = "globex"')
    config.write_text(text)
    os.kill(server.running.process.pid, signal.SIGHUP)
    assert eventually(lambda: not is_live(server, gone.access))
    for tokens in (gone, moved):
        assert tokens.client.refresh(tokens.refresh).error == INVALID_GRANT
        assert not is_live(server, tokens.access)
    assert is_live(server, tenant.access)
    text = re.sub(r"\[users\.(carol|dave|erin)\]\n(.+\n)+", "", text)
    config.write_text(re.sub(r"\[tenants\.globex\]\n(.+\n)+", "", text))
    os.kill(server.running.process.pid, signal.SIGHUP)
    assert eventually(lambda: not is_live(server, tenant.access))
    assert tenant.client.refresh(tenant.refresh).error == INVALID_GRANT


@attack("O-REFRESH-06")
def test_who_is_disabled_by_command_or_takes_a_consent_back_gets_no_further(start, mode):
    server = start(mode)
    disabled, withdrawn = sign_in(server, "bob"), sign_in(server, "alice")
    done = tenantry("users", "disable", "bob", "--data", str(server.running.data))
    assert done.returncode == 0, done
    assert not is_live(server, disabled.access)
    assert disabled.client.refresh(disabled.refresh).error == INVALID_GRANT
    page = disabled.client.browser.get(disabled.client.authorization())
    assert disabled.client.browser.log_in(page, "bob").status == 403
    browser = withdrawn.client.browser
    account = browser.get("/account")
    form = next(form for form in posted_forms(account) if "sealed" in form.hidden and form.action == "/account")
    assert browser.post("/account", {**form.hidden, **form.buttons}).status == 303
    assert not is_live(server, withdrawn.access)
    assert withdrawn.client.refresh(withdrawn.refresh).error == INVALID_GRANT


@attack("O-REFRESH-07")
def test_a_refresh_token_ends_when_idle_and_when_old(server):
    client = Client.new(server)
    tokens = client.sign_in()
    server.shift(14 * DAY - 60)
    kept = client.tokens(client.refresh(tokens.refresh))
    server.shift(28 * DAY)
    assert client.refresh(kept.refresh).error == INVALID_GRANT
    server.shift(0)
    tokens = client.sign_in()
    for day in range(12, 90, 12):
        server.shift(day * DAY)
        tokens = client.tokens(client.refresh(tokens.refresh))
    server.shift(90 * DAY + 1)
    assert client.refresh(tokens.refresh).error == INVALID_GRANT


@attack("O-REFRESH-08")
def test_a_lost_answer_may_be_asked_for_again_and_a_late_copy_ends_the_family(server):
    client = Client.new(server)
    tokens = client.sign_in()
    first = client.tokens(client.refresh(tokens.refresh))
    again = client.tokens(client.refresh(tokens.refresh))
    assert again.refresh == first.refresh  # the identical successor: no second branch
    server.shift(60)
    assert client.tokens(client.refresh(tokens.refresh)).refresh == first.refresh
    server.shift(121)
    assert client.refresh(tokens.refresh).error == INVALID_GRANT
    server.shift(0)
    assert client.refresh(first.refresh).error == INVALID_GRANT
    assert not is_live(server, first.access)
    assert not is_live(server, again.access)
    assert server.records("refresh_reused", client=client.client_id)


@attack("O-REFRESH-10")
def test_nobody_revokes_what_is_another_clients(server):
    victim, thief = sign_in(server), Client.new(server)
    replies = [
        thief.revoke(token, **more)
        for token in (victim.access, victim.refresh, "unknown", "a.b.c")
        for more in ({}, {"token_type_hint": "refresh_token"}, {"token_type_hint": "nonsense"})
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"")}
    assert is_live(server, victim.access)
    assert thief.revoke(victim.access, client_id="x" * 43).error == (401, "invalid_client")
    assert thief.revoke(victim.access, client_id=None).status in (400, 401)
    assert server.ask("GET", f"/revoke?token={victim.refresh}&client_id={victim.client.client_id}").status == 405
    assert is_live(server, victim.access)
    # The wrong hint does not keep the owner from it.
    assert victim.client.revoke(victim.refresh, token_type_hint="access_token").status == 200
    assert not is_live(server, victim.access)
    assert victim.client.refresh(victim.refresh).error == INVALID_GRANT


@attack("O-REFRESH-11")
def test_a_revoked_access_token_is_refused_at_once_and_ever_after(server):
    for which in ("access", "refresh"):
        tokens = sign_in(server)
        assert is_live(server, tokens.access)  # known to the resource server, which must not go by that
        assert tokens.client.revoke(getattr(tokens, which)).status == 200
        assert not is_live(server, tokens.access)
        server.shift(1)
        assert not is_live(server, tokens.access)
        server.shift(tokens.answer["expires_in"] - 5)
        assert not is_live(server, tokens.access)
        server.shift(0)


# --- the token endpoint


@attack("O-TOKEN-01")
def test_only_a_posted_form_is_a_token_request(server):
    client = Client.new(server)
    form = {"grant_type": "authorization_code", "client_id": client.client_id, "code": client.code()}
    form |= {"code_verifier": client.verifier, "redirect_uri": client.redirect_uri}
    encoded = urlencode(form).encode()
    boundary = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in form.items()
    )
    for kind, body in (
        ("application/json", json.dumps(form).encode()),
        ("application/json", encoded),
        ("multipart/form-data; boundary=b", boundary + b"--b--\r\n"),
        (f"{FORM}; charset=utf-16", urlencode(form).encode("utf-16")),
        ("text/plain", encoded),
        ("", encoded),
    ):
        reply = server.ask("POST", "/token", headers={"Content-Type": kind}, body=body)
        assert reply.status in (400, 415), (kind, reply)
        assert reply.json["error"] == "invalid_request"
    query = encoded.decode()
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        reply = server.ask(method, f"/token?{query}", headers={"Content-Type": FORM}, body=encoded)
        assert reply.status == 405, method
        assert b"access_token" not in reply.body
    assert server.ask("POST", f"/token?{query}", headers={"Content-Type": FORM}, body=b"").status == 400
    assert client.token(**form).status == 200


@attack("O-TOKEN-02")
def test_a_token_request_that_says_a_thing_twice_is_refused(server):
    tokens, other = sign_in(server), Client.new(server)
    form = [("grant_type", "refresh_token"), ("client_id", tokens.client.client_id), ("refresh_token", tokens.refresh)]
    for pair in (
        ("grant_type", "refresh_token"),
        ("grant_type", "authorization_code"),
        ("client_id", tokens.client.client_id),
        ("client_id", other.client_id),
        ("refresh_token", "x"),
        ("unknown", "1"),
    ):
        more = [pair] if pair[0] in dict(form) else [pair, pair]
        assert server.form("/token", [*form, *more]).error == (400, "invalid_request"), pair
        assert server.form("/token", [*more, *form]).error == (400, "invalid_request"), pair
    assert tokens.client.refresh(tokens.refresh).status == 200


@attack("O-TOKEN-03")
def test_grants_that_are_no_longer_good_practice_are_not_given(server):
    client = Client.new(server)
    for grant in (
        "password",
        "implicit",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:device_code",
        "Authorization_Code",
    ):
        reply = client.token(
            grant_type=grant, username="alice", password="canary-password-of-alice", scope="tools:call"
        )
        assert reply.error == (400, "unsupported_grant_type"), grant
    reply = client.token(grant_type="client_credentials", scope="tools:call")
    assert reply.status in (400, 401)
    assert reply.json["error"] in ("unauthorized_client", "unsupported_grant_type")
    for kind in ("token", "id_token", "code token", "none", "code id_token"):
        reply = client.browser.get(client.authorization(response_type=kind))
        location = reply.header("location") or ""
        assert "error=unsupported_response_type" in location
        assert "#" not in location
    supported = server.ask("GET", "/.well-known/oauth-authorization-server").json
    assert supported["response_types_supported"] == ["code"]
    assert not {"implicit", "password"} & set(supported["grant_types_supported"])


@attack("O-TOKEN-06")
def test_nothing_of_the_token_endpoint_may_be_kept(server):
    client = Client.new(server)
    tokens = client.sign_in()
    replies = [
        client.refresh(tokens.refresh),
        client.refresh("unknown"),
        client.token(grant_type="password"),
        client.token(),
        client.refresh(tokens.refresh, client_id="x" * 43),
        client.revoke(tokens.refresh),
        client.revoke("x", client_id="x" * 43),
        server.register(),
        server.register(redirect_uris=[]),
        server.ask("POST", "/token", headers={"Content-Type": "text/plain"}, body=b"x"),
    ]
    for reply in replies:
        assert "no-store" in (reply.header("cache-control") or ""), reply


@attack("O-TOKEN-07")
def test_an_error_repeats_nothing_and_keeps_to_its_letters(server):
    client = Client.new(server)
    canary = "canary-of-an-error-0123456789"
    server.keep_secret(canary)
    for body in (
        {"grant_type": canary},
        {"grant_type": "authorization_code", "code": canary, "code_verifier": canary, "client_id": canary},
        {"grant_type": "authorization_code", "code": canary, "code_verifier": canary, "client_id": client.client_id},
        {"grant_type": "refresh_token", "refresh_token": canary, "client_id": client.client_id, "scope": canary},
        {"grant_type": '"\\\r\n\u00e9', "client_id": '"><script>'},
        {"grant_type": "authorization_code", "code": "\ud800", "client_id": client.client_id},
        {"grant_type": "authorization_code", "code": "\u00e9\U0001f511", "client_id": client.client_id},
        {"grant_type": "refresh_token", "refresh_token": "\u00e9\U0001f511", "client_id": client.client_id},
        {canary: canary},
        {f"p{n}": "x" for n in range(100)},
    ):
        sent = urlencode(body, errors="surrogatepass").encode()
        for path in ("/token", "/revoke"):
            reply = server.ask("POST", path, headers={"Content-Type": FORM}, body=sent)
            assert reply.status in (400, 401), (body, reply)
            assert set(reply.json) <= {"error", "error_description", "error_uri"}
            for text in reply.json.values():
                assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", text), text
            assert canary not in reply.text
            assert "Traceback" not in reply.text
            assert "<script" not in reply.text
    for raw in (b"%", b"%zz=%ff", b"\xff\xfe", b"=&=&=", b"&" * 5000, b"a" * 17_000):
        reply = server.ask("POST", "/token", headers={"Content-Type": FORM}, body=raw)
        assert reply.status in (400, 413), raw[:9]
        assert reply.json["error"] == "invalid_request"
    bad = server.register(client_name=canary + "\u202e", redirect_uris=[f"javascript:{canary}"])
    assert canary not in bad.text
    assert server.faults() == []


@attack("O-TOKEN-09")
def test_no_page_of_another_site_reads_a_token(server):
    client = Client.new(server)
    code = client.code()
    form = {"grant_type": "authorization_code", "client_id": client.client_id, "code": code}
    form |= {"code_verifier": client.verifier, "redirect_uri": client.redirect_uri}
    for origin in ("https://evil.example", "null"):
        reply = server.form("/token", form, headers={"Origin": origin, "Cookie": "a=b"})
        assert reply.status == 403
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        for path in ("/token", "/register", "/revoke", "/mcp"):
            asked = server.ask("OPTIONS", path, headers=preflight)
            assert asked.status == 403
            for answered in (reply, asked):
                assert answered.header("access-control-allow-credentials") is None
                assert answered.header("access-control-allow-origin") is None
    assert client.redeem(code).status == 200
