"""The token endpoint: codes and refresh tokens (RFC 6749 and OAuth 2.1, 3.2, 4.1.3 and 4.3; RFC 7636 section 4.6)."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.authority import FORM, Authority, Fields, Grant, basic, encoded, new_verifier, refused
from conformance.clauses import clause
from conformance.client import JSON, Answer, NotApplicable
from conformance.peer import Site

PLAIN = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")
STRANGE = 'a"b\\c\u00e9\u2028<script>\r\nx: y'


def is_error(answer: Answer, *errors: str) -> bool:
    """Whether an answer is one of these errors, in good form, and gives nothing."""
    return refused(answer, *errors) and not {"access_token", "refresh_token"} & answer.json.keys()


# Success


@clause(
    "rfc6749:5.1:access-token",
    "rfc6749:5.1:token-type",
    "rfc6749:5.1:expires-in",
    "rfc6749:5.1:json",
    "rfc6749:5.1:no-store",
    "rfc6749:5.1:pragma",
    "oauth-2.1:3.2.3:access-token",
    "oauth-2.1:3.2.3:token-type",
    "oauth-2.1:3.2.3:expires-in",
    "oauth-2.1:3.2.3:json",
    "oauth-2.1:3.2.3:no-store",
    "oauth-2.1:3.2.2:client-id",
    "oauth-2.1:10.2:redirect-uri-allowed",
    "oauth-2.1:C.3:no-null",
    "rfc6750:4:example",
    "rfc7636:4.6:equal",
    "mcp-authorization:overview:oauth-2.1",
    "mcp-authorization:overview:grants-that-fit",
    "mcp-authorization:resource:taken",
)
def test_a_code_gives_tokens(authority: Authority) -> None:
    answer = authority.grant().answer
    assert answer.status == 200
    assert answer.content_type == JSON
    assert "no-store" in (answer.header("cache-control") or "")
    assert "no-cache" in (answer.header("pragma") or "")
    got = answer.json
    assert got["token_type"].lower() == "bearer"
    assert isinstance(got["expires_in"], int)
    assert got["expires_in"] > 0
    assert None not in got.values()
    assert authority.opens(got["access_token"])


@clause("rfc6749:5.1:scope", "oauth-2.1:3.2.3:scope", "rfc6749:3.3:told", "oauth-2.1:1.4.1:scope-told")
def test_the_scope_is_told(authority: Authority) -> None:
    if not authority.scope:
        raise NotApplicable("the resource has no scopes")
    granted = set(authority.grant().answer.json["scope"].split())
    assert granted
    assert granted <= set(authority.scope.split())


@clause(
    "rfc6750:5.2:lifetime",
    "rfc6750:5.3:short-lived",
    "oauth-2.1:7.1.3:short-lived",
    "mcp-authorization:security:short-lived",
    "mcp-authorization:refresh:rotation-recommended",
)
def test_an_access_token_lives_an_hour_at_most(authority: Authority) -> None:
    assert 0 < authority.grant().answer.json["expires_in"] <= 3600


@clause("rfc6749:5.1:refresh-token", "oauth-2.1:3.2.3:refresh-token")
def test_a_client_that_registered_for_refresh_tokens_gets_one(authority: Authority) -> None:
    assert authority.grant().refresh_token


@clause("oauth-2.1:3.2.3:refresh-policy", "rfc9700:4.14.2:risk", "mcp-authorization:refresh:own-decision")
def test_a_client_that_did_not_register_for_refresh_tokens_gets_none(authority: Authority) -> None:
    client = authority.registered(grant_types=["authorization_code"])
    answer = authority.grant(client=client).answer
    assert "access_token" in answer.json
    assert "refresh_token" not in answer.json


# The form of the request


@clause("rfc6749:3.2:url-no-fragment", "oauth-2.1:3.2:url-no-fragment")
def test_the_endpoint_has_no_fragment(authority: Authority) -> None:
    assert "#" not in authority.endpoint("token")


def code_fields(authority: Authority) -> dict[str, str | None]:
    """A token request in good order."""
    code = authority.code()
    fields: dict[str, str | None] = {"grant_type": "authorization_code", "code": code.code}
    return {**fields, "code_verifier": code.verifier, "client_id": code.client.id, "resource": authority.resource}


@clause("rfc6749:3.2:post-only", "oauth-2.1:3.2:post-only")
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD"])
def test_only_post_gets_a_token(authority: Authority, method: str) -> None:
    fields = code_fields(authority)
    endpoint = authority.endpoint("token")
    answer = authority.at(f"{endpoint}?{encoded(fields)}").http(method)
    assert answer.status in {400, 404, 405}, answer
    assert b"access_token" not in answer.body
    assert authority.form(endpoint, fields).status == 200


@clause("rfc6749:2.3.1:not-in-uri", "oauth-2.1:2.4.1:not-in-uri", "rfc6749:3.2:post-only")
def test_what_stands_in_the_url_does_not_count(authority: Authority) -> None:
    fields = code_fields(authority)
    endpoint = authority.endpoint("token")
    assert is_error(authority.form(f"{endpoint}?{encoded(fields)}", {}), "invalid_request", "invalid_client")
    assert authority.form(endpoint, fields).status == 200


@clause("oauth-2.1:3.2:form")
def test_json_is_not_taken_for_a_form(authority: Authority) -> None:
    fields = code_fields(authority)
    for kind in (JSON, "text/plain", None):
        body = json.dumps(fields).encode() if kind == JSON else encoded(fields).encode()
        answer = authority.at(authority.endpoint("token")).http("POST", body, {"content-type": kind})
        assert 400 <= answer.status < 500, answer
        assert b"access_token" not in answer.body
    assert authority.form(authority.endpoint("token"), fields).status == 200


@clause("rfc6749:3.2:unknown-ignored", "oauth-2.1:3.2:unknown-ignored")
def test_unknown_parameters_are_ignored(authority: Authority) -> None:
    assert authority.redeem(authority.code(), {"nobody_knows": "this", "nonce": "n"}).status == 200


@clause("rfc6749:3.2:empty-omitted", "oauth-2.1:3.2:empty-omitted")
def test_a_parameter_without_a_value_counts_as_left_out(authority: Authority) -> None:
    code = authority.code()
    for name in ("grant_type", "code"):
        assert is_error(authority.redeem(code, {name: ""}), "invalid_request")
    assert authority.redeem(code, {"resource": "", "scope": "", "client_secret": ""}).status == 200


@clause("rfc6749:3.2:no-repetition", "oauth-2.1:3.2:no-repetition")
@pytest.mark.parametrize("name", ["grant_type", "code", "client_id", "code_verifier", "resource", "redirect_uri"])
def test_a_parameter_that_comes_twice_is_refused(authority: Authority, name: str) -> None:
    code = authority.code()
    usual: dict[str, str] = {
        "grant_type": "authorization_code",
        "code": code.code,
        "client_id": code.client.id,
        "code_verifier": code.verifier,
        "resource": authority.resource,
        "redirect_uri": code.redirect_uri,
    }
    answer = authority.redeem(code, {name: [usual[name], usual[name]]})
    assert is_error(answer, "invalid_request", "invalid_target"), answer
    assert authority.redeem(code).status == 200


# Errors


@clause(
    "rfc6749:4.1.3:grant-type",
    "rfc6749:4.1.3:code-required",
    "rfc6749:4.1.3:client-id-required",
    "rfc6749:3.2.1:client-id",
    "rfc6749:5.2:invalid-request",
    "rfc6749:5.2:status-400",
    "rfc6749:5.2:error",
    "oauth-2.1:3.2.2:grant-type",
    "oauth-2.1:3.2.4:status-400",
    "oauth-2.1:3.2.4:error",
    "oauth-2.1:3.2.4:invalid-request",
    "oauth-2.1:4.1.3:code-required",
    "oauth-2.1:4.1.3:client-id-required",
    "mcp-authorization:errors:status-codes",
)
@pytest.mark.parametrize("name", ["grant_type", "code", "client_id"])
def test_a_request_without_a_necessary_parameter_is_refused(authority: Authority, name: str) -> None:
    code = authority.code()
    answer = authority.redeem(code, {name: None})
    wanted = ("invalid_request", "invalid_client") if name == "client_id" else ("invalid_request",)
    assert is_error(answer, *wanted), answer
    assert answer.status == 400 or "client" in answer.json["error"]
    assert authority.redeem(code).status == 200


@clause("rfc6749:5.2:invalid-client", "oauth-2.1:3.2.4:invalid-client")
@pytest.mark.parametrize("client_id", ["nobody", "a" * 3000, "\u00e9", "https://127.0.0.1/client"])
def test_an_unknown_client_is_refused(authority: Authority, client_id: str) -> None:
    code = authority.code()
    answer = authority.redeem(code, {"client_id": client_id})
    assert is_error(answer, "invalid_client"), answer
    assert authority.redeem(code).status == 200


@clause(
    "rfc6749:5.2:invalid-client-401",
    "oauth-2.1:3.2.4:invalid-client-401",
    "rfc6749:4.1.3:authentication-checked",
    "oauth-2.1:3.2.2:authentication-checked",
)
def test_a_client_that_fails_in_the_header_is_answered_401_with_a_challenge(authority: Authority) -> None:
    code = authority.code()
    fields: Fields = {"grant_type": "authorization_code", "code": code.code, "code_verifier": code.verifier}
    answer = authority.token(None, fields, {"authorization": basic("nobody", "nothing")})
    assert answer.status == 401, answer
    assert is_error(answer, "invalid_client")
    assert (answer.header("www-authenticate") or "").lower().startswith("basic ")


@clause("rfc6749:5.2:unsupported-grant-type", "oauth-2.1:3.2.4:unsupported-grant-type")
@pytest.mark.parametrize("kind", ["nonsense", "CODE", "authorization_code ", "implicit"])
def test_an_unknown_grant_is_refused(authority: Authority, kind: str) -> None:
    code = authority.code()
    assert is_error(authority.redeem(code, {"grant_type": kind}), "unsupported_grant_type")
    assert authority.redeem(code).status == 200


@clause("rfc6749:4.3:password-refused", "rfc6749:10.7:password-avoided", "rfc9700:2.4:no-password-grant")
def test_the_password_grant_is_refused(authority: Authority) -> None:
    user, password = authority.account
    answer = authority.token(authority.client, {"grant_type": "password", "username": user, "password": password})
    assert is_error(answer, "unsupported_grant_type", "unauthorized_client"), answer


@clause(
    "rfc6749:4.1.3:valid",
    "rfc6749:5.2:invalid-grant",
    "rfc6749:10.10:guessing",
    "oauth-2.1:3.2.4:invalid-grant",
    "oauth-2.1:4.1.3:valid",
    "oauth-2.1:7.7:guessing",
)
@pytest.mark.parametrize("wrong", ["nothing", "cut", "longer", "case", "strange"])
def test_a_code_that_is_none_is_refused(authority: Authority, wrong: str) -> None:
    code = authority.code()
    text = {
        "nothing": "nothing",
        "cut": code.code[:-1],
        "longer": code.code + "A",
        "case": code.code.swapcase(),
        "strange": STRANGE,
    }[wrong]
    assert is_error(authority.redeem(code, {"code": text}), "invalid_grant")
    assert authority.redeem(code).status == 200


@clause(
    "rfc6749:4.1.3:same-client",
    "rfc6749:4.1.2:bound",
    "rfc6749:10.5:same-client",
    "rfc6749:5.2:invalid-grant",
    "oauth-2.1:4.1.3:same-client",
    "oauth-2.1:4.1.2:code-bound",
)
def test_a_code_of_another_client_is_refused(authority: Authority) -> None:
    code = authority.code()
    assert is_error(authority.redeem(code, client=authority.other_client), "invalid_grant")
    assert authority.redeem(code).status == 200


@clause(
    "rfc6749:4.1.3:redirect-uri-identical",
    "rfc6749:4.1.2:bound",
    "rfc6749:10.6:redirect-identical",
    "oauth-2.1:4.1.2:code-bound",
    "oauth-2.1:10.2:redirect-uri-enforced",
)
@pytest.mark.parametrize("uri", ["http://127.0.0.1:1/callback", "http://127.0.0.1/callback?", "https://evil.example/"])
def test_another_redirect_uri_is_refused(authority: Authority, uri: str) -> None:
    code = authority.code()
    assert is_error(authority.redeem(code, {"redirect_uri": uri}), "invalid_grant", "invalid_request")
    assert authority.redeem(code).status == 200


@clause("rfc6749:4.1.3:redirect-uri-required")
def test_a_redirect_uri_that_was_named_has_to_be_named_again(authority: Authority) -> None:
    assert is_error(authority.redeem(authority.code(), {"redirect_uri": None}), "invalid_grant", "invalid_request")


@clause(
    "rfc7636:4.1:verifier-form",
    "rfc7636:4.4:associated",
    "rfc7636:4.5:bound-method",
    "rfc7636:4.6:not-equal",
    "rfc7636:4.6:missing",
    "oauth-2.1:4.1.1:pkce-supported",
    "oauth-2.1:4.1.1:pkce-enforced",
    "oauth-2.1:4.1.2:challenge-associated",
    "oauth-2.1:4.1.2:code-bound",
    "oauth-2.1:4.1.3:verifier-required",
    "oauth-2.1:4.1.3:verifier-verified",
    "oauth-2.1:7.5.2:enforced",
    "rfc9700:2.1.1:verifier-enforced",
    "rfc9700:4.5.3:code-injection",
    "rfc9700:4.8.2:challenge-bound",
    "rfc9700:4.8.2:verifier-needed",
)
@pytest.mark.parametrize("wrong", ["missing", "another", "challenge", "cut", "longer", "case", "short", "strange"])
def test_a_verifier_that_does_not_fit_is_refused(authority: Authority, wrong: str) -> None:
    code, other = authority.code(), authority.code()
    verifier = {
        "missing": None,
        "another": other.verifier,
        "challenge": base64.urlsafe_b64encode(code.verifier.encode()).decode(),
        "cut": code.verifier[:-1],
        "longer": code.verifier + "=",
        "case": code.verifier.swapcase(),
        "short": "a",
        "strange": STRANGE,
    }[wrong]
    answer = authority.redeem(code, {"code_verifier": verifier})
    assert is_error(answer, "invalid_grant", *(["invalid_request"] if wrong != "another" else [])), answer
    assert authority.redeem(code).status == 200


@clause(
    "rfc8707:2.2:invalid-target",
    "mcp-authorization:tokens:only-own",
)
@pytest.mark.parametrize("wrong", ["https://elsewhere.example/mcp", "/mcp", "#", "nonsense"])
def test_a_resource_that_was_not_granted_is_refused(authority: Authority, wrong: str) -> None:
    code = authority.code()
    assert is_error(authority.redeem(code, {"resource": wrong}), "invalid_target")
    assert authority.redeem(code).status == 200


@clause("rfc8707:2.2:omitted")
def test_without_a_resource_the_granted_one_is_meant(authority: Authority) -> None:
    grant = Grant(client=authority.client, answer=authority.redeem(authority.code(), {"resource": None}))
    assert authority.opens(grant.access_token)


@clause(
    "rfc6749:5.2:error-characters",
    "rfc6749:5.2:uri-characters",
    "oauth-2.1:3.2.4:error-characters",
    "oauth-2.1:3.2.4:description-characters",
    "oauth-2.1:3.2.4:uri-characters",
)
@pytest.mark.parametrize("name", ["grant_type", "code", "client_id", "redirect_uri", "resource", "code_verifier"])
def test_an_error_stays_within_its_set_of_characters(authority: Authority, name: str) -> None:
    fields = {"grant_type": "authorization_code", "code": "x", "code_verifier": new_verifier(), name: STRANGE}
    answer = authority.token(authority.client, fields)
    assert 400 <= answer.status < 500, answer
    got = answer.json
    assert PLAIN.fullmatch(got["error"])
    assert PLAIN.fullmatch(got.get("error_description", "x"))
    assert not set(got.get("error_uri", "")) & set('"\\ ')
    assert "<script" not in answer.body.decode()


# Once


@clause(
    "rfc6749:4.1.2:second-denied",
    "rfc6749:4.1.2:second-revokes",
    "rfc6749:10.5:short-single",
    "rfc6749:10.5:reuse-revokes",
    "oauth-2.1:4.1.3:once",
    "oauth-2.1:4.1.3:second-denied",
    "oauth-2.1:4.1.3:second-revokes",
    "rfc9700:4.2.4:code-once",
    "rfc9700:4.2.4:code-reuse-revokes",
    "rfc9700:4.3.1:code-once",
)
def test_a_code_gives_tokens_once_and_its_second_use_takes_them_away(authority: Authority) -> None:
    code = authority.code()
    first = Grant(client=code.client, answer=authority.redeem(code))
    assert authority.opens(first.access_token)
    assert is_error(authority.redeem(code), "invalid_grant")
    assert not authority.opens(first.access_token)
    assert is_error(authority.refresh(first), "invalid_grant")


@clause("oauth-2.1:4.1.3:once", "rfc6749:4.1.2:second-denied")
def test_of_many_who_redeem_a_code_at_once_one_gets_tokens(authority: Authority) -> None:
    code = authority.code()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: authority.redeem(code), range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 7


@clause("oauth-2.1:7.5.3:invalid-replay")
@pytest.mark.parametrize("wrong", ["client", "verifier", "redirect_uri"])
def test_a_second_use_that_is_wrong_in_anything_takes_nothing_away(authority: Authority, wrong: str) -> None:
    code = authority.code()
    first = Grant(client=code.client, answer=authority.redeem(code))
    if wrong == "client":
        answer = authority.redeem(code, client=authority.other_client)
    elif wrong == "verifier":
        answer = authority.redeem(code, {"code_verifier": new_verifier()})
    else:
        answer = authority.redeem(code, {"redirect_uri": "http://127.0.0.1/other"})
    assert is_error(answer, "invalid_grant")
    assert authority.opens(first.access_token)
    assert authority.refresh(first).status == 200


# Refresh tokens


@clause(
    "rfc6749:6:new-token",
    "rfc6749:10.4:abuse-detected",
    "oauth-2.1:2.4:unauthenticated-limited",
    "oauth-2.1:4.3:rotation-for-public",
    "oauth-2.1:4.3.2:new-token",
    "rfc9700:2.2.2:rotation",
    "mcp-authorization:refresh:rotated",
    "mcp-authorization:refresh:rotation-recommended",
)
def test_a_refresh_token_is_replaced_when_it_is_used(authority: Authority) -> None:
    grant = authority.grant()
    answer = authority.refresh(grant)
    assert answer.status == 200, answer
    second = Grant(client=grant.client, answer=answer)
    assert second.access_token != grant.access_token
    assert authority.opens(second.access_token)
    assert second.refresh_token != grant.refresh_token
    assert authority.refresh(second).status == 200


@clause("oauth-2.1:4.3.3:old-revoked")
def test_a_replaced_refresh_token_gives_at_most_what_replaced_it(authority: Authority) -> None:
    grant = authority.grant()
    second = Grant(client=grant.client, answer=authority.refresh(grant))
    again = authority.refresh(grant)
    if again.status == 200:  # a retry within a window of grace
        assert again.json["refresh_token"] == second.refresh_token
    else:
        assert is_error(again, "invalid_grant")


@clause("rfc6749:6:required", "oauth-2.1:4.3.1:required")
def test_a_refresh_without_the_token_is_refused(authority: Authority) -> None:
    assert is_error(authority.refresh(authority.grant(), {"refresh_token": None}), "invalid_request")


@clause(
    "rfc6749:6:validated",
    "rfc6749:10.4:no-forgery",
    "rfc6749:5.2:invalid-grant",
    "oauth-2.1:4.3:no-forgery",
    "oauth-2.1:4.3.1:validated",
    "oauth-2.1:3.2.4:invalid-grant",
)
@pytest.mark.parametrize("wrong", ["nothing", "cut", "changed", "access", "strange"])
def test_a_refresh_token_that_is_none_is_refused(authority: Authority, wrong: str) -> None:
    grant = authority.grant()
    token = grant.refresh_token
    text = {
        "nothing": "nothing",
        "cut": token[:-1],
        "changed": token[:-1] + ("A" if token[-1] != "A" else "B"),
        "access": grant.access_token,
        "strange": STRANGE,
    }[wrong]
    assert is_error(authority.refresh(grant, {"refresh_token": text}), "invalid_grant")
    assert authority.refresh(grant).status == 200


@clause("rfc6749:6:bound", "rfc6749:10.4:bound", "oauth-2.1:4.3:bound", "oauth-2.1:4.3:binding-verified")
def test_another_clients_refresh_token_is_refused(authority: Authority) -> None:
    grant = authority.grant()
    assert is_error(authority.refresh(grant, client=authority.other_client), "invalid_grant")
    assert authority.refresh(grant).status == 200


@clause(
    "rfc6749:6:scope-not-wider",
    "rfc6749:5.2:invalid-scope",
    "oauth-2.1:3.2.3:refresh-bound",
    "oauth-2.1:3.2.4:invalid-scope",
    "oauth-2.1:4.3.1:scope-not-wider",
    "rfc9700:4.14.2:bound",
)
def test_a_refresh_cannot_widen_the_scope(authority: Authority) -> None:
    grant = authority.grant()
    granted = grant.answer.json["scope"].split()
    for wide in ("nobody-knows-this", " ".join([*granted, "admin-of-everything"])):
        assert is_error(authority.refresh(grant, {"scope": wide}), "invalid_scope")
    answer = authority.refresh(grant, {"scope": " ".join(granted)})
    assert answer.status == 200, answer
    assert answer.json["scope"].split() == granted


@clause("rfc8707:2.2:invalid-target", "oauth-2.1:3.2.3:refresh-bound", "rfc9700:4.14.2:bound")
def test_a_refresh_cannot_go_to_another_resource(authority: Authority) -> None:
    grant = authority.grant()
    assert is_error(authority.refresh(grant, {"resource": "https://elsewhere.example/mcp"}), "invalid_target")
    assert authority.refresh(grant).status == 200


@clause("rfc6749:6:scope-omitted", "oauth-2.1:4.3.1:scope-omitted")
def test_a_refresh_without_a_scope_has_that_of_the_grant(authority: Authority) -> None:
    grant = authority.grant()
    assert authority.refresh(grant).json["scope"] == grant.answer.json["scope"]


def narrowed(site: Site) -> tuple[Authority, Grant, str]:
    """A grant of several scopes, and the first of them."""
    authority = site.authority if site.accounts is None else site.authority_for("alice")
    grant = authority.grant()
    granted = grant.answer.json["scope"].split()
    if len(granted) < 2:
        raise NotApplicable("the account can be granted one scope alone")
    return authority, grant, granted[0]


@clause("rfc6749:6:same-scope", "oauth-2.1:4.3.3:same-scope")
def test_less_once_is_not_less_for_ever(site: Site) -> None:
    authority, grant, one = narrowed(site)
    first = Grant(client=grant.client, answer=authority.refresh(grant, {"scope": one}))
    assert first.answer.json["scope"] == one
    assert authority.refresh(first).json["scope"] == grant.answer.json["scope"]


@clause("oauth-2.1:4.3.1:grant-active")
def test_a_revoked_grant_gives_nothing_more(authority: Authority) -> None:
    grant = authority.grant()
    revoked = authority.form(authority.endpoint("revocation"), {**grant.client.proof(), "token": grant.refresh_token})
    assert revoked.status == 200, revoked
    assert is_error(authority.refresh(grant), "invalid_grant")


@clause("rfc6749:10.10:guessing", "rfc6749:10.10:more", "oauth-2.1:7.7:guessing", "oauth-2.1:7.7:entropy")
@clause("oauth-2.1:7.7:more-entropy", "rfc6749:10.3:no-forgery", "oauth-2.1:1.4:no-forgery")
def test_refresh_tokens_are_long_and_all_different(authority: Authority) -> None:
    tokens = [authority.grant().refresh_token for _ in range(3)]
    assert len(set(tokens)) == 3
    assert min(map(len, tokens)) * 6 >= 160


@clause("rfc6749:3.2:no-repetition", "oauth-2.1:3.2.4:invalid-request")
@pytest.mark.parametrize("body", [b"\xff\xfe", b"grant_type=%FF", b"&" * 1000, b"a=1&" * 500, b"%00=%00"])
def test_a_body_that_is_no_form_is_refused(authority: Authority, body: bytes) -> None:
    answer = authority.at(authority.endpoint("token")).http("POST", body, {"content-type": FORM})
    assert 400 <= answer.status < 500, answer
    assert answer.json["error"] in {"invalid_request", "invalid_client"}
