"""JWT access tokens: what stands in them, and which of them are taken (RFC 9068, RFC 8707 section 2)."""

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from conformance.authority import Authority, Grant, claims_of, parse_challenge
from conformance.clauses import clause
from conformance.client import NotApplicable
from conformance.peer import Site
from conformance.serving import demo


def keys(authority: Authority) -> dict[str, Any]:
    """The published keys."""
    document: dict[str, Any] = authority.get(authority.metadata["jwks_uri"]).json
    return document


def verified(authority: Authority, token: str) -> dict[str, Any]:
    """The claims of a token whose signature fits a published key."""
    header = claims_of(token, 0)
    found = [each for each in keys(authority)["keys"] if each.get("kid") == header.get("kid")]
    assert found, f"no published key has the kid of {header}"
    key = jwt.PyJWK(found[0])
    payload = jwt.PyJWS().decode(token, key.key, algorithms=[header["alg"]])
    claims: dict[str, Any] = json.loads(payload)
    return claims


def segment(document: dict[str, Any]) -> str:
    """A segment of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


# What stands in it


@clause(
    "rfc9068:2.1:signed",
    "rfc9068:2.1:asymmetric",
    "rfc9068:2.1:not-none",
    "rfc9068:2.1:typ",
    "rfc9068:2.1:typ-short",
    "rfc9068:4:metadata",
    "oauth-2.1:1.4.2:integrity",
)
def test_the_token_is_signed_by_a_published_key_and_says_what_it_is(authority: Authority) -> None:
    token = authority.grant().access_token
    header = claims_of(token, 0)
    assert header["typ"].lower() == "at+jwt"
    assert header["alg"][:2] in {"RS", "PS", "ES", "Ed"}
    assert verified(authority, token)


@clause(
    "rfc9068:2.2:iss",
    "rfc9068:2.2:exp",
    "rfc9068:2.2:aud",
    "rfc9068:2.2:sub",
    "rfc9068:2.2:client-id",
    "rfc9068:2.2:iat",
    "rfc9068:2.2:jti",
    "rfc9068:3:aud-resource",
    "rfc9068:3:unambiguous",
    "rfc6750:5.2:audience",
    "rfc6750:5.3:scoped",
    "rfc8707:2:audience-restricted",
    "rfc8707:2.2:code-grant",
    "rfc9700:2.3:one-audience",
    "rfc9700:4.10:constrained",
    "rfc9728:7.4:audience-restricted",
    "oauth-2.1:7.1.2:audience",
    "oauth-2.1:7.1.3:audience-restricted",
    "oauth-2.1:7.1.4:one-audience",
)
def test_the_token_has_the_claims_that_it_must_have(authority: Authority) -> None:
    grant = authority.grant()
    claims = verified(authority, grant.access_token)
    assert claims["iss"] == authority.issuer
    assert claims["aud"] in (authority.resource, [authority.resource])
    assert isinstance(claims["sub"], str)
    assert claims["sub"]
    assert claims["client_id"] == grant.client.id
    assert claims["jti"]
    now = time.time()
    assert abs(claims["iat"] - now) < 300
    assert abs(claims["exp"] - claims["iat"] - grant.answer.json["expires_in"]) <= 1


@clause("rfc9068:2.2:jti", "rfc9068:2.2:sub-owner", "rfc9700:4.15:sub-owner")
def test_each_token_has_an_id_of_its_own_and_one_person_one_subject(authority: Authority) -> None:
    first, second = authority.grant(), authority.grant(client=authority.other_client)
    third = Grant(client=first.client, answer=authority.refresh(first))
    all_claims = [claims_of(each.access_token) for each in (first, second, third)]
    assert len({claims["jti"] for claims in all_claims}) == 3
    assert len({claims["sub"] for claims in all_claims}) == 1


@clause("rfc9068:2.2.3:scope", "rfc9068:2.2.3:scope-meaningful", "rfc6750:5.2:scope", "oauth-2.1:7.1.2:scope")
def test_the_token_says_which_scopes_were_granted(authority: Authority) -> None:
    if not authority.scope:
        raise NotApplicable("the resource has no scopes")
    grant = authority.grant()
    scopes = claims_of(grant.access_token)["scope"].split()
    assert scopes == grant.answer.json["scope"].split()
    assert scopes
    assert set(scopes) <= set(authority.scope.split())


@clause("rfc9068:3:aud-default", "rfc8707:2.1:omitted", "rfc8707:2.2:omitted")
def test_without_a_resource_there_is_a_default_audience(authority: Authority) -> None:
    code = authority.code({"resource": None})
    token = Grant(client=code.client, answer=authority.redeem(code, {"resource": None})).access_token
    assert claims_of(token)["aud"] in (authority.resource, [authority.resource])
    assert authority.opens(token)


@clause("rfc8707:2.2:refresh-grant")
def test_a_refreshed_token_is_for_the_same_resource(authority: Authority) -> None:
    grant = authority.grant()
    token = Grant(client=grant.client, answer=authority.refresh(grant)).access_token
    assert claims_of(token)["aud"] in (authority.resource, [authority.resource])


@clause("rfc9068:6:privacy")
def test_the_token_holds_nothing_of_the_person_but_what_is_needed(authority: Authority) -> None:
    claims = verified(authority, authority.grant().access_token)
    assert claims["sub"]
    assert not {"email", "name", "given_name", "family_name", "phone_number", "address", "birthdate"} & claims.keys()


@clause("rfc9068:2.1:rs256")
def test_rs256_is_among_the_algorithms(authority: Authority) -> None:
    kinds = {each["kty"]: each.get("alg", "RS256") for each in keys(authority)["keys"]}
    assert kinds.get("RSA") == "RS256"


# Which tokens are taken


SPOILT = (
    *(
        "claims",
        "signature",
        "no-signature",
        "none",
        "none-signed",
        "hmac",
        "another-key",
        "key-inside",
        "key-elsewhere",
    ),
    *("longer", "doubled"),
)


def spoilt(token: str, kind: str) -> str:
    """A token that looks like `token` and was not signed by the server."""
    header, claims, signature = token.split(".")
    said, head = claims_of(token), claims_of(token, 0)
    names = {name: value for name, value in head.items() if name != "alg"}
    key = ec.generate_private_key(ec.SECP256R1())

    def forged(**more: Any) -> str:
        return jwt.encode(said, key, algorithm="ES256", headers={**names, **more})

    made: dict[str, Callable[[], str]] = {
        "claims": lambda: f"{header}.{segment({**said, 'exp': said['exp'] + 1})}.{signature}",
        "signature": lambda: f"{header}.{claims}.{signature[:-8]}{'A' * 8}",
        "no-signature": lambda: f"{header}.{claims}.",
        "none": lambda: f"{segment({**head, 'alg': 'none'})}.{claims}.",
        "none-signed": lambda: f"{segment({**head, 'alg': 'nOnE'})}.{claims}.{signature}",
        "hmac": lambda: jwt.encode(said, f"{head.get('kid')}{'x' * 32}", algorithm="HS256", headers=names),
        "another-key": forged,
        "key-inside": lambda: forged(jwk=json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))),
        "key-elsewhere": lambda: forged(jku="https://evil.example/jwks", x5u="https://evil.example/x5u"),
        "longer": lambda: token + "A",
        "doubled": lambda: f"{token}.{signature}",
    }
    return made[kind]()


@clause(
    "rfc9068:4:signature",
    "rfc9068:4:none",
    "rfc9068:4:keys",
    "rfc9068:4:errors",
    "rfc6750:5.2:integrity",
    "rfc6749:10.3:no-forgery",
    "oauth-2.1:1.4:no-forgery",
    "oauth-2.1:1.4.2:integrity",
    "mcp-authorization:tokens:no-other",
)
@pytest.mark.parametrize("kind", SPOILT)
def test_a_token_that_the_server_did_not_sign_opens_nothing(authority: Authority, kind: str) -> None:
    token = authority.grant().access_token
    answer = authority.call(spoilt(token, kind))
    assert answer.status == 401, answer
    assert dict(parse_challenge(answer.header("www-authenticate") or "")[1])["error"] == "invalid_token"
    assert authority.opens(token)


@clause(
    "rfc9068:4:aud",
    "oauth-2.1:7.1.4:foreign-refused",
    "oauth-2.1:5.2:authorized",
    "rfc9700:2.3:foreign-refused",
    "rfc9700:4.9.3:audience",
    "mcp-authorization:tokens:audience",
    "mcp-authorization:tokens:no-other",
    "mcp-security:tokens:no-passthrough",
)
def test_a_token_that_the_same_key_signed_for_another_resource_opens_nothing(site: Site, tmp_path: Path) -> None:
    if site.server is None:
        raise NotApplicable("the test needs a second server with the same key, and this one is not ours")
    own = site.authority.grant().access_token
    copied = shutil.copytree(site.server.data, tmp_path / "data")
    with demo(copied, site.mode) as twin:
        foreign = twin.sign_in().access_token
        other = Authority(twin.url, None)
        assert verified(site.authority, foreign)["aud"] != site.authority.resource
        assert site.authority.opens(own)
        assert not site.authority.opens(foreign)
        assert other.opens(foreign)
        assert not other.opens(own)
