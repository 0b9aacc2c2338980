"""Attacks on authorization codes and on the proof that who redeems one has asked for it."""

import base64
import hashlib
import signal
import socket
import sqlite3
import time
from contextlib import closing
from urllib.parse import urlencode

from tests.attacks.forge import parts_of
from tests.attacks.people import CALLBACK, Client, answer_of, challenge_of, forms_of
from tests.attacks.table import attack
from tests.attacks.target import CONFIG, Target, checked, started, tenantry
from tests.attacks.test_bearer import shown
from tests.attacks.wire import Reply
from tests.http_client import all_at_once
from tests.running import free_port

INVALID_GRANT = (400, "invalid_grant")
INVALID_REQUEST = (400, "invalid_request")


def is_live(server: Target, access: str) -> bool:
    return shown(server, f"Bearer {access}").status == 200


@attack("O-CODE-01")
def test_a_code_redeemed_twice_ends_what_it_gave(server):
    client = Client.new(server)
    code = client.code()
    tokens = client.tokens(client.redeem(code))
    assert is_live(server, tokens.access)
    assert client.redeem(code).error == INVALID_GRANT
    assert not is_live(server, tokens.access)
    assert client.refresh(tokens.refresh).error == INVALID_GRANT
    assert server.records("code_reused", client=client.client_id)


@attack("O-CODE-02")
def test_one_of_many_at_once_redeems_a_code(server, longer):
    for _ in range(longer(2, 200)):
        client = Client.new(server)
        code = client.code()
        form = {"grant_type": "authorization_code", "client_id": client.client_id, "code": code}
        form |= {"code_verifier": client.verifier, "redirect_uri": client.redirect_uri}
        answers = all_at_once(server.issuer, "/token", urlencode(form), 64)
        won = [answer for answer in answers if answer.status == 200]
        assert len(won) == 1
        assert {answer.json["error"] for answer in answers if answer.status != 200} == {"invalid_grant"}
        server.keep_secret(won[0].json["access_token"], won[0].json["refresh_token"])
        # Who was slower counts as a replay: a code in two hands is a code that leaked.
        assert not is_live(server, won[0].json["access_token"])
        assert client.refresh(won[0].json["refresh_token"]).error == INVALID_GRANT


@attack("O-CODE-03")
def test_a_code_stays_redeemed_over_a_kill(tmp_path, mode, longer):
    for number in range(longer(2, 100)):
        data, port = tmp_path / str(number) / "data", str(free_port())
        with started(data, mode, "--port", port, killed=True) as server:
            client = Client.new(server)
            code = client.code()
            given: list[Reply] = []
            if number % 2 == 0:
                given.append(client.redeem(code))
                assert given[0].status == 200
            else:
                form = {"grant_type": "authorization_code", "client_id": client.client_id, "code": code}
                body = urlencode({**form, "code_verifier": client.verifier, "redirect_uri": client.redirect_uri})
                head = f"POST /token HTTP/1.1\r\nHost: {server.netloc}\r\nContent-Length: {len(body)}\r\n"
                head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
                sock = socket.create_connection(("127.0.0.1", server.port))
                sock.sendall((head + body).encode())
                time.sleep(number % 10 * 0.002)  # somewhere between the request and its answer
                sock.close()
            server.running.process.send_signal(signal.SIGKILL)
            server.running.process.wait()
        with started(data, mode, "--port", port) as again, checked(again):
            client.target = client.browser.target = again
            reply = client.redeem(code)
            if given:
                assert reply.error == INVALID_GRANT
                assert not is_live(again, given[0].json["access_token"])
            else:
                assert reply.status == 200 or reply.error == INVALID_GRANT
                assert client.redeem(code).error == INVALID_GRANT


@attack("O-CODE-04")
def test_a_code_lives_for_a_minute(server):
    client = Client.new(server)
    for late in (61, 601, 86_000):
        code = client.code()
        server.shift(late)
        assert client.redeem(code).error == INVALID_GRANT, late
        server.shift(0)
    code = client.code()
    server.shift(50)
    assert client.redeem(code).status == 200


@attack("O-CODE-04", modes=())
def test_no_configuration_lets_a_code_live_for_longer_than_ten_minutes(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text(CONFIG.read_text() + "\n[lifetimes]\nauthorization_code_s = 601\n")
    tried = tenantry("serve", "--config", str(path), "--port", "0", "--data", str(tmp_path / "data"))
    assert tried.returncode == 2
    assert "authorization_code_s" in tried.stderr


@attack("O-CODE-05")
def test_a_code_is_of_no_use_to_another_client(server):
    owner, thief = Client.new(server), Client.new(server)
    code = owner.code()
    assert owner.redeem(code, client_id=thief.client_id).error == INVALID_GRANT
    assert owner.redeem(code, client_id="").status in (400, 401)
    assert owner.redeem(code, client_id=None).error == INVALID_REQUEST
    # The attempt does not burn it: else whoever saw a code could keep its owner out.
    assert is_live(server, owner.tokens(owner.redeem(code)).access)


@attack("O-CODE-07")
def test_codes_can_not_be_guessed(server, longer):
    client = Client.new(server)
    code = client.code()
    assert len(code) * 6 >= 128
    flips = [
        code[:place] + mark + code[place + 1 :] for place in range(0, 42, 3) for mark in "Aa" if code[place] != mark
    ]
    random = [
        base64.urlsafe_b64encode(hashlib.sha256(b"%d" % n).digest()).decode()[:43] for n in range(longer(50, 10_000))
    ]
    replies = [
        client.redeem(guess) for guess in [*flips, *random, code.swapcase(), code.lower(), code + "A", code[:-1]]
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(400, replies[0].body)}
    assert replies[0].error == INVALID_GRANT
    codes = {client.code() for _ in range(5)}
    assert len(codes) == 5
    assert all(len({one[place] for one in codes}) > 1 for place in range(0, 42, 7))
    assert client.redeem(code).status == 200


@attack("O-CODE-08")
def test_a_code_gives_its_own_tenant_and_no_other(server, servers):
    client = Client.new(server)
    for more in ({"tenant": "globex"}, {"resource": server.resource + "?tenant=globex"}, {"audience": "globex"}):
        reply = client.redeem(client.code("alice"), **more)
        if reply.status == 200:
            assert parts_of(reply.json["access_token"])[1]["tenant"] == "acme"
        else:
            assert "globex" not in reply.text
    # Another server knows nothing of the code, and says what it says of any.
    other = servers.of("stateless" if server.mode != "stateless" else "dual")
    stranger = Client.new(other)
    stranger.verifier = client.verifier
    foreign, never = stranger.redeem(client.code("alice")), stranger.redeem("x" * 43)
    assert foreign.error == INVALID_GRANT
    assert foreign.body == never.body


@attack("O-CODE-10")
def test_a_code_that_was_slipped_in_is_of_no_use(server):
    client = Client.new(server)
    victims = client.code("alice")
    client.verifier = "attackers-own-verifier-of-a-login-of-his-own-000"
    assert client.redeem(victims).error == INVALID_GRANT
    assert client.redeem(victims, code_verifier=challenge_of(client.verifier)).error == INVALID_GRANT


# --- PKCE


def refusal(client: Client, **changes: str | None) -> dict[str, str]:
    """What an authorization request comes back with, before anybody was asked to log in."""
    reply = client.browser.get(client.authorization(**changes))
    assert reply.status == 303, (changes, reply)
    answer = answer_of(reply)
    assert "code" not in answer
    return answer


@attack("O-PKCE-01")
def test_no_code_without_a_challenge(server):
    client = Client.new(server)
    assert refusal(client, code_challenge=None)["error"] == "invalid_request"
    assert refusal(client, code_challenge=None, code_challenge_method=None)["error"] == "invalid_request"
    assert refusal(client, code_challenge="")["error"] == "invalid_request"


@attack("O-PKCE-03")
def test_a_code_without_a_challenge_is_not_redeemed_even_if_there_were_one(server):
    client = Client.new(server)
    for verifier in (client.verifier, None, "", "x" * 43):
        code = client.code()
        with closing(sqlite3.connect(server.running.data / "state.db", timeout=10)) as connection, connection:
            connection.execute("UPDATE authorization_code SET challenge = '' WHERE redeemed_at IS NULL")
        assert client.redeem(code, code_verifier=verifier).error == INVALID_GRANT, verifier


@attack("O-PKCE-04")
def test_no_token_without_the_verifier(server):
    client = Client.new(server)
    code = client.code()
    for verifier in (None, "", challenge_of(client.verifier), client.verifier[:-1], client.verifier + "A", "x" * 200):
        assert client.redeem(code, code_verifier=verifier).error == INVALID_GRANT, verifier
    assert client.redeem(code).status == 200


@attack("O-PKCE-06")
def test_a_challenge_that_can_be_none_is_refused(server):
    client = Client.new(server)
    good = challenge_of(client.verifier)
    for bad in (
        good + "=",
        good[:-1],
        good + "A",
        "+" + good[1:],
        "/" + good[1:],
        "." + good[1:],
        good[:-1] + "B",
        " " + good[1:],
        good + "\n",
        "A" * 128,
        "\u00e9" * 43,
    ):
        assert refusal(client, code_challenge=bad)["error"] == "invalid_request", bad


@attack("O-PKCE-07")
def test_a_parameter_that_comes_twice_is_refused(server):
    client = Client.new(server)
    for name in ("code_challenge", "code_challenge_method", "state", "client_id", "redirect_uri", "scope"):
        reply = client.browser.get(client.authorization() + f"&{name}=x")
        assert reply.status == 400, name
        assert reply.header("location") is None
    code = client.code()
    form = [("grant_type", "authorization_code"), ("client_id", client.client_id), ("code", code)]
    form += [("redirect_uri", CALLBACK), ("code_verifier", client.verifier)]
    for pair in (("code_verifier", client.verifier), ("code_verifier", "x" * 43), ("code", code)):
        assert server.form("/token", [*form, pair]).error == INVALID_REQUEST
        assert server.form("/token", [pair, *form]).error == INVALID_REQUEST
    assert client.redeem(code).status == 200


@attack("O-PKCE-08")
def test_the_one_method_is_said_and_no_other_is_served(server):
    metadata = server.ask("GET", "/.well-known/oauth-authorization-server").json
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    client = Client.new(server)
    for method in ("plain", None, "s256", "S512", ""):
        assert refusal(client, code_challenge_method=method)["error"] == "invalid_request", method
    assert "/login" in forms_of(client.browser.get(client.authorization()))
