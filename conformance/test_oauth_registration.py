"""Dynamic client registration: RFC 7591, and what OAuth and MCP ask of redirect URIs."""

import json
import re
import time
from typing import Any

import pytest

from conformance.authority import REDIRECT_URI, Authority, is_page
from conformance.clauses import clause
from conformance.client import JSON, Answer, NotApplicable

SAFE_SECRETS = 22
# RFC 7591 section 3.2.2
ERRORS = {
    "invalid_redirect_uri",
    "invalid_client_metadata",
    "invalid_software_statement",
    "unapproved_software_statement",
}


def is_error(answer: Answer, *errors: str) -> bool:
    """Whether a registration was refused, in good form, and nothing was given."""
    return (
        answer.status == 400
        and answer.content_type == JSON
        and answer.json["error"] in (errors or ERRORS)
        and "client_id" not in answer.json
    )


@pytest.fixture(autouse=True)
def _open(authority: Authority) -> None:
    """Nothing here applies to a server at which nobody can register."""
    authority.endpoint("registration")


# Success


@clause(
    "rfc7591:2:redirect-uris",
    "rfc7591:3:post-json",
    "rfc7591:3:open",
    "rfc7591:3.2.1:201",
    "rfc7591:3.2.1:client-id",
    "rfc7591:3.2.1:all-metadata",
    "rfc7591:3.2.1:no-store",
    "rfc7591:5:public-clients",
    "rfc6749:9:native-no-credentials",
    "oauth-2.1:2:type-recorded",
    "oauth-2.1:8.1:type-recorded",
    "mcp-authorization:registration:dynamic",
    "mcp-authorization:registration:dynamic-still",
)
def test_a_public_client_can_register_and_is_told_all_that_was_registered(authority: Authority) -> None:
    answer = authority.register(client_name="one", redirect_uris=[REDIRECT_URI, "https://client.example/two"])
    assert answer.status == 201, answer
    assert answer.content_type == JSON
    assert "no-store" in (answer.header("cache-control") or "")
    got = answer.json
    assert isinstance(got["client_id"], str)
    assert got["client_id"]
    assert got["client_name"] == "one"
    assert got["redirect_uris"] == [REDIRECT_URI, "https://client.example/two"]
    assert got["token_endpoint_auth_method"] == "none"
    assert set(got["grant_types"]) == {"authorization_code", "refresh_token"}
    assert got.get("response_types", ["code"]) == ["code"]


@clause("rfc7591:3.2.1:no-secret-for-public", "rfc6749:10.1:no-secret-for-native")
@pytest.mark.parametrize("kind", ["native", "web", None])
def test_a_client_that_proves_nothing_gets_no_secret(authority: Authority, kind: str | None) -> None:
    answer = authority.register(application_type=kind, token_endpoint_auth_method="none")
    assert answer.status == 201, answer
    assert not {"client_secret", "client_secret_expires_at"} & answer.json.keys()


@clause(
    "rfc7591:2:auth-method-default",
    "rfc7591:2:grant-types-default",
    "rfc7591:2:response-types-default",
    "rfc7591:2:scope-default",
    "rfc7591:3.1:defaults",
    "rfc7591:3.2.1:all-metadata",
)
def test_what_is_left_out_is_filled_in_and_said(authority: Authority) -> None:
    answer = authority.register(token_endpoint_auth_method=None, grant_types=None, client_name=None)
    assert answer.status == 201, answer
    got = answer.json
    assert got["token_endpoint_auth_method"]
    assert "authorization_code" in got["grant_types"]
    assert got["response_types"] == ["code"]
    assert ("client_secret" in got) == got["token_endpoint_auth_method"].startswith("client_secret")


@clause("rfc7591:3.2.1:client-id-unique", "rfc6749:2.2:id-unique", "oauth-2.1:2.2:id-unique")
def test_different_clients_have_different_ids(authority: Authority) -> None:
    made = [authority.register(client_name=f"different {number}").json["client_id"] for number in range(3)]
    assert len(set(made)) == 3


@clause("rfc7591:3.2.1:issued-at")
def test_the_time_of_registration_is_told_in_whole_seconds(authority: Authority) -> None:
    got = authority.register(client_name="timed").json
    if "client_id_issued_at" not in got:
        raise NotApplicable("the server does not say when the id was given")
    assert isinstance(got["client_id_issued_at"], int)
    assert abs(got["client_id_issued_at"] - time.time()) < 3600


@clause(
    "rfc7591:3.2.1:secret-expires-at",
    "rfc7591:3.2.1:secret-unique",
    "rfc7591:5:secret-shared",
    "rfc6749:2.3.1:brute-force",
    "rfc6749:10.10:guessing",
    "oauth-2.1:2.4:credentials-confidential",
    "oauth-2.1:2.4.1:brute-force",
)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_each_secret_is_another_one_and_its_end_is_told(authority: Authority, method: str) -> None:
    answers = [authority.register(token_endpoint_auth_method=method, client_name="twin") for _ in range(2)]
    assert all(answer.status == 201 for answer in answers), answers
    if any("client_secret" not in answer.json for answer in answers):
        raise NotApplicable(f"the server registers no clients with {method}")
    first, second = (answer.json["client_secret"] for answer in answers)
    assert first != second
    assert min(len(first), len(second)) >= SAFE_SECRETS
    assert all(isinstance(answer.json["client_secret_expires_at"], int) for answer in answers)
    assert all("no-store" in (answer.header("cache-control") or "") for answer in answers)


@clause("oauth-2.1:2:type-recorded", "rfc7591:2:values-replaced")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt", "nonsense"])
def test_a_method_is_registered_as_asked_or_replaced_by_one_that_is_offered_or_refused(
    authority: Authority, method: str
) -> None:
    answer = authority.register(token_endpoint_auth_method=method)
    if answer.status != 201:
        assert is_error(answer, "invalid_client_metadata")
        return
    offered = authority.metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    assert answer.json["token_endpoint_auth_method"] in offered


@clause("rfc7591:2:unknown-ignored", "rfc7591:2.2:tags")
def test_members_that_nobody_knows_are_ignored_and_not_registered(authority: Authority) -> None:
    strange = {"nobody_knows": {"a": [1]}, "client_name#de": "eins", "client_id": "mine", "client_secret": "mine"}
    answer = authority.register(None, **strange)
    assert answer.status == 201, answer
    assert "nobody_knows" not in answer.json
    assert answer.json["client_id"] != "mine"
    assert answer.json.get("client_secret") != "mine"


@clause("rfc7591:2:grant-type-values")
def test_a_grant_that_was_registered_can_be_used(authority: Authority) -> None:
    client = authority.registered(grant_types=["authorization_code", "refresh_token"])
    assert authority.refresh(authority.grant(client=client)).status == 200


@clause("mcp-authorization:registration:application-type-taken")
@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1234/callback", "http://localhost/callback", "http://[::1]/callback"]
)
def test_a_native_client_registers_a_loopback_uri(authority: Authority, uri: str) -> None:
    answer = authority.register(application_type="native", redirect_uris=[uri])
    assert answer.status == 201, answer
    assert answer.json.get("application_type", "native") == "native"


@clause("rfc6749:2.1:no-assumption")
@pytest.mark.parametrize("uris", [[REDIRECT_URI], ["https://client.example/callback"]])
def test_where_a_client_lives_does_not_decide_how_it_proves_itself(authority: Authority, uris: list[str]) -> None:
    answer = authority.register(redirect_uris=uris, token_endpoint_auth_method="none")
    assert answer.status == 201, answer
    assert answer.json["token_endpoint_auth_method"] == "none"


@clause("rfc7591:2.2:as-is")
def test_a_name_comes_back_as_it_is(authority: Authority) -> None:
    name = "\u00dcber <b>\u4e2d\u6587</b> & \U0001f600"
    answer = authority.register(client_name=name)
    assert answer.status == 201, answer
    assert answer.json["client_name"] == name


# Redirect URIs

BAD_URIS = [
    "http://client.example/callback",
    "http://127.0.0.2/callback",
    "http://localhost.evil.example/callback",
    "http://127.0.0.1.evil.example/callback",
    "http://localhost@evil.example/callback",
    "https://client.example/callback#fragment",
    "https://user:pass@client.example/callback",
    "https:///callback",
    "https://",
    "/callback",
    "callback",
    "//client.example/callback",
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "vbscript:x",
    "app:/callback",
    "",
    " https://client.example/callback",
    "https://client.example/call back",
    "https://client.example\\@evil.example/",
    "https://client.example/\r\nx: y",
    "https://*.example/callback",
]


@clause(
    "rfc7591:3.2.2:400",
    "rfc7591:3.2.2:error",
    "rfc7591:3.2.2:description",
    "rfc7591:3.2.2:invalid-redirect-uri",
    "rfc7591:3.2.2:nothing-kept",
    "rfc7591:5:redirects-safe",
    "rfc6749:3.1.2:absolute",
    "rfc6749:3.1.2:no-fragment",
    "rfc6749:3.1.2.1:tls",
    "rfc6749:3.1.2.2:complete",
    "oauth-2.1:1.5:redirects-https",
    "oauth-2.1:2.3:absolute",
    "oauth-2.1:2.3:no-fragment",
    "oauth-2.1:2.3.1:complete",
    "oauth-2.1:2.3.1:private-scheme",
    "rfc9700:2.6:http-redirects",
    "mcp-authorization:communication:redirects-safe",
)
@pytest.mark.parametrize("uri", BAD_URIS)
def test_a_redirect_uri_that_is_not_safe_is_refused(authority: Authority, uri: str) -> None:
    answer = authority.register(redirect_uris=[REDIRECT_URI, uri])
    assert is_error(answer, "invalid_redirect_uri"), answer
    assert re.fullmatch(r"[\x20-\x7e]*", answer.json.get("error_description", ""))


@clause(
    "rfc7591:5:redirects-required",
    "rfc6749:3.1.2.2:registered-public",
    "rfc6749:3.1.2.2:registered-all",
    "rfc6749:10.2:registered-redirect",
    "rfc6749:10.6:registered",
    "oauth-2.1:2.4:other-means",
    "rfc6749:10.1:other-means",
)
@pytest.mark.parametrize("uris", [None, [], "https://client.example/callback", [1], [[REDIRECT_URI]], {}])
def test_without_redirect_uris_there_is_no_registration(authority: Authority, uris: Any) -> None:
    assert is_error(authority.register(redirect_uris=uris), "invalid_redirect_uri", "invalid_client_metadata")


# Other members

BAD_MEMBERS: dict[str, dict[str, Any]] = {
    "grant-types-text": {"grant_types": "authorization_code"},
    "grant-types-numbers": {"grant_types": [1]},
    "name-number": {"client_name": 1},
    "name-list": {"client_name": ["a"]},
    "response-types-text": {"response_types": "code"},
    "contacts-text": {"contacts": "me"},
    "uri-script": {"client_uri": "javascript:alert(1)"},
    "logo-number": {"logo_uri": 7},
    "auth-method-list": {"token_endpoint_auth_method": ["none"]},
    "scope-list": {"scope": ["a"]},
}


@clause("rfc7591:3.2.2:invalid-client-metadata", "rfc7591:3.2.2:nothing-kept", "rfc7591:5:whole-request")
@pytest.mark.parametrize("members", BAD_MEMBERS.values(), ids=BAD_MEMBERS)
def test_a_member_of_the_wrong_kind_is_refused(authority: Authority, members: dict[str, Any]) -> None:
    assert is_error(authority.register(None, **members), "invalid_client_metadata")


@clause("rfc7591:2:jwks-once")
def test_keys_are_not_taken_in_both_ways(authority: Authority) -> None:
    answer = authority.register(jwks={"keys": []}, jwks_uri="https://client.example/jwks")
    if answer.status == 201:
        assert not {"jwks", "jwks_uri"} <= answer.json.keys()
    else:
        assert is_error(answer, "invalid_client_metadata")


@clause("rfc7591:2.1:consistent", "oauth-2.1:10.1:no-implicit", "rfc7591:5:grants-apart")
@pytest.mark.parametrize(
    ("grants", "responses"),
    [
        (["authorization_code"], ["token"]),
        (["implicit"], ["code"]),
        (["implicit"], ["token"]),
        (["refresh_token"], ["code"]),
        (["password"], []),
        (["authorization_code"], []),
    ],
)
def test_grants_and_responses_that_contradict_one_another_are_refused_or_mended(
    authority: Authority, grants: list[str], responses: list[str]
) -> None:
    answer = authority.register(grant_types=grants, response_types=responses)
    if answer.status != 201:
        assert is_error(answer, "invalid_client_metadata")
        return
    got = answer.json
    assert not {"implicit", "password"} & set(got["grant_types"])
    assert ("authorization_code" in got["grant_types"]) == ("code" in got["response_types"])


@clause("oauth-2.1:2.1:confidence")
def test_who_registers_without_asking_anybody_gets_no_client_credentials_grant(authority: Authority) -> None:
    answer = authority.register(
        token_endpoint_auth_method="client_secret_basic", grant_types=["authorization_code", "client_credentials"]
    )
    assert is_error(answer, "invalid_client_metadata") or "client_credentials" not in answer.json["grant_types"]


@clause("rfc7591:3.1.1:statement-ignored", "rfc7591:3.2.2:invalid-software-statement")
@pytest.mark.parametrize("statement", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJtZSJ9."])
def test_a_software_statement_is_refused_or_ignored(authority: Authority, statement: str) -> None:
    answer = authority.register(software_statement=statement)
    if answer.status == 201:
        assert "software_statement" not in answer.json
    else:
        assert is_error(answer, "invalid_software_statement", "unapproved_software_statement")


@clause("rfc7591:3:post-json", "rfc7591:3.2.2:400", "rfc7591:3.2.2:nothing-kept")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"redirect_uris": ["http://127.0.0.1/a"], "redirect_uris": ["http://127.0.0.1/b"]}',
        b"\xff\xfe{}",
        b'{"client_name": "\\ud800", "redirect_uris": ["http://127.0.0.1/a"]}',
        b"[" * 5000,
    ],
)
def test_a_body_that_is_no_object_is_refused(authority: Authority, body: bytes) -> None:
    answer = authority.register_raw(body)
    assert is_error(answer), answer


@clause("rfc7591:3:post-json")
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
def test_only_json_is_taken(authority: Authority, kind: str | None) -> None:
    body = json.dumps({"redirect_uris": [REDIRECT_URI]}).encode()
    answer = authority.register_raw(body, {"content-type": kind})
    assert answer.status in {400, 415}, answer
    assert b"client_id" not in answer.body


@clause("rfc7591:3.2.1:registered-is-used")
def test_what_was_refused_cannot_be_used(authority: Authority) -> None:
    client = authority.registered(redirect_uris=["http://127.0.0.1/only"])
    assert authority.authorize(client=client).status in {200, 302, 303}
    assert is_page(authority.authorize({"redirect_uri": "http://127.0.0.1/another"}, client=client))


@clause("rfc7591:3.2.2:bad-initial-token", "rfc7591:3:initial-access-token")
def test_a_bad_initial_access_token_is_refused_as_such_or_not_looked_at(authority: Authority) -> None:
    open_to_all = authority.register().status == 201
    answer = authority.register({"authorization": "Bearer nonsense"})
    if answer.status == 201:
        assert open_to_all
        return
    assert answer.status == 401, answer
    assert (answer.header("www-authenticate") or "").startswith("Bearer")
