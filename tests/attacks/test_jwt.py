"""Attacks on access tokens: each is signed with the server's own key unless the signature is the attack."""

import base64
import hashlib
import hmac
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.attacks.forge import Forger, another_key, encoded, parts_of, signed, signing_keys
from tests.attacks.people import Client, sign_in
from tests.attacks.speaker import speaker, text_of
from tests.attacks.table import attack
from tests.attacks.target import Target, tenantry
from tests.attacks.test_bearer import shown

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def status(server: Target, token: str) -> int:
    return shown(server, f"Bearer {token}").status


@pytest.fixture
def access(server: Target) -> str:
    token = sign_in(server).access
    assert status(server, token) == 200
    return token


@pytest.fixture
def forger(server: Target, access: str) -> Forger:
    made = Forger(server, access)
    assert status(server, made.token()) == 200  # what is forged is good but for what a test changes
    return made


@attack("JWT-01")
def test_no_algorithm_but_the_one_is_taken(server, forger):
    claims = forger.token().split(".")[1]
    public = json.dumps(server.ask("GET", "/jwks").json["keys"][0]).encode()
    for alg in ("none", "None", "nOnE", "NONE", "", None, "ES384", "es256", ["ES256"], "HS256", "RS256"):
        header = encoded(json.dumps({**forger.header, "alg": alg}).encode())
        mac = hmac.new(public, f"{header}.{claims}".encode(), hashlib.sha256).digest()
        for tail in ("", encoded(mac), forger.token().rpartition(".")[2]):
            assert status(server, f"{header}.{claims}.{tail}") == 401, (alg, tail)
        assert status(server, forger.token(header={"alg": alg})) == 401, alg
    assert status(server, forger.token(drop="alg")) == 401


@attack("JWT-03")
def test_no_key_but_the_named_one_is_taken(server, forger):
    for kid in (
        "unknown",
        "",
        7,
        None,
        ["x", forger.header["kid"]],
        {"a": 1},
        True,
        "../../state.db",
        "' OR 1=1 --",
        "\0",
        f"{forger.header['kid']}\0",
        f" {forger.header['kid']}",
        "k" * 4000,
    ):
        assert status(server, forger.token(header={"kid": kid})) == 401, kid
    assert status(server, forger.token(drop="kid")) == 401
    assert status(server, forger.token(header={"kid": "k" * 9000})) in (401, 431)
    assert server.faults() == []


@attack("JWT-04")
def test_a_key_that_a_token_brings_is_not_looked_at(server, forger):
    key = another_key()
    numbers = key.public_key().public_numbers()
    coordinate = {name: encoded(getattr(numbers, name).to_bytes(32, "big")) for name in ("x", "y")}
    jwk = {"kty": "EC", "crv": "P-256", **coordinate, "alg": "ES256"}
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/keys"
        brought = {"jku": url, "x5u": url, "jwk": jwk, "x5c": [base64.b64encode(b"certificate").decode()]}
        for name, value in brought.items():
            header = {**forger.header, name: value}
            assert status(server, signed(header, forger.claims, key)) == 401, name
            assert status(server, forger.token(header={name: value})) == 401, name
        with pytest.raises(TimeoutError):
            trap.accept()


@attack("JWT-05")
def test_a_token_that_says_crit_is_refused(server, forger):
    headers: list[dict[str, object]] = [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"crit": "b64"},
        {"crit": None},
        {"b64": False},
    ]
    for header in headers:
        assert status(server, forger.token(header=header)) == 401, header


@attack("JWT-06")
def test_only_the_one_audience_is_taken(server, forger):
    own = server.resource
    for audience in (
        "https://other.example/mcp",
        own + "/",
        own[:-1],
        own + "x",
        own.upper(),
        own.replace("/mcp", ""),
        server.issuer,
        [own],
        [own, "https://other.example"],
        ["https://other.example", own],
        {own: True},
        "",
        None,
        True,
    ):
        assert status(server, forger.token(claims={"aud": audience})) == 401, audience
    assert status(server, forger.token(drop="aud")) == 401


@attack("JWT-07")
def test_only_the_one_issuer_is_taken(server, forger):
    own = server.issuer
    for issuer in (
        "https://other.example",
        own + "/",
        own[:-1],
        own + ".evil.example",
        own.upper(),
        own.replace("http", "https"),
        [own],
        "",
        None,
    ):
        assert status(server, forger.token(claims={"iss": issuer})) == 401, issuer
    assert status(server, forger.token(drop="iss")) == 401


@attack("JWT-08")
def test_only_an_access_token_is_taken_for_one(server, forger):
    for kind in ("JWT", "id_token", "dpop+jwt", "application/at+jwt", "AT+JWT", "at+jwt ", "", None, ["at+jwt"]):
        assert status(server, forger.token(header={"typ": kind})) == 401, kind
    assert status(server, forger.token(drop="typ")) == 401


@attack("JWT-09")
def test_a_token_is_good_for_its_time_alone(server, forger):
    now = int(time.time())
    for claims in (
        {"exp": now - 60},
        {"exp": now - 8},
        {"exp": 1e18},
        {"exp": 10**18},
        {"exp": now + 7200},
        {"exp": str(now + 60)},
        {"exp": True},
        {"exp": -1},
        {"exp": None},
        {"exp": float(now + 60)},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"iat": now + 60},
        {"iat": now - 7200, "exp": now + 60},
        {"iat": str(now)},
        {"iat": None},
        {"nbf": now + 60},
        {"nbf": "soon"},
        {"nbf": True},
        {"iat": now + 100, "exp": now + 50},
    ):
        assert status(server, forger.token(claims=claims)) == 401, claims
    for name in ("exp", "iat"):
        assert status(server, forger.token(drop=name)) == 401
    now = int(time.time())
    assert status(server, forger.token(claims={"exp": now - 2})) == 200  # within the leeway
    assert status(server, forger.token(claims={"iat": now + 3})) == 200
    assert status(server, forger.token(claims={"nbf": now + 3})) == 200
    assert server.faults() == []


@attack("JWT-09")
def test_a_token_that_was_good_a_moment_ago_is_not_good_for_ever(server, access):
    _, claims = parts_of(access)
    for late, wanted in ((-5, 200), (3, 200), (7, 401)):
        server.shift(claims["exp"] - time.time() + late)
        assert status(server, access) == wanted, late


@attack("JWT-11")
def test_one_token_has_one_spelling(server, forger):
    token = forger.token()
    head, claims, tail = token.split(".")
    raw = base64.urlsafe_b64decode(tail + "==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = tail[:-1] + alphabet[alphabet.index(tail[-1]) + 1]  # the same bytes, other unused bits
    for bad in (
        encoded(raw[:-1]),
        encoded(raw[:32]),
        "",
        tail + "=",
        tail + "==",
        loose,
        encoded(raw + b"\0"),
        encoded(bytes(64)),
        encoded(raw[:32] + bytes(32)),
        encoded(ORDER.to_bytes(32, "big") + raw[32:]),
        encoded(raw[32:] + raw[:32]),
        tail.replace("-", "+").replace("_", "/") + "+",
    ):
        assert status(server, f"{head}.{claims}.{bad}") in (400, 401), bad
    for bad in (f"{token}.", f".{token}", f"{head}.{claims}..{tail}", f"{head}=.{claims}.{tail}", f"{token}.x"):
        assert status(server, bad) == 401, bad
    assert status(server, signed(forger.header, json.dumps(forger.claims)[:-1].encode(), forger.key)) == 401
    twice = json.dumps(forger.claims)[:-1] + ', "sub": "alice"}'
    assert status(server, signed(forger.header, twice.encode(), forger.key)) == 401


@attack("JWT-11")
def test_a_twin_of_a_revoked_token_is_revoked_too(server):
    client = Client.new(server)
    tokens = client.sign_in()
    head, claims, tail = tokens.access.split(".")
    raw = base64.urlsafe_b64decode(tail + "==")
    mirrored = ORDER - int.from_bytes(raw[32:], "big")
    twin = f"{head}.{claims}.{encoded(raw[:32] + mirrored.to_bytes(32, 'big'))}"
    assert status(server, tokens.access) == 200
    assert client.revoke(tokens.access).status == 200
    assert status(server, tokens.access) == status(server, twin) == 401


def rotate(server: Target, *words: str) -> None:
    """Rotate the keys of a running server by command."""
    done = tenantry("keys", "rotate", *words, "--data", str(server.running.data))
    assert done.returncode == 0, done


@attack("JWT-13")
def test_a_key_is_good_for_its_own_time_alone(start, mode):
    server = start(mode)
    forger = Forger(server, sign_in(server).access)
    (old,) = signing_keys(server)
    rotate(server)
    pending = signing_keys(server)[-1]
    assert pending[0] != old[0]

    def by(key: tuple[str, ec.EllipticCurvePrivateKey], after_s: float) -> int:
        """The answer to a token that the key signs after so many seconds."""
        server.shift(after_s)
        now = int(time.time() + after_s)
        claims = {**forger.claims, "iat": now, "exp": now + 300}
        return status(server, signed({**forger.header, "kid": key[0]}, claims, key[1]))

    assert by(old, 0) == 200
    assert by(pending, 0) == 401  # it is published, and does not sign yet
    assert by(pending, 700) == 200
    assert by(old, 700) == 200  # what it signed before is still alive
    assert by(old, 700 + 3600) == 401  # and is so no longer
    assert by(pending, 700 + 3600) == 200
    server.shift(0)
    done = tenantry("keys", "retire", old[0], "--data", str(server.running.data))
    if done.returncode == 0:  # the last key that signs can't be taken away
        assert by(old, 0) == 401
    server.shift(0)


@attack("JWT-13")
def test_no_good_call_fails_while_keys_are_rotated(start, mode, longer):
    server = start(mode)
    client = Client.new(server)
    tokens = client.sign_in()
    failed: list[int] = []
    rotating = True

    def call() -> None:
        held = tokens
        while rotating:
            failed.extend(code for code in (status(server, held.access),) if code != 200)
            held = client.tokens(client.refresh(held.refresh))

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(call)
        try:
            for _ in range(longer(2, 100)):
                rotate(server, "--now")
        finally:
            rotating = False
        calling.result()
    assert failed == []
    assert status(server, tokens.access) == 200  # the first key signed it
    published = {key["kid"] for key in server.ask("GET", "/jwks").json["keys"]}
    assert published == {kid for kid, _ in signing_keys(server)}


@attack("JWT-14")
def test_the_tenant_of_a_token_is_the_issuers_word_and_the_directorys(server, access):
    forger = Forger(server, access)
    head, _, tail = access.split(".")
    for claims in ({"tenant": "globex"}, {"tenant": "globex", "sub": "carol"}):
        edited = encoded(json.dumps({**forger.claims, **claims}).encode())
        assert status(server, f"{head}.{edited}.{tail}") == 401, claims
    for key in (another_key(), ec.generate_private_key(ec.SECP384R1()) and another_key()):
        assert status(server, signed(forger.header, {**forger.claims, "tenant": "globex"}, key)) == 401
    # Even signed with the right key: alice is nobody in globex.
    for claims in ({"tenant": "globex"}, {"tenant": "nowhere"}, {"sub": "nobody-at-all"}, {"tenant": ""}):
        token = forger.token(claims=claims)
        reply = shown(server, f"Bearer {token}")
        if reply.status == 200:
            spoken = speaker(server, token)
            assert "canary" not in spoken.call("own_secret").text
            assert spoken.call("export_report", {"report_id": "r"}).status >= 400
    honest = speaker(server, forger.token())
    assert text_of(honest.call("own_secret")) == "canary-document-of-acme"
