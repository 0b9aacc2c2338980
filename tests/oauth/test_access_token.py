"""Access tokens: ours are understood, and nothing else is; an independent library makes the bad ones."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

from tenantry.identity import Principal
from tenantry.oauth import access_token, jwk
from tenantry.oauth.errors import OAuthError

NOW = 1_800_000_000
ISSUER = "https://mcp.example.com"
AUDIENCE = "https://mcp.example.com/mcp"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
KID = jwk.thumbprint(PRIVATE.public_key())
KEY = jwk.SigningKey(kid=KID, private_key=PRIVATE)
HEADER = {"alg": "ES256", "typ": "at+jwt", "kid": KID}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "client_id": "client",
    "iat": NOW,
    "exp": NOW + 600,
    "jti": "id",
    "scope": "a b",
    "tenant": "acme",
    "family": "family",
}


def oracle_key(private: ec.EllipticCurvePrivateKey = PRIVATE) -> ECKey:
    return ECKey.import_key(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def signed(header: dict[str, Any] | None = None, payload: bytes | None = None, **claims: Any) -> str:
    body = (
        payload or json.dumps({name: value for name, value in (CLAIMS | claims).items() if value is not ...}).encode()
    )
    members = {name: value for name, value in (HEADER | (header or {})).items() if value is not ...}
    head = base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()
    mid = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    return f"{head}.{mid}.{signature(f'{head}.{mid}')}"


def claims(name: str, value: object) -> bytes:
    return json.dumps(CLAIMS | {name: value}).encode()


def signature(signing_input: str) -> str:
    # The oracle signs what it would never serialize itself, by its algorithm alone.
    algorithm = jws.JWSRegistry.algorithms["ES256"]
    raw = algorithm.sign(signing_input.encode(), oracle_key())
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def verify(token: str, *, now: float = NOW) -> Principal:
    return access_token.verify(token, keys={KID: PRIVATE.public_key()}, issuer=ISSUER, audience=AUDIENCE, now=now)


def detail(token: str, *, now: float = NOW) -> str:
    with pytest.raises(OAuthError) as caught:
        verify(token, now=now)
    assert caught.value.body() == {
        "error": "invalid_token",
        "error_description": "the access token is invalid or expired",
    }
    assert caught.value.status == 401
    return caught.value.detail


def minted(scopes: tuple[str, ...] = ("a", "b")) -> str:
    claims = access_token.Claims(
        issuer=ISSUER,
        audience=AUDIENCE,
        subject="alice",
        tenant="acme",
        client_id="client",
        scopes=scopes,
        token_id="id",
        family_id="family",
        issued_at=NOW,
        expires_at=NOW + 600,
    )
    return access_token.mint(claims, KEY)


def test_what_was_minted_is_understood():
    assert verify(minted()) == Principal(
        tenant="acme",
        subject="alice",
        client_id="client",
        scopes=frozenset({"a", "b"}),
        token_id="id",
        family_id="family",
        expires_at=NOW + 600,
    )


def test_an_independent_library_reads_what_was_minted():
    decoded = jws.deserialize_compact(minted(), oracle_key(), algorithms=["ES256"])
    assert decoded.headers() == HEADER
    assert json.loads(decoded.payload) == CLAIMS


def test_what_an_independent_library_signs_is_understood():
    assert verify(signed()) == verify(minted())


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": ...},
        {"typ": "application/at+jwt"},
        {"typ": "AT+JWT"},
        {"typ": "id_token"},
        {"alg": "none"},
        {"alg": "nOnE"},
        {"alg": ""},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"alg": ["ES256"]},
        {"kid": ...},
        {"kid": "unknown"},
        {"kid": 1},
        {"kid": [KID]},
        {"kid": "../../etc/passwd"},
        {"kid": "\x00"},
        {"crit": []},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"jwk": {"kty": "EC"}},
        {"jku": "https://evil.example"},
        {"x5u": "https://evil.example"},
        {"x5c": ["x"]},
    ],
)
def test_a_header_that_is_not_ours_is_refused(header: dict[str, Any]):
    assert detail(signed(header)) in ("header is not one of ours", "kid is unknown")


@pytest.mark.parametrize(
    "aud", [..., "", "https://mcp.example.com", AUDIENCE + "/", AUDIENCE.upper(), [AUDIENCE], [AUDIENCE, "x"], None]
)
def test_the_audience_is_exactly_ours(aud: object):
    assert detail(signed(aud=aud)).startswith("aud is")


@pytest.mark.parametrize("iss", [..., "", ISSUER + "/", ISSUER[:-1], "https://evil.example", [ISSUER]])
def test_the_issuer_is_exactly_ours(iss: object):
    assert detail(signed(iss=iss)).startswith("iss is")


@pytest.mark.parametrize("name", ["sub", "client_id", "jti", "scope", "tenant", "family"])
@pytest.mark.parametrize("value", [..., "", 1, None, True, ["x"], {}])
def test_every_claim_is_there_and_a_text(name: str, value: Any):
    assert detail(signed(**{name: value})) == f"{name} is missing or no text"


@pytest.mark.parametrize("name", ["exp", "iat"])
@pytest.mark.parametrize("value", [..., None, "1800000000", True, 1.8e9, float("nan"), float("inf"), [NOW]])
def test_times_are_whole_numbers(name: str, value: Any):
    assert detail(signed(**{name: value})) == f"{name} is missing or no integer"


def test_expiry_counts_to_the_second_with_its_leeway():
    end = NOW + 600 + access_token.LEEWAY_S
    assert verify(minted(), now=end - 0.001)
    assert detail(minted(), now=end) == "expired"


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_what_begins_in_the_future_is_refused_beyond_the_leeway(name: str):
    assert verify(signed(payload=claims(name, NOW + access_token.LEEWAY_S)))
    assert detail(signed(payload=claims(name, NOW + access_token.LEEWAY_S + 1))) == "not valid yet"


@pytest.mark.parametrize("exp", [10**18, NOW + access_token.MAX_LIFETIME_S + 1])
def test_an_access_token_that_lives_too_long_is_refused(exp: int):
    assert verify(signed(exp=NOW + access_token.MAX_LIFETIME_S))
    assert detail(signed(exp=exp)) == "lives for longer than any of ours"


def test_one_that_expires_before_it_begins_is_refused():
    assert detail(signed(iat=NOW + 3, exp=NOW + 3)) == "lives for longer than any of ours"
    assert detail(signed(exp=-1)) == "expired"


def test_a_repeated_claim_is_refused():
    payload = json.dumps(CLAIMS)[:-1] + ', "sub": "bob"}'
    assert detail(signed(payload=payload.encode())) == "a segment is not strict JSON"


@pytest.mark.parametrize("payload", [b"[]", b"null", b"x", b"\xff", b"[" * 5000, b'{"a":' * 1000])
def test_claims_that_are_no_object_are_refused(payload: bytes):
    assert detail(signed(payload=payload)).startswith("a segment is n")


def test_a_foreign_signature_is_refused():
    other = ec.generate_private_key(ec.SECP256R1())
    head, body, _ = minted().split(".")
    forged = access_token.mint(
        access_token.Claims(
            issuer=ISSUER,
            audience=AUDIENCE,
            subject="alice",
            tenant="globex",
            client_id="client",
            scopes=("a",),
            token_id="id",
            family_id="family",
            issued_at=NOW,
            expires_at=NOW + 600,
        ),
        jwk.SigningKey(kid=KID, private_key=other),
    )
    zero = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
    for token in (forged, f"{head}.{body}.", f"{head}.{body}.{zero}", f"{head}.{body}.{signature('x.y')}"):
        assert detail(token).startswith("signature")


def test_the_public_key_is_no_hmac_secret():
    secret = OctKey.import_key(json.dumps(jwk.key_set({KID: PRIVATE.public_key()})).encode())
    token = jws.serialize_compact({**HEADER, "alg": "HS256"}, json.dumps(CLAIMS), secret, algorithms=["HS256"])
    assert detail(token) == "header is not one of ours"


@pytest.mark.parametrize("change", ["{}=", "{}\n", " {}", "{}.", "{}.x", ".{}", "é{}"])
def test_an_access_token_has_one_spelling(change: str):
    assert detail(change.format(minted()))


def test_loose_bits_at_the_end_of_the_signature_are_refused():
    token = minted()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    assert detail(twin) == "a segment is not canonical base64url"


def test_a_long_token_is_refused_before_it_is_decoded():
    assert detail(minted(scopes=("x" * 8000,))) == "too long or not ASCII"
