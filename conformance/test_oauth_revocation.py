"""Revocation (RFC 7009) and introspection (RFC 7662) of tokens."""

import pytest

from conformance.authority import Authority, Client, Fields, Grant, claims_of, encoded, refused
from conformance.clauses import clause
from conformance.client import JSON, Answer

STRANGE = 'a"b\\c\u00e9\u2028<script>\r\nx: y'


def revoke(authority: Authority, fields: Fields, client: Client | None = None) -> Answer:
    """Ask for a revocation as a client."""
    client = client or authority.client
    return authority.form(authority.endpoint("revocation"), {**client.proof(), **fields}, client.headers())


def is_dead(authority: Authority, grant: Grant) -> bool:
    """Whether nothing comes of a grant any more."""
    return not authority.opens(grant.access_token) and refused(authority.refresh(grant), "invalid_grant")


# Revocation


@clause("rfc7009:2:url-rules")
def test_the_endpoint_has_no_fragment(authority: Authority) -> None:
    assert "#" not in authority.endpoint("revocation")


@clause("rfc7009:2:https")
def test_the_endpoint_is_https(authority: Authority) -> None:
    assert authority.endpoint("revocation").startswith("https://")


@clause(
    "rfc7009:2:refresh-tokens",
    "rfc7009:2:post",
    "rfc7009:2.1:at-once",
    "rfc7009:2.1:related-access-tokens",
    "rfc7009:2.2:200",
)
def test_with_a_refresh_token_go_the_access_tokens_of_its_grant(authority: Authority) -> None:
    grant = authority.grant()
    assert authority.opens(grant.access_token)
    assert revoke(authority, {"token": grant.refresh_token}).status == 200
    assert is_dead(authority, grant)


@clause("rfc7009:2:access-tokens", "rfc7009:2.1:related-refresh-token", "rfc7009:2.1:at-once")
def test_an_access_token_can_be_revoked(authority: Authority) -> None:
    grant = authority.grant()
    assert revoke(authority, {"token": grant.access_token}).status == 200
    assert is_dead(authority, grant)


@clause("rfc7009:2.1:at-once", "oauth-2.1:4.3.1:grant-active")
def test_a_refreshed_grant_dies_as_a_whole(authority: Authority) -> None:
    first = authority.grant()
    second = Grant(client=first.client, answer=authority.refresh(first))
    assert revoke(authority, {"token": second.refresh_token}).status == 200
    assert is_dead(authority, second)
    assert is_dead(authority, first)


@clause("rfc7009:2.1:hint-wrong", "rfc7009:2.1:hint-ignored")
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nobody_knows", "a" * 5000])
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_hint_keeps_no_token_from_being_found(authority: Authority, kind: str, hint: str) -> None:
    grant = authority.grant()
    answer = revoke(authority, {"token": getattr(grant, kind), "token_type_hint": hint})
    assert answer.status == 200, answer
    assert is_dead(authority, grant)


@clause("rfc7009:2.2:200-unknown", "rfc7009:5:denial-of-service")
@pytest.mark.parametrize("token", ["nothing", "a.b.c", STRANGE, "A" * 12_000])
def test_an_unknown_token_is_answered_200(authority: Authority, token: str) -> None:
    answer = revoke(authority, {"token": token})
    assert answer.status == 200, answer


@clause("rfc7009:2.2:200-unknown")
def test_a_second_revocation_is_answered_200_too(authority: Authority) -> None:
    grant = authority.grant()
    assert [revoke(authority, {"token": grant.refresh_token}).status for _ in range(2)] == [200, 200]


@clause("rfc7009:2.1:token-missing", "rfc7009:2.2.1:errors")
@pytest.mark.parametrize("token", [None, "", ["a", "b"]])
def test_without_one_token_the_request_is_malformed(authority: Authority, token: str | list[str] | None) -> None:
    answer = revoke(authority, {"token": token})
    assert answer.status == 400, answer
    assert refused(answer, "invalid_request")


@clause("rfc7009:2.1:client-identified", "rfc7009:2.2.1:errors")
@pytest.mark.parametrize("client_id", [None, "", "nobody"])
def test_a_client_that_is_none_revokes_nothing(authority: Authority, client_id: str | None) -> None:
    grant = authority.grant()
    answer = revoke(authority, {"token": grant.refresh_token, "client_id": client_id})
    assert refused(answer, "invalid_client", "invalid_request"), answer
    assert authority.opens(grant.access_token)


@clause("rfc7009:2.1:issued-to-client")
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_token_of_another_client_is_not_revoked(authority: Authority, kind: str) -> None:
    grant = authority.grant()
    answer = revoke(authority, {"token": getattr(grant, kind)}, authority.other_client)
    assert answer.status in {200, 400, 401, 403}, answer
    assert authority.opens(grant.access_token)
    assert authority.refresh(grant).status == 200


@clause("rfc7009:2.1:other-client-told")
def test_who_names_a_token_of_another_client_is_told_so(authority: Authority) -> None:
    grant = authority.grant()
    answer = revoke(authority, {"token": grant.refresh_token}, authority.other_client)
    assert refused(answer, "invalid_grant", "invalid_client", "unauthorized_client"), answer


@clause("rfc7009:2.1:client-authenticated")
@pytest.mark.parametrize("secret", ["wrong", ""])
def test_a_confidential_client_without_its_proof_revokes_nothing(authority: Authority, secret: str) -> None:
    client = authority.confidential
    grant = authority.grant(client=client)
    liar = Client(id=client.id, secret=secret, method=client.method)
    assert refused(revoke(authority, {"token": grant.refresh_token}, liar), "invalid_client", "invalid_request")
    assert authority.opens(grant.access_token)
    assert revoke(authority, {"token": grant.refresh_token}, client).status == 200
    assert not authority.opens(grant.access_token)


@clause("rfc7009:2:post")
def test_a_get_revokes_nothing(authority: Authority) -> None:
    grant = authority.grant()
    query = encoded({**grant.client.proof(), "token": grant.refresh_token})
    answer = authority.get(f"{authority.endpoint('revocation')}?{query}")
    assert answer.status in {400, 404, 405}, answer
    assert authority.opens(grant.access_token)


# Introspection


def introspect(authority: Authority, fields: Fields, caller: Client | None = None) -> Answer:
    """Ask about a token as a confidential client."""
    endpoint = authority.endpoint("introspection")
    caller = caller or authority.confidential
    return authority.form(endpoint, {**caller.proof(), **fields}, caller.headers())


def about(authority: Authority, grant: Grant, token: str) -> Answer:
    """Ask about a token as the client that it belongs to."""
    return introspect(authority, {"token": token}, grant.client)


@clause(
    "rfc7662:2.1:post",
    "rfc7662:2.2:json",
    "rfc7662:2.2:active",
    "rfc7662:2.2:scope",
    "rfc7662:2.2:client-id",
    "rfc7662:2.2:token-type",
    "rfc7662:2.2:times",
    "rfc7662:2.2:sub",
    "rfc7662:2.2:aud",
    "rfc7662:2.2:iss",
    "rfc7662:2.2:jti",
    "mcp-authorization:overview:confidential-clients",
)
def test_an_active_token_is_told_to_who_may_know(authority: Authority) -> None:
    authority.endpoint("introspection")
    grant = authority.grant(client=authority.confidential)
    answer = about(authority, grant, grant.access_token)
    assert answer.status == 200, answer
    assert answer.content_type == JSON
    told = answer.json
    assert told["active"] is True
    assert told["scope"].split() == grant.answer.json["scope"].split()
    assert told["client_id"] == grant.client.id
    assert told.get("token_type", "Bearer").lower() == "bearer"
    claims = claims_of(grant.access_token)
    for name in ("exp", "iat", "sub", "aud", "iss", "jti"):
        assert told.get(name, claims[name]) == claims[name], name
    assert {"exp", "sub", "aud", "iss"} <= told.keys()
    assert type(told["exp"]) is int


@clause("rfc7662:2.2:active", "rfc7662:2.1:hint-wrong", "rfc7662:2.1:hint-ignored")
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nobody_knows"])
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_hint_keeps_no_token_from_being_known(authority: Authority, kind: str, hint: str) -> None:
    authority.endpoint("introspection")
    grant = authority.grant(client=authority.confidential)
    answer = introspect(authority, {"token": getattr(grant, kind), "token_type_hint": hint}, grant.client)
    assert answer.json["active"] is True


@clause(
    "rfc7662:2.2:inactive",
    "rfc7662:2.2:inactive-bare",
    "rfc7662:2.3:not-an-error",
    "rfc7662:4:signature",
)
@pytest.mark.parametrize("kind", ["nothing", "jwt", "changed", "strange", "code", "long"])
def test_a_token_that_is_none_is_inactive_and_no_more_is_said(authority: Authority, kind: str) -> None:
    authority.endpoint("introspection")
    code = authority.code(client=authority.confidential)
    token = Grant(client=code.client, answer=authority.redeem(code)).access_token
    head, claims, signature = token.split(".") if token.count(".") == 2 else (token, "", "")
    asked = {
        "nothing": "nothing",
        "jwt": "e30.e30.",
        "changed": f"{head}.{claims}.{signature[:-8]}AAAAAAAA",
        "strange": STRANGE,
        "code": code.code,
        "long": "A" * 12_000,
    }[kind]
    answer = introspect(authority, {"token": asked}, code.client)
    assert answer.status == 200, answer
    assert answer.json == {"active": False}


@clause("rfc7662:4:revoked", "rfc7662:2.2:inactive-bare", "rfc7662:2.2:inactive")
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_a_revoked_token_is_inactive(authority: Authority, kind: str) -> None:
    authority.endpoint("introspection")
    grant = authority.grant(client=authority.confidential)
    assert about(authority, grant, getattr(grant, kind)).json["active"] is True
    assert revoke(authority, {"token": grant.refresh_token}, grant.client).status == 200
    assert about(authority, grant, getattr(grant, kind)).json == {"active": False}


@clause("rfc7662:2.1:token-missing")
@pytest.mark.parametrize("token", [None, "", ["a", "b"]])
def test_without_one_token_the_question_is_malformed(authority: Authority, token: str | list[str] | None) -> None:
    assert refused(introspect(authority, {"token": token}), "invalid_request")


@clause(
    "rfc7662:2.1:authorized",
    "rfc7662:2.3:invalid-client",
    "rfc7662:4:caller-authenticated",
    "rfc7662:4:caller-authorized",
    "rfc7662:5:privacy",
)
@pytest.mark.parametrize("kind", ["nobody", "wrong-secret", "public", "bad-token"])
def test_who_does_not_prove_who_they_are_is_told_nothing(authority: Authority, kind: str) -> None:
    endpoint = authority.endpoint("introspection")
    grant = authority.grant()
    known = authority.confidential
    asked: Fields = {"token": grant.access_token}
    if kind == "nobody":
        answer = authority.form(endpoint, asked)
    elif kind == "wrong-secret":
        answer = introspect(authority, asked, Client(id=known.id, secret="wrong", method=known.method))
    elif kind == "public":
        answer = introspect(authority, asked, authority.client)
    else:
        answer = authority.form(endpoint, asked, {"authorization": "Bearer nonsense"})
    assert answer.status in {400, 401, 403}, answer
    assert b"active" not in answer.body
    assert kind != "wrong-secret" or answer.status == 401
    if kind == "wrong-secret" and known.method == "client_secret_basic":
        assert (answer.header("www-authenticate") or "").lower().startswith("basic")


@clause("rfc7662:4:no-get", "rfc7662:5:privacy")
def test_a_get_is_told_nothing(authority: Authority) -> None:
    endpoint = authority.endpoint("introspection")
    caller = authority.confidential
    token = authority.grant(client=caller).access_token
    query = encoded({**caller.proof(), "token": token})
    answer = authority.get(f"{endpoint}?{query}", caller.headers())
    assert answer.status in {400, 401, 404, 405}, answer
    assert b"active" not in answer.body
