"""Attacks on the registration of clients."""

import json
import socket

import pytest

from tests.attacks.people import Client
from tests.attacks.table import attack
from tests.attacks.target import Target
from tests.attacks.wire import Reply

WEB = "https://app.example/cb"
ADDRESSES = ("logo_uri", "client_uri", "policy_uri", "tos_uri", "jwks_uri")


def clients(server: Target) -> int:
    ((count,),) = server.stored("SELECT count(*) FROM client")
    return int(count)


def post(server: Target, body: bytes) -> Reply:
    return server.ask("POST", "/register", headers={"Content-Type": "application/json"}, body=body)


@attack("DCR-01")
def test_an_address_that_no_answer_should_go_to_can_not_be_registered(server):
    before = clients(server)
    for uris in (
        ["javascript:alert(1)"],
        ["data:text/html,x"],
        ["file:///etc/passwd"],
        ["http://app.example/cb"],
        ["https://app.example/cb#fragment"],
        ["https://app.example/cb#"],
        ["https://*.example/cb"],
        ["https://user@app.example/cb"],
        ["https://user:pass@app.example/cb"],
        ["https://app.example\\@evil.example/"],
        ["https://\u00e4pp.example/cb"],
        ["https://app.example/c b"],
        ["https://app.example/\r\nX: y"],
        ["https:///cb"],
        ["https:app.example"],
        ["//app.example/cb"],
        ["/cb"],
        [""],
        ["https://app.example:99999/"],
        [f"https://app.example/{'x' * 2048}"],
        [f"https://app.example/{n}" for n in range(11)],
        [],
        WEB,
        None,
        {"0": WEB},
        [7],
        [[WEB]],
        [None],
        [WEB, "javascript:alert(1)"],
    ):
        assert server.register(redirect_uris=uris).error == (400, "invalid_redirect_uri"), uris
    reply = post(server, b'{"client_name": "none"}')
    assert reply.error == (400, "invalid_redirect_uri")
    assert clients(server) == before
    assert server.register(redirect_uris=[f"https://app.example/{n}" for n in range(10)]).status == 201


@attack("DCR-03")
def test_the_addresses_of_a_client_are_neither_asked_nor_shown(server):
    for bad in ("file:///etc/passwd", "gopher://x/", "javascript:alert(1)", "data:,x", "ftp://x/", "http://", "//x"):
        for name in ADDRESSES:
            assert server.register(**{name: bad}).error == (400, "invalid_client_metadata"), (name, bad)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/canary.png"
        for address in (url, "http://169.254.169.254/latest/meta-data"):
            client = Client.new(server, **dict.fromkeys(ADDRESSES, address))
            pages = [client.browser.get(client.authorization()), client.consent_page("alice")]
            client.code("alice", prompt="consent")
            pages.append(client.browser.get("/account"))
            assert all(address not in page.text for page in pages)
        with pytest.raises(TimeoutError):
            trap.accept()


@attack("DCR-04")
def test_a_registration_is_small_and_flat_and_keeps_what_is_known_alone(server):
    before = clients(server)
    good = {"redirect_uris": [WEB], "client_name": "small"}
    big = json.dumps({**good, "filler": "x" * 1024 * 1024}).encode()
    assert post(server, big).status == 413
    assert post(server, json.dumps({**good, "filler": "x" * 70_000}).encode()).status == 413
    for body in (
        b'{"redirect_uris": ["https://app.example/cb"], "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"redirect_uris": ["https://app.example/cb"], "x": ' + b"[" * 20 + b"]" * 20 + b"}",
        b'{"redirect_uris": ["https://app.example/cb"], "redirect_uris": ["https://evil.example/cb"]}',
        b'{"redirect_uris": ["https://app.example/cb"], "x": NaN}',
        b'{"redirect_uris": ["https://app.example/cb"], "x": 1e999}',
        b'{"redirect_uris": ["https://app.example/cb"], "client_name": "\\ud800"}',
        b'["redirect_uris"]',
        b"\xff",
        b"",
    ):
        assert post(server, body).status == 400, body[:60]
    assert clients(server) == before
    many = {**good, **{f"m{n}": n for n in range(4000)}, "client_id": "mine", "client_secret": "canary-of-mine"}
    answer = post(server, json.dumps(many).encode())
    assert answer.status == 201
    assert "m1" not in answer.json
    assert answer.json["client_id"] != "mine"
    assert "client_secret" not in answer.json
    ((kept,),) = server.stored(f"SELECT metadata FROM client WHERE client_id = '{answer.json['client_id']}'")
    assert len(kept) < 2048
    assert "m1" not in kept
    server.keep_secret("canary-of-mine")


@attack("DCR-06")
def test_no_registration_reaches_beyond_what_the_server_gives(server):
    answer = server.register(
        scope="tools:call root *", grant_types=["authorization_code", "client_credentials", "implicit"]
    )
    assert answer.status == 201
    assert set(answer.json["scope"].split()) <= {"tools:call", "admin"}
    assert set(answer.json["grant_types"]) <= {"authorization_code", "refresh_token"}
    refused: list[dict[str, object]] = [
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["implicit"]},
        {"grant_types": ["password", "urn:ietf:params:oauth:grant-type:jwt-bearer"]},
        {"grant_types": []},
        {"response_types": ["token"]},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"token_endpoint_auth_method": "nonsense"},
    ]
    for metadata in refused:
        assert server.register(**metadata).error == (400, "invalid_client_metadata"), metadata
    client = Client(server, answer.json["client_id"])
    assert client.token(grant_type="client_credentials", scope="tools:call").status in (400, 401)
    # What was registered grants nothing by itself: bob gets what bob has.
    assert client.sign_in("bob", scope="tools:call admin root").scope == "tools:call"


@attack("DCR-07")
def test_there_is_no_way_to_read_or_change_a_registration(server):
    mine, other = server.register(), server.register(client_name="Somebody else")
    assert not {"registration_access_token", "registration_client_uri"} & set(mine.json)
    id_ = other.json["client_id"]
    for path in (f"/register/{id_}", f"/register?client_id={id_}", f"/clients/{id_}", "/register"):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            reply = server.ask(method, path, headers={"Authorization": f"Bearer {mine.json['client_id']}"})
            assert reply.status in (401, 403, 404, 405), (method, path)
            assert "Somebody else" not in reply.text


@attack("DCR-08")
def test_no_software_statement_is_believed(server):
    before = clients(server)
    for statement in ("eyJhbGciOiJub25lIn0.eyJzY29wZSI6ImFkbWluIn0.", "x", "a.b.c", ""):
        assert server.register(software_statement=statement).error == (400, "invalid_software_statement"), statement
    assert server.register(software_statement={"a": 1}).status == 400
    assert clients(server) == before
