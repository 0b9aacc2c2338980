"""Attacks on where an answer goes, and on the documents by which clients find their way."""

import re

import pytest

from tests.attacks.people import Client, answer_of, forms_of
from tests.attacks.table import attack
from tests.attacks.wire import Reply

WEB = "https://app.example/cb"
METADATA = "/.well-known/oauth-authorization-server"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource/mcp"


def stays(reply: Reply) -> bool:
    """Whether the answer is a page of ours that leads nowhere."""
    return (
        reply.status == 400
        and reply.header("location") is None
        and (reply.header("content-type") or "").startswith("text/html")
        and b"<form" not in reply.body
    )


@attack("O-REDIRECT-01")
def test_only_the_registered_address_to_the_letter_gets_an_answer(server):
    client = Client.new(server, redirect_uris=[WEB])
    for uri in (
        "https://app.example/cB",
        "https://app.example/cb/",
        "https://app.example/c",
        "https://app.example/cbx",
        "https://APP.example/cb",
        "HTTPS://app.example/cb",
        "https://app.example/cb?x=1",
        "https://app.example/cb?",
        "https://app.example/cb#x",
        "https://app.example:443/cb",
        "https://app.example:8443/cb",
        "https://user@app.example/cb",
        "https://app.example@evil.example/cb",
        "https://app.example/%63b",
        "https://app.example/x/../cb",
        "https://app.example//cb",
        "https://app.example\\@evil.example/cb",
        "https://app.example.evil.example/cb",
        "http://app.example/cb",
        "https://app.example/cb\n",
        " https://app.example/cb",
        "//app.example/cb",
    ):
        reply = client.browser.get(client.authorization(redirect_uri=uri))
        assert stays(reply), uri
        assert uri not in reply.text
    assert "/login" in forms_of(client.browser.get(client.authorization(redirect_uri=WEB)))


@attack("O-REDIRECT-02")
def test_a_program_on_this_machine_may_listen_on_any_port_and_on_its_own_path_alone(server):
    for host in ("127.0.0.1", "[::1]", "localhost"):
        client = Client.new(server, redirect_uris=[f"http://{host}/cb"])
        for port in (":51234", ":1", ":65535", ""):
            uri = f"http://{host}{port}/cb"
            assert "/login" in forms_of(client.browser.get(client.authorization(redirect_uri=uri))), uri
        for tail in (":51234/other", ":51234/cb/", ":51234", ":51234/cb?x=1", ":0/cb", ":65536/cb", ":x/cb", ":/cb"):
            assert stays(client.browser.get(client.authorization(redirect_uri=f"http://{host}{tail}"))), tail
    client = Client.new(server, redirect_uris=["http://127.0.0.1/cb"])
    answer = client.authorize(redirect_uri="http://127.0.0.1:51234/cb")
    assert (answer.header("location") or "").startswith("http://127.0.0.1:51234/cb?")
    client.redirect_uri = "http://127.0.0.1:51234/cb"
    code = answer_of(answer)["code"]
    server.keep_secret(code)
    assert client.redeem(code, redirect_uri="http://127.0.0.1:51235/cb").error == (400, "invalid_grant")
    assert client.redeem(code).status == 200


@attack("O-REDIRECT-03")
def test_what_only_means_this_machine_is_not_this_machine(server):
    client = Client.new(server, redirect_uris=["http://127.0.0.1/cb"])
    for uri in (
        "http://localhost/cb",
        "http://localhost:5000/cb",
        "http://[::1]/cb",
        "https://127.0.0.1/cb",
        "https://127.0.0.1:5000/cb",
        "http://127.0.0.1.evil.example/cb",
        "http://127.1/cb",
        "http://127.1:5000/cb",
        "http://0x7f.1/cb",
        "http://2130706433/cb",
        "http://0.0.0.0/cb",
        "http://127.0.0.2/cb",
        "http://127.0.0.1:5000@evil.example/cb",
        "http://127.0.0.1%2eevil.example/cb",
        "http://[::ffff:127.0.0.1]/cb",
    ):
        assert stays(client.browser.get(client.authorization(redirect_uri=uri))), uri
        if not uri.startswith(("http://localhost", "http://[::1]/", "https://")):
            assert server.register(redirect_uris=[uri]).error == (400, "invalid_redirect_uri"), uri


@attack("O-REDIRECT-04")
def test_a_bad_address_and_a_bad_client_are_told_on_the_same_page(server):
    client = Client.new(server, redirect_uris=[WEB])
    bad_uri = client.browser.get(client.authorization(redirect_uri="https://evil.example/cb"))
    bad_client = client.browser.get(client.authorization(client_id="x" * 43, redirect_uri="https://evil.example/cb"))
    no_client = client.browser.get(client.authorization(client_id=None))
    assert stays(bad_uri)
    plain = [re.sub(r"nonce(-|=\")[^\"']+", "", reply.text) for reply in (bad_uri, bad_client, no_client)]
    assert plain[0] == plain[1] == plain[2]
    for reply in (bad_uri, bad_client, no_client):
        assert stays(reply)
        assert "evil.example" not in reply.text + str(reply.fields)


@attack("O-REDIRECT-05")
def test_no_link_carries_people_to_the_site_of_a_registered_stranger_by_itself(server):
    client = Client.new(server, redirect_uris=["https://phishing.example/cb"])
    for changes in (
        {"scope": "nothing-of-ours"},
        {"prompt": "none"},
        {"response_type": "token"},
        {"code_challenge": None},
        {"resource": "https://other.example"},
        {"prompt": "none login"},
        {"request": "x"},
    ):
        reply = client.browser.get(client.authorization(**changes))
        assert reply.header("location") is None, changes
        assert reply.status in (200, 400)
        assert "http-equiv" not in reply.text
        assert "<script" not in reply.text
    # Nor once the person has logged in: the scope falls away only then, and still the person decides.
    page = client.consent_page("alice")
    assert "/consent" in forms_of(page)
    reply = client.browser.get(client.authorization(scope="nothing-of-ours"))
    assert reply.header("location") is None


@attack("O-REDIRECT-06")
def test_what_a_person_typed_is_not_sent_on(server):
    client = Client.new(server)
    page = client.browser.get(client.authorization())
    answer = client.browser.log_in(page, "alice")
    assert answer.status == 303
    consent = client.browser.get(answer.header("location") or "")
    assert client.browser.decide(consent).status == 303
    assert client.authorize("alice", decision="deny").status == 303
    assert client.browser.get(client.authorization(prompt="none", response_type="token")).status == 303


@attack("O-REDIRECT-08")
def test_plain_http_to_elsewhere_can_not_be_registered(server):
    before = server.stored("SELECT count(*) FROM client")
    for uri in (
        "http://app.example/cb",
        "http://192.0.2.1/cb",
        "http://localhost.evil.example/cb",
        "HTTP://app.example/",
    ):
        for others in ([], [WEB]):
            assert server.register(redirect_uris=[*others, uri]).error == (400, "invalid_redirect_uri"), uri
    assert server.stored("SELECT count(*) FROM client") == before


@attack("O-REDIRECT-10")
@pytest.mark.parametrize(
    "state", ["s", "a&b=c#d", "\u00e4\u4e2d\U0001f600", "%00%0d%0aX: y", "a\0b", "a\r\nb", "x" * 4096]
)
def test_a_state_comes_back_as_it_was_sent(server, state):
    client = Client.new(server)
    assert answer_of(client.authorize(state=state))["state"] == state
    refused = client.browser.get(client.authorization(state=state, response_type="token"))
    assert answer_of(refused)["state"] == state
    assert len(refused.all("location")) == 1
    assert "#" not in (refused.header("location") or "")


@attack("O-REDIRECT-10")
def test_a_state_that_is_missing_stays_missing_and_one_too_long_is_refused(server):
    client = Client.new(server)
    assert "state" not in answer_of(client.authorize(state=None))
    reply = client.browser.get(client.authorization(state="x" * 4097))
    assert reply.status == 400
    assert reply.header("location") is None


# --- the documents


@attack("O-METADATA-01")
def test_every_answer_says_who_gave_it(server):
    client = Client.new(server)
    assert answer_of(client.authorize())["iss"] == server.issuer
    assert answer_of(client.authorize(decision="deny", prompt="consent"))["iss"] == server.issuer
    for changes in ({"response_type": "token"}, {"code_challenge": None}, {"scope": "x" * 5000}):
        assert answer_of(client.browser.get(client.authorization(**changes)))["iss"] == server.issuer, changes
    metadata = server.ask("GET", METADATA).json
    assert metadata["issuer"] == server.issuer
    assert metadata["authorization_response_iss_parameter_supported"] is True


@attack("O-METADATA-03")
def test_no_header_changes_what_the_documents_say(server):
    paths = (METADATA, RESOURCE_METADATA, "/jwks")
    plain = {path: server.ask("GET", path).body for path in paths}
    for headers in (
        {"X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"},
        {"Forwarded": "host=evil.example;proto=https"},
        {"X-Original-Host": "evil.example", "X-Host": "evil.example"},
        {"Host": f"127.0.0.1:{server.port}"},
    ):
        for path, body in plain.items():
            assert server.ask("GET", path, headers=headers).body == body, headers
        challenge = server.ask("POST", "/mcp", headers=headers, body=b"{}").header("www-authenticate")
        assert "evil" not in str(challenge)
        assert f'"{server.issuer}/' in str(challenge)
    for path in paths:
        assert server.ask("GET", path, headers={"Host": "evil.example"}).status == 403


@attack("O-METADATA-04")
def test_the_resources_document_is_at_its_own_place_and_names_it_to_the_letter(server):
    assert server.ask("GET", RESOURCE_METADATA).json["resource"] == server.resource
    for path in ("", "/", "/mcp/", "/MCP", "/mcp/x", "/tenant-x/mcp", "/acme", "/mcp%2f", "/%6dcp"):
        reply = server.ask("GET", f"/.well-known/oauth-protected-resource{path}")
        if reply.status == 200:  # where it is served besides, it must not name another resource
            assert reply.json["resource"] == server.resource, path
            assert path == ""
        else:
            assert reply.status == 404, path
    for path in ("/acme", "/mcp", "/tenant-x"):
        assert server.ask("GET", METADATA + path).status == 404


@attack("O-METADATA-05")
def test_the_documents_may_be_kept_and_hold_no_secret(server):
    for path in (METADATA, RESOURCE_METADATA, "/jwks"):
        reply = server.ask("GET", path)
        assert re.search(r"max-age=\d+", reply.header("cache-control") or ""), path
        assert len(reply.body) < 8192
        assert reply.all("set-cookie") == []
        assert reply.header("access-control-allow-credentials") is None
        assert reply.header("access-control-allow-origin") in (None, "*")
        again = server.ask("GET", path, headers={"If-None-Match": reply.header("etag")})
        assert (again.status, again.body) == (304, b"")
    keys = server.ask("GET", "/jwks").json["keys"]
    assert keys
    for key in keys:
        assert set(key) <= {"kty", "crv", "x", "y", "kid", "use", "alg"}
