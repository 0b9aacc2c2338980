"""The authorization endpoint: who is carried where, with what, and who is not (RFC 6749 and OAuth 2.1, 3.1 and 4.1)."""

import re
from urllib.parse import urlsplit

import pytest

from conformance.authority import REDIRECT_URI, Authority, challenge_of, is_page, new_verifier, sent_back
from conformance.clauses import clause
from conformance.client import Answer, NotApplicable

GOOD = (200, 302, 303)
# RFC 6749 section 4.1.2.1, RFC 8707 section 2, OpenID Connect Core section 3.1.2.6
ERRORS = {
    "invalid_request",
    "unauthorized_client",
    "access_denied",
    "unsupported_response_type",
    "invalid_scope",
    "invalid_target",
    "server_error",
    "temporarily_unavailable",
    "login_required",
    "consent_required",
    "interaction_required",
    "account_selection_required",
    "request_not_supported",
    "request_uri_not_supported",
}
PLAIN = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
STRANGE = 'a"b\\c\u00e9\u2028<script>\r\nx: y'


def goes_on(answer: Answer) -> bool:
    """Whether the request was good enough for the person to be asked, or answered."""
    return answer.status in GOOD and "error=" not in (answer.header("location") or "")


def went_back(answer: Answer) -> dict[str, str]:
    """The parameters of an error that was sent back to the client on this machine."""
    parameters = sent_back(answer)
    assert "error" in parameters, parameters
    assert "code" not in parameters
    return parameters


# Requests in good order


@clause(
    "rfc6749:3.1:get",
    "oauth-2.1:3.1:get",
    "rfc6749:4.1.1:response-type",
    "oauth-2.1:4.1.1:s256-implemented",
    "rfc7636:4.2:s256",
    "rfc9700:2.1.1:pkce-supported",
    "mcp-authorization:overview:oauth-2.1",
    "mcp-authorization:resource:taken",
)
def test_a_request_in_good_order_leads_to_a_page(authority: Authority) -> None:
    answer = authority.authorize()
    assert goes_on(answer), answer


@clause(
    "rfc6749:3.1:authenticated-first",
    "oauth-2.1:3.1:authenticated-first",
    "oauth-2.1:7.12.2:authenticated-first",
    "rfc9700:4.11.2:authenticated-first",
    "rfc6749:10.12:no-silent",
)
@pytest.mark.parametrize("over", [{}, {"prompt": "none"}, {"user": "alice", "sub": "alice", "tenant_id": "tenant-a"}])
def test_nobody_gets_a_code_without_signing_in(authority: Authority, over: dict[str, str]) -> None:
    answer = authority.authorize(over)
    assert answer.status in GOOD, answer
    assert "code=" not in (answer.header("location") or "")


@clause("rfc6749:3.1:url-no-fragment", "oauth-2.1:3.1:url-no-fragment")
def test_the_endpoint_has_no_fragment(authority: Authority) -> None:
    assert "#" not in authority.endpoint("authorization")


@clause("rfc6749:3.1:unknown-ignored", "oauth-2.1:3.1:unknown-ignored")
def test_unknown_parameters_are_ignored(authority: Authority) -> None:
    code = authority.code({"nobody_knows": "this", "acr_values": "high", "nonce": "n"})
    assert authority.redeem(code).status == 200


@clause("rfc6749:3.1:empty-omitted", "oauth-2.1:3.1:empty-omitted")
def test_a_parameter_without_a_value_counts_as_left_out(authority: Authority) -> None:
    assert goes_on(authority.authorize({"scope": "", "prompt": "", "response_mode": "", "request": ""}))
    assert went_back(authority.authorize({"response_type": ""}))["error"] == "invalid_request"
    assert went_back(authority.authorize({"code_challenge": ""}))["error"] == "invalid_request"
    assert "state" not in went_back(authority.authorize({"state": "", "response_type": None}))


@clause("rfc6749:3.1:no-repetition", "oauth-2.1:3.1:no-repetition")
@pytest.mark.parametrize("name", ["response_type", "scope", "state", "code_challenge", "client_id", "redirect_uri"])
def test_a_parameter_that_comes_twice_is_refused(authority: Authority, name: str) -> None:
    usual = {"response_type": "code", "scope": "x", "state": "s", "client_id": authority.client.id}
    usual |= {"redirect_uri": REDIRECT_URI, "code_challenge": challenge_of(new_verifier())}
    answer = authority.authorize({name: [usual[name], usual[name]]})
    if is_page(answer):
        return
    assert went_back(answer)["error"] == "invalid_request"


@clause("oauth-2.1:3.1:no-cors", "rfc9700:2.6:no-cors")
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_pages_of_other_origins_cannot_read_the_endpoint(authority: Authority, method: str) -> None:
    url = authority.authorization_url(authority.client, new_verifier())
    headers = {"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    answer = authority.at(url).http(method, b"", headers)
    assert answer.status in {200, 204, 302, 303, 400, 403, 405}, answer
    assert answer.header("access-control-allow-origin") is None
    assert method == "GET" or answer.status in {403, 404, 405} or answer.header("access-control-allow-methods") is None


# The redirect URI

WRONG_URIS = {
    "another-path": "http://127.0.0.1/callback/",
    "longer-path": "http://127.0.0.1/callback/../callback",
    "case": "http://127.0.0.1/Callback",
    "encoded": "http://127.0.0.1/c%61llback",
    "query": "http://127.0.0.1/callback?next=x",
    "empty-query": "http://127.0.0.1/callback?",
    "fragment": "http://127.0.0.1/callback#x",
    "scheme": "https://127.0.0.1/callback",
    "user": "http://127.0.0.1@evil.example/callback",
    "suffix": "http://127.0.0.1.evil.example/callback",
    "another-loopback": "http://localhost/callback",
    "site": "https://evil.example/callback",
    "backslash": "http://127.0.0.1\\@evil.example/callback",
    "relative": "/callback",
    "script": "javascript:alert(1)",
    "port-and-more": "http://127.0.0.1:80@evil.example/callback",
}


@clause(
    "rfc6749:3.1.2.3:compared",
    "rfc6749:3.1.2.3:simple-comparison",
    "rfc6749:3.1.2.4:no-redirect",
    "rfc6749:3.1.2.4:informed",
    "rfc6749:4.1.2.1:no-redirect",
    "rfc6749:4.1.2.1:informed",
    "rfc6749:10.6:registered",
    "rfc6749:10.14:sanitized",
    "rfc6749:10.15:no-open-redirector",
    "oauth-2.1:2.3.1:exact",
    "oauth-2.1:2.3.5:no-redirect",
    "oauth-2.1:2.3.5:informed",
    "oauth-2.1:4.1.1:redirect-validated",
    "oauth-2.1:4.1.1:redirect-equal",
    "oauth-2.1:4.1.2.1:no-redirect",
    "oauth-2.1:4.1.2.1:informed",
    "oauth-2.1:7.11:sanitized",
    "oauth-2.1:7.12.2:precautions",
    "rfc9700:2.1:exact",
    "rfc9700:2.1:no-open-redirector",
    "rfc9700:4.1.3:equal",
    "rfc9700:4.11.2:no-redirect",
    "mcp-authorization:redirection:exact",
    "mcp-authorization:redirection:untrusted",
    "mcp-security:consent:redirect-exact",
    "rfc7591:3.2.1:registered-is-used",
)
@pytest.mark.parametrize("uri", WRONG_URIS.values(), ids=WRONG_URIS)
def test_a_redirect_uri_that_is_not_registered_ends_in_a_page(authority: Authority, uri: str) -> None:
    answer = authority.authorize({"redirect_uri": uri})
    assert is_page(answer), answer
    assert uri not in answer.body.decode()


@clause(
    "oauth-2.1:2.3.1:loopback-port",
    "oauth-2.1:4.1.1:loopback-port",
    "oauth-2.1:8.4.2:any-port",
    "oauth-2.1:8.5.4:loopback-http",
    "rfc9700:2.1:exact",
    "rfc9700:4.1.3:localhost-port",
)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_only_the_port_of_a_loopback_uri_may_differ(authority: Authority, host: str) -> None:
    client = authority.registered(redirect_uris=[f"http://{host}/callback"])
    for port in (1, 8765, 65535):
        assert goes_on(authority.authorize({"redirect_uri": f"http://{host}:{port}/callback"}, client=client))
    for wrong in (f"http://{host}:8765/other", f"http://{host}:x/callback", f"http://{host}:99999/callback"):
        assert is_page(authority.authorize({"redirect_uri": wrong}, client=client))


@clause("rfc9700:2.1:exact", "oauth-2.1:2.3.1:exact", "rfc6749:3.1.2.3:simple-comparison")
@pytest.mark.parametrize(
    "uri", ["https://client.example:8443/callback", "https://CLIENT.example/callback", "https://client.example/callbac"]
)
def test_no_port_of_a_site_may_differ(authority: Authority, uri: str) -> None:
    assert goes_on(authority.authorize(client=authority.site_client))
    assert is_page(authority.authorize({"redirect_uri": uri}, client=authority.site_client))


@clause("rfc6749:4.1.1:redirect-uri-optional", "oauth-2.1:2.3.2:single-optional")
def test_a_client_with_one_redirect_uri_need_not_name_it(authority: Authority) -> None:
    assert goes_on(authority.authorize({"redirect_uri": None}, client=authority.site_client))


@clause(
    "rfc6749:3.1.2.2:several",
    "rfc6749:3.1.2.3:several-required",
    "oauth-2.1:2.3.1:several",
    "oauth-2.1:2.3.2:several-required",
)
def test_a_client_with_several_redirect_uris_has_to_name_one(authority: Authority) -> None:
    uris = ["http://127.0.0.1/one", "http://127.0.0.1/two"]
    client = authority.registered(redirect_uris=uris)
    for each in uris:
        assert goes_on(authority.authorize({"redirect_uri": each}, client=client))
    assert is_page(authority.authorize({"redirect_uri": None}, client=client))


@clause("rfc6749:3.1.2:query-kept", "oauth-2.1:2.3:query-kept")
def test_a_query_in_the_redirect_uri_is_kept(authority: Authority) -> None:
    client = authority.registered(redirect_uris=["http://127.0.0.1/callback?a=1&b=%20"])
    location = authority.authorize({"response_type": None}, client=client).header("location") or ""
    assert location.startswith("http://127.0.0.1/callback?a=1&b=%20&"), location
    assert "error=invalid_request" in location


@clause(
    "rfc6749:4.1.1:client-id",
    "rfc6749:4.1.2.1:no-redirect",
    "oauth-2.1:4.1.2.1:no-redirect",
    "rfc9700:4.11.2:no-redirect",
)
@pytest.mark.parametrize("client_id", [None, "", "nobody", "a" * 3000, "'; --", "\u0000"])
def test_a_client_that_is_none_ends_in_a_page(authority: Authority, client_id: str | None) -> None:
    answer = authority.authorize({"client_id": client_id})
    assert is_page(answer), answer


# Errors that go back


@clause(
    "rfc6749:3.1.1:response-type-missing",
    "oauth-2.1:4.1.1:response-type-missing",
    "rfc6749:4.1.2.1:error",
    "oauth-2.1:4.1.2.1:error",
)
def test_a_missing_response_type_goes_back(authority: Authority) -> None:
    assert went_back(authority.authorize({"response_type": None}))["error"] == "invalid_request"


@clause(
    "rfc6749:3.1.1:response-type-unknown",
    "rfc6749:4.2:implicit-refused",
    "oauth-2.1:4.1.1:response-type-unknown",
    "oauth-2.1:10.1:no-implicit",
    "rfc9700:2.1.2:no-implicit",
)
@pytest.mark.parametrize("kind", ["token", "code token", "id_token", "none", "CODE", "code code", "nonsense"])
def test_an_unknown_response_type_goes_back(authority: Authority, kind: str) -> None:
    assert went_back(authority.authorize({"response_type": kind}))["error"] == "unsupported_response_type"


@clause(
    "rfc7636:4.4.1:required",
    "rfc7636:4.4.1:required-explained",
    "oauth-2.1:4.1.1:pkce-enforced",
    "oauth-2.1:4.1.2.1:challenge-required",
    "oauth-2.1:7.5.2:enforced",
    "mcp-authorization:pkce:required",
)
def test_a_request_without_a_challenge_goes_back(authority: Authority) -> None:
    back = went_back(authority.authorize({"code_challenge": None, "code_challenge_method": None}))
    assert back["error"] == "invalid_request"
    assert "challenge" in back.get("error_description", "") or "error_uri" in back


@clause("oauth-2.1:4.1.2.1:challenge-required-confidential", "mcp-authorization:pkce:required")
def test_a_confidential_client_cannot_do_without_a_challenge(authority: Authority) -> None:
    over = {"code_challenge": None, "code_challenge_method": None}
    assert went_back(authority.authorize(over, client=authority.confidential))["error"] == "invalid_request"


@clause(
    "rfc7636:4.4.1:transform",
    "rfc7636:4.4.1:transform-explained",
    "rfc7636:4.3:default-plain",
    "rfc7636:7.2:plain-not-used",
    "oauth-2.1:4.1.1:plain-default",
    "oauth-2.1:4.1.2.1:transform",
    "oauth-2.1:4.1.2.1:transform-explained",
)
@pytest.mark.parametrize("method", ["plain", None, "s256", "S512", "S256 "])
def test_another_method_than_s256_goes_back(authority: Authority, method: str | None) -> None:
    back = went_back(authority.authorize({"code_challenge_method": method}))
    assert back["error"] == "invalid_request"
    assert "method" in back.get("error_description", "") or "error_uri" in back


@clause("rfc7636:4.2:challenge-form")
@pytest.mark.parametrize("challenge", ["short", "a" * 42, "a" * 44, "a" * 129, "!" * 43, "a" * 42 + "="])
def test_a_challenge_that_s256_cannot_give_goes_back(authority: Authority, challenge: str) -> None:
    assert went_back(authority.authorize({"code_challenge": challenge}))["error"] == "invalid_request"


@clause(
    "rfc8707:2:invalid-target",
    "rfc8707:2:absolute",
    "rfc8707:2:no-fragment",
    "rfc8707:2.1:invalid-target-redirect",
    "mcp-authorization:tokens:only-own",
)
@pytest.mark.parametrize("kind", ["elsewhere", "parent", "child", "fragment", "relative", "nonsense"])
def test_a_resource_that_is_not_ours_goes_back(authority: Authority, kind: str) -> None:
    ours = authority.resource
    wrong = {
        "elsewhere": "https://elsewhere.example/mcp",
        "parent": ours.rpartition("/")[0],
        "child": f"{ours}/more",
        "fragment": f"{ours}#x",
        "relative": "/mcp",
        "nonsense": "\u00e9 \x00",
    }[kind]
    assert went_back(authority.authorize({"resource": wrong}))["error"] == "invalid_target"


@clause("rfc8707:2.1:omitted")
def test_without_a_resource_there_is_a_default(authority: Authority) -> None:
    assert goes_on(authority.authorize({"resource": None}))


@clause("mcp-authorization:resource:upper-case")
def test_a_resource_in_upper_case_is_taken(authority: Authority) -> None:
    parts = urlsplit(authority.resource)
    upper = f"{parts.scheme.upper()}://{parts.netloc.upper()}{parts.path}"
    assert goes_on(authority.authorize({"resource": upper}))


@clause(
    "rfc6749:4.1.2.1:state",
    "oauth-2.1:4.1.2.1:state",
    "oauth-2.1:4.1.2.1:iss",
    "rfc9207:2:iss-in-error",
    "rfc9207:2.3:iss-is-issuer",
    "rfc9700:2.1:iss",
    "mcp-authorization:response:iss",
    "mcp-security:mix-up:iss",
)
@pytest.mark.parametrize("state", ["s", STRANGE, "&code=x&iss=y", "%2B+ %", "\U0001f600" * 100])
def test_an_error_comes_back_with_the_state_and_the_issuer(authority: Authority, state: str) -> None:
    back = went_back(authority.authorize({"response_type": None, "state": state}))
    assert back["state"] == state
    assert back["iss"] == authority.issuer


@clause(
    "rfc6749:4.1.2.1:error",
    "rfc6749:4.1.2.1:error-characters",
    "rfc6749:4.1.2.1:uri-characters",
    "oauth-2.1:4.1.2.1:error",
    "oauth-2.1:4.1.2.1:error-characters",
    "oauth-2.1:3.1:response-no-repetition",
)
@pytest.mark.parametrize(
    "over",
    [
        {"response_type": STRANGE},
        {"code_challenge": STRANGE},
        {"code_challenge_method": STRANGE},
        {"resource": STRANGE},
        {"response_mode": STRANGE},
        {"prompt": "none " + STRANGE},
        {"request": STRANGE},
        {"prompt": "none"},
    ],
    ids=",".join,
)
def test_an_error_stays_within_its_set_of_characters(authority: Authority, over: dict[str, str]) -> None:
    back = went_back(authority.authorize(over))
    assert back["error"] in ERRORS
    assert PLAIN.fullmatch(back.get("error_description", ""))
    assert not set(back.get("error_uri", "")) & set('"\\ ')


@clause(
    "rfc9700:4.11.2:precautions",
    "rfc9700:4.11.2:automatic-if-trusted",
    "oauth-2.1:7.12.2:automatic-if-trusted",
    "mcp-authorization:redirection:automatic-if-trusted",
)
@pytest.mark.parametrize("over", [{"response_type": "token"}, {"scope": "nobody-knows"}, {"prompt": "none"}])
def test_a_faulty_request_carries_nobody_to_a_site_that_anybody_could_have_registered(
    authority: Authority, over: dict[str, str]
) -> None:
    answer = authority.authorize(over, client=authority.site_client)
    assert answer.status in {200, 400}, answer
    assert answer.header("location") is None
    assert "refresh" not in dict(answer.headers)


@clause("rfc6749:3.1:no-repetition", "oauth-2.1:3.1:no-repetition", "mcp-authorization:errors:status-codes")
def test_a_query_that_is_no_text_is_refused(authority: Authority) -> None:
    url = authority.authorization_url(authority.client, new_verifier())
    answer = authority.get(f"{url}&bad=%FF%FE&worse=%")
    assert goes_on(answer) or is_page(answer) or went_back(answer)["error"] == "invalid_request"
    assert answer.status < 500


# Answers that grant something


@clause(
    "rfc6749:4.1.2:code",
    "rfc6749:4.1.2:state",
    "oauth-2.1:4.1.2:state",
    "oauth-2.1:4.1.2:iss",
    "rfc9207:2:iss-in-response",
    "rfc9207:2.3:iss-is-issuer",
    "mcp-authorization:response:iss",
    "rfc6749:B:utf-8",
    "oauth-2.1:B:utf-8",
)
@pytest.mark.parametrize("state", ["s", STRANGE, "a+b c%20d", "\u00fc\u4e2d\U0001f600"])
def test_a_code_comes_back_with_the_state_and_the_issuer(authority: Authority, state: str) -> None:
    code = authority.code({"state": state})
    assert all(len(values) == 1 for values in code.response.values())
    assert code.response["state"] == [state]
    assert code.response["iss"] == [authority.issuer]
    assert code.code


@clause("rfc6749:4.1.2:state", "oauth-2.1:4.1.2:state")
def test_without_a_state_none_comes_back(authority: Authority) -> None:
    assert "state" not in authority.code({"state": None}).response


@clause("rfc7636:4.4:not-exposed", "oauth-2.1:4.1.2:challenge-hidden")
def test_the_challenge_is_not_in_the_response(authority: Authority) -> None:
    code = authority.code()
    said = str(code.response)
    assert code.code in said
    assert challenge_of(code.verifier) not in said
    assert code.verifier not in said


@clause("rfc6749:10.10:guessing", "rfc6749:10.10:more", "oauth-2.1:7.7:guessing", "oauth-2.1:7.7:entropy")
@clause("oauth-2.1:7.7:more-entropy")
def test_codes_are_long_and_all_different(authority: Authority) -> None:
    codes = [authority.code().code for _ in range(4)]
    assert len(set(codes)) == 4
    # base64url has six bits a character; half of them may be structure that all codes share.
    assert min(len(code) - len(common(codes)) for code in codes) * 6 >= 160


def common(texts: list[str]) -> str:
    """The longest beginning that all texts share."""
    first = min(texts)
    return next((first[:n] for n in range(len(first), 0, -1) if all(each.startswith(first[:n]) for each in texts)), "")


@clause(
    "rfc6749:3.3:ignored",
    "oauth-2.1:1.4.1:scope-ignored",
    "rfc6749:3.3:told",
    "oauth-2.1:1.4.1:scope-told",
    "mcp-security:scopes:subset",
)
def test_a_scope_that_nobody_knows_falls_away_and_the_client_is_told(authority: Authority) -> None:
    if not authority.scope:
        raise NotApplicable("the resource has no scopes")
    grant = authority.grant({"scope": f"{authority.scope.split()[0]} nobody-knows-this"})
    granted = grant.answer.json["scope"].split()
    assert "nobody-knows-this" not in granted
    assert granted


@clause("rfc6749:3.3:default", "oauth-2.1:1.4.1:scope-default")
def test_without_a_scope_there_is_a_default_or_an_error(authority: Authority) -> None:
    answer = authority.authorize({"scope": None})
    if not goes_on(answer):
        assert went_back(answer)["error"] == "invalid_scope"
        return
    assert authority.grant({"scope": None}).answer.json["scope"]


@clause("oauth-2.1:4.1.2.1:invalid-scope")
def test_a_scope_of_which_nothing_can_be_granted_goes_back(authority: Authority) -> None:
    url = authority.authorization_url(authority.client, new_verifier(), {"scope": "nobody-knows-this"})
    page = authority.browser.ask(url)
    assert page.target is not None, page.text
    assert "error=invalid_scope" in page.target
    assert page.target.startswith(REDIRECT_URI)
