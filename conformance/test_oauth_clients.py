"""How clients prove themselves, and clients that act for themselves (RFC 6749 and OAuth 2.1, 2.3 to 2.4 and 4.4)."""

import base64

import pytest

from conformance.authority import Authority, Client, Fields, Grant, basic, claims_of, encoded, refused
from conformance.clauses import clause
from conformance.client import Answer, NotApplicable

METHODS = ["client_secret_basic", "client_secret_post"]


def of_method(authority: Authority, method: str) -> Client:
    """A client that registered a method."""
    return authority.basic_client if method == "client_secret_basic" else authority.post_client


def nothing_given(answer: Answer) -> bool:
    """Whether a client was refused, and got nothing."""
    return refused(answer, "invalid_client", "invalid_request") and "access_token" not in answer.json


# Proof


@clause(
    "rfc6749:2.3.1:basic",
    "rfc6749:2.3.1:body",
    "oauth-2.1:2.4.1:secret-in-body",
    "oauth-2.1:2.4.1:basic",
    "rfc9700:2.5:authenticated-clients",
    "mcp-authorization:overview:confidential-clients",
)
@pytest.mark.parametrize("method", METHODS)
def test_a_client_that_proves_itself_gets_tokens_and_refreshes_them(authority: Authority, method: str) -> None:
    grant = authority.grant(client=of_method(authority, method))
    assert authority.opens(grant.access_token)
    assert authority.refresh(grant).status == 200


@clause(
    "rfc6749:2.2:id-no-proof",
    "rfc6749:3.2.1:authenticated",
    "rfc6749:4.1.3:authenticated",
    "rfc6749:4.1.3:authentication-checked",
    "rfc6749:10.2:authenticate",
    "oauth-2.1:2.1:one-type",
    "oauth-2.1:2.2:id-no-proof",
    "oauth-2.1:3.2.1:confidential-authenticate",
    "oauth-2.1:3.2.2:authentication-required",
    "oauth-2.1:3.2.2:authentication-checked",
    "rfc9700:2.5:authenticated-clients",
    "mcp-authorization:overview:confidential-clients",
)
@pytest.mark.parametrize("kind", ["id-alone", "wrong", "empty", "cut", "longer", "anothers"])
def test_without_its_secret_a_confidential_client_redeems_nothing(authority: Authority, kind: str) -> None:
    client = authority.confidential
    secret = client.secret or ""
    said = {
        "wrong": "wrong",
        "empty": "",
        "cut": secret[:-1],
        "longer": secret + "A",
        "anothers": authority.registered(token_endpoint_auth_method=client.method, client_name="twin").secret,
    }
    code = authority.code(client=client)
    liar = Client(id=client.id) if kind == "id-alone" else Client(id=client.id, secret=said[kind], method=client.method)
    answer = authority.redeem(code, client=liar)
    assert nothing_given(answer), answer
    assert authority.redeem(code).status == 200


@clause(
    "rfc6749:6:authenticated", "oauth-2.1:4.3.1:confidential-authenticate", "oauth-2.1:3.2.2:authentication-required"
)
@pytest.mark.parametrize("secret", [None, "wrong"])
def test_without_its_secret_a_confidential_client_refreshes_nothing(authority: Authority, secret: str | None) -> None:
    client = authority.confidential
    grant = authority.grant(client=client)
    liar = Client(id=client.id) if secret is None else Client(id=client.id, secret=secret, method=client.method)
    assert nothing_given(authority.refresh(grant, client=liar))
    assert authority.refresh(grant).status == 200


@clause("rfc6749:5.2:invalid-client-401", "oauth-2.1:3.2.4:invalid-client-401")
@pytest.mark.parametrize(
    "field", ["Basic", "Basic !", "Basic bm9jb2xvbg==", "Bearer x", "Digest x", basic("nobody", "x")]
)
def test_a_proof_in_the_header_that_is_none_is_answered_401(authority: Authority, field: str) -> None:
    code = authority.code()
    fields: Fields = {"grant_type": "authorization_code", "code": code.code, "code_verifier": code.verifier}
    answer = authority.token(None, fields, {"authorization": field})
    assert answer.status == 401, answer
    assert refused(answer, "invalid_client")
    assert (answer.header("www-authenticate") or "").split(" ")[0] in {"Basic", field.split(" ", maxsplit=1)[0]}


@clause("rfc6749:2.3:two-methods", "oauth-2.1:2.4:two-methods")
def test_a_proof_in_two_ways_is_refused(authority: Authority) -> None:
    client = authority.confidential
    code = authority.code(client=client)
    both = {"client_id": client.id, "client_secret": client.secret}
    header = {"authorization": basic(client.id, client.secret or "")}
    fields = {"grant_type": "authorization_code", "code": code.code, "code_verifier": code.verifier}
    answer = authority.token(None, {**fields, **both}, header)
    assert nothing_given(answer), answer
    assert authority.redeem(code).status == 200


@clause("rfc6749:2.3.1:basic-encoded")
def test_id_and_secret_are_encoded_as_in_a_form(authority: Authority) -> None:
    client = authority.basic_client
    code = authority.code(client=client)
    spelt = Client(id=client.id, secret=client.secret, method="client_secret_basic")
    # Every character may be written as its escape, and means the same.
    escaped = [f"%{ord(each):02x}" for each in client.id], [f"%{ord(each):02X}" for each in client.secret or ""]
    field = "Basic " + base64.b64encode(":".join("".join(part) for part in escaped).encode()).decode()
    fields = {"grant_type": "authorization_code", "code": code.code, "code_verifier": code.verifier}
    answer = authority.token(None, fields, {"authorization": field})
    assert answer.status == 200, answer
    assert authority.refresh(Grant(client=spelt, answer=answer)).status == 200


@clause("rfc6749:2.3.1:not-in-uri", "oauth-2.1:2.4.1:not-in-uri")
def test_a_secret_in_the_url_proves_nothing(authority: Authority) -> None:
    client = authority.confidential
    code = authority.code(client=client)
    query = encoded({"client_id": client.id, "client_secret": client.secret})
    fields = {"grant_type": "authorization_code", "code": code.code, "code_verifier": code.verifier}
    answer = authority.form(f"{authority.endpoint('token')}?{query}", {**fields, "client_id": client.id})
    assert nothing_given(answer), answer
    assert authority.redeem(code).status == 200


# Clients that act for themselves


@clause(
    "rfc6749:4.4.2:grant-type",
    "rfc6749:4.4.3:no-refresh-token",
    "oauth-2.1:4.2.1:response",
    "oauth-2.1:4.2.1:authenticated",
    "mcp-authorization:overview:grants-that-fit",
)
def test_a_client_of_the_operator_gets_an_access_token_and_no_refresh_token(authority: Authority) -> None:
    answer = authority.for_itself(authority.service)
    assert answer.status == 200, answer
    assert "refresh_token" not in answer.json
    assert answer.json["token_type"].lower() == "bearer"
    assert "no-store" in (answer.header("cache-control") or "")
    assert authority.opens(answer.json["access_token"])


@clause("oauth-2.1:4.2.1:scope")
def test_it_may_ask_for_scopes_and_gets_none_that_it_may_not_have(authority: Authority) -> None:
    all_of_them = authority.for_itself(authority.service).json["scope"].split()
    assert authority.for_itself(authority.service, {"scope": all_of_them[0]}).json["scope"] == all_of_them[0]
    answer = authority.for_itself(authority.service, {"scope": "nobody-knows-this"})
    assert refused(answer, "invalid_scope"), answer


@clause("rfc6749:4.4.2:authenticated", "oauth-2.1:4.2.1:authenticated")
@pytest.mark.parametrize("secret", [None, "", "wrong"])
def test_without_its_secret_it_gets_nothing(authority: Authority, secret: str | None) -> None:
    service = authority.service
    liar = Client(id=service.id) if secret is None else Client(id=service.id, secret=secret, method=service.method)
    assert nothing_given(authority.for_itself(liar))
    assert authority.for_itself(service).status == 200


@clause(
    "rfc6749:4.4:confidential-only",
    "rfc6749:5.2:unauthorized-client",
    "oauth-2.1:2.1:confidence",
    "oauth-2.1:3.2.4:unauthorized-client",
    "oauth-2.1:4.2:confidential-only",
)
@pytest.mark.parametrize("kind", ["public", "confidential"])
def test_who_registered_without_asking_anybody_gets_nothing_for_itself(authority: Authority, kind: str) -> None:
    client = authority.client if kind == "public" else authority.confidential
    if "client_credentials" not in authority.metadata.get("grant_types_supported", []):
        raise NotApplicable("the server has no client credentials grant")
    answer = authority.for_itself(client)
    assert refused(answer, "unauthorized_client", *(["invalid_client"] if kind == "public" else [])), answer


@clause(
    "rfc9068:2.2:sub-client",
    "rfc9700:4.15:sub-owner",
    "rfc9700:4.15.1:distinguishable",
    "oauth-2.1:7.4:distinguishable",
)
def test_its_token_can_be_told_from_a_persons(authority: Authority) -> None:
    own = claims_of(authority.for_itself(authority.service).json["access_token"])
    persons = claims_of(authority.grant().access_token)
    assert own["sub"] == own["client_id"] == authority.service.id
    assert persons["sub"] not in {persons["client_id"], own["sub"]}


@clause(
    "rfc9700:2.6:no-confusion",
    "rfc9700:4.15.1:no-confusion",
    "oauth-2.1:7.4:no-confusion",
    "oauth-2.1:2.2:foreign-ids",
)
def test_a_client_cannot_choose_an_id_that_could_be_a_persons(authority: Authority) -> None:
    user, _ = authority.account
    for members in ({"client_id": user}, {"client_name": user}, {"software_id": user}, {"sub": user}):
        answer = authority.register(None, **members)
        assert answer.status == 201, answer
        assert answer.json["client_id"] != user
        assert "sub" not in answer.json
