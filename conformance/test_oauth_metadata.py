"""What the server says of itself: RFC 8414, RFC 9728, and the parts of RFC 9207 and MCP that stand there."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.authority import PROTECTED, WELL_KNOWN, Authority, inserted, parse_challenge
from conformance.clauses import clause
from conformance.client import JSON, NotApplicable
from conformance.peer import Site

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "registration_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "jwks_uri",
)
ASSERTIONS = {"private_key_jwt", "client_secret_jwt"}
LISTS = (
    "scopes_supported",
    "response_types_supported",
    "response_modes_supported",
    "grant_types_supported",
    "token_endpoint_auth_methods_supported",
    "revocation_endpoint_auth_methods_supported",
    "introspection_endpoint_auth_methods_supported",
    "code_challenge_methods_supported",
    "protected_resources",
)


def member(document: dict[str, Any], name: str) -> Any:
    """Give a member that needs not be there."""
    if name not in document:
        raise NotApplicable(f"the metadata has no {name}")
    return document[name]


# The authorization server's document


@clause("rfc8414:3:location", "rfc8414:3.1:get", "rfc8414:3.2:status-and-type")
def test_the_document_lies_at_the_well_known_path_of_the_issuer(authority: Authority) -> None:
    answer = authority.get(inserted(authority.issuer, WELL_KNOWN))
    assert answer.status == 200, answer
    assert answer.content_type == JSON
    assert isinstance(answer.json, dict)


@clause("rfc8414:2:issuer", "rfc8414:3.3:issuer-identical", "rfc9207:2.3:issuer-provided")
def test_the_issuer_is_the_identifier_that_the_document_was_found_by(authority: Authority) -> None:
    assert authority.metadata["issuer"] == authority.issuer


@clause("rfc8414:2:issuer-https", "rfc9207:2:iss-https")
def test_the_issuer_is_https(authority: Authority) -> None:
    assert authority.metadata["issuer"].startswith("https://")


@clause("rfc8414:3:https")
def test_the_document_is_reached_by_https(authority: Authority) -> None:
    assert inserted(authority.issuer, WELL_KNOWN).startswith("https://")


@clause("rfc8414:2:jwks-uri-https")
def test_the_keys_are_reached_by_https(authority: Authority) -> None:
    assert member(authority.metadata, "jwks_uri").startswith("https://")


@clause("rfc8414:2:issuer-bare", "rfc9207:2:iss-bare")
def test_the_issuer_has_no_query_and_no_fragment(authority: Authority) -> None:
    issuer = authority.metadata["issuer"]
    assert urlsplit(issuer).netloc, issuer
    assert not set("?#") & set(issuer)


@clause("rfc8414:2:authorization-endpoint", "rfc8414:2:token-endpoint")
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
def test_the_endpoints_of_the_code_grant_are_named(authority: Authority, name: str) -> None:
    parts = urlsplit(authority.metadata[name])
    assert parts.scheme in {"http", "https"}
    assert parts.netloc
    assert not parts.fragment


@clause("rfc8414:2:jwks-uri", "rfc8414:2:jwks-use")
def test_the_keys_are_public_and_say_what_they_are_for_where_that_can_differ(authority: Authority) -> None:
    answer = authority.get(member(authority.metadata, "jwks_uri"))
    assert answer.status == 200, answer
    keys = answer.json["keys"]
    assert keys
    assert not [each for each in keys if set(each) & {"d", "p", "q", "dp", "dq", "qi", "k", "oth"}], "a private key"
    uses = {each.get("use") for each in keys}
    assert "enc" not in uses or None not in uses


@clause("rfc8414:2:registration-endpoint", "rfc7591:3:initial-access-token", "mcp-authorization:registration:dynamic")
def test_the_registration_endpoint_registers(authority: Authority) -> None:
    answer = authority.register()
    assert answer.status in {201, 401}, answer
    assert answer.status == 201 or answer.header("www-authenticate") is not None


@clause("rfc8414:2:scopes-supported")
def test_the_scopes_are_listed(authority: Authority) -> None:
    scopes = authority.metadata["scopes_supported"]
    assert scopes
    assert all(isinstance(each, str) and each and not set(each) & set(' "\\') for each in scopes)


@clause("rfc8414:2:response-types")
def test_the_response_types_are_listed(authority: Authority) -> None:
    types = authority.metadata["response_types_supported"]
    assert isinstance(types, list)
    assert "code" in types


@clause("rfc8414:2:response-modes")
def test_each_response_mode_that_counts_as_supported_is_taken(authority: Authority) -> None:
    modes = authority.metadata.get("response_modes_supported", ["query", "fragment"])
    assert modes
    for mode in modes:
        answer = authority.authorize({"response_mode": mode})
        assert answer.status in {200, 302, 303}, answer
        assert "error=" not in (answer.header("location") or ""), f"{mode}: {answer.headers}"


@clause("rfc8414:2:grant-types", "oauth-2.1:10.1:no-implicit", "rfc9700:2.1.2:no-implicit")
def test_the_grants_that_count_as_supported_do_not_hold_the_implicit_one(authority: Authority) -> None:
    grants = authority.metadata.get("grant_types_supported", ["authorization_code", "implicit"])
    assert "authorization_code" in grants
    assert not {"implicit", "password"} & set(grants)


@clause("rfc8414:2:grant-types")
def test_a_grant_that_is_not_listed_is_refused(authority: Authority) -> None:
    grants = set(authority.metadata.get("grant_types_supported", ["authorization_code", "implicit"]))
    for grant in {"password", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"} - grants:
        answer = authority.token(authority.client, {"grant_type": grant, "username": "u", "password": "p"})
        assert answer.status in {400, 401}, answer
        assert answer.json["error"] in {"unsupported_grant_type", "unauthorized_client", "invalid_client"}


@clause("rfc8414:2:token-auth-methods", "rfc8414:2:revocation-auth-methods")
@pytest.mark.parametrize("endpoint", ["token", "revocation"])
def test_what_a_registered_client_is_told_to_use_counts_as_supported(authority: Authority, endpoint: str) -> None:
    authority.endpoint(endpoint)
    listed = authority.metadata.get(f"{endpoint}_endpoint_auth_methods_supported", ["client_secret_basic"])
    answer = authority.register()
    assert answer.status == 201, answer
    assert answer.json.get("token_endpoint_auth_method", "client_secret_basic") in listed


@clause(
    "rfc8414:2:token-auth-algs",
    "rfc8414:2:token-auth-algs-none",
    "rfc8414:2:revocation-auth-algs",
    "rfc8414:2:introspection-auth-algs",
)
@pytest.mark.parametrize("endpoint", ["token", "revocation", "introspection"])
def test_the_algorithms_of_client_assertions_are_listed_where_there_are_any(
    authority: Authority, endpoint: str
) -> None:
    document = authority.metadata
    assert document["token_endpoint"]
    methods = set(document.get(f"{endpoint}_endpoint_auth_methods_supported", []))
    algorithms = document.get(f"{endpoint}_endpoint_auth_signing_alg_values_supported", [])
    assert algorithms or not methods & ASSERTIONS
    assert "none" not in algorithms


@clause("rfc8414:2:revocation-endpoint")
def test_the_revocation_endpoint_revokes(authority: Authority) -> None:
    answer = authority.form(authority.endpoint("revocation"), {**authority.client.proof(), "token": "unknown"})
    assert answer.status == 200, answer


@clause("rfc8414:2:introspection-endpoint", "rfc8414:2:introspection-auth-methods")
def test_the_introspection_endpoint_is_there_and_its_methods_are_known_ones(authority: Authority) -> None:
    answer = authority.form(authority.endpoint("introspection"), {"token": "unknown"})
    assert answer.status in {400, 401, 403}, answer
    known = {"client_secret_basic", "client_secret_post", "private_key_jwt", "client_secret_jwt", "tls_client_auth"}
    assert set(authority.metadata.get("introspection_endpoint_auth_methods_supported", [])) <= known | {"Bearer"}


@clause(
    "rfc8414:2:code-challenge-methods",
    "oauth-2.1:7.9:detectable",
    "rfc9700:2.1.1:pkce-detectable",
    "rfc9700:4.7.1:pkce-detectable",
    "mcp-authorization:pkce:advertised",
)
def test_pkce_is_announced(authority: Authority) -> None:
    assert "S256" in authority.metadata["code_challenge_methods_supported"]


@clause("rfc8414:3.2:arrays", "rfc8414:3.2:no-empty")
def test_what_has_several_values_is_an_array_and_what_has_none_is_left_out(authority: Authority) -> None:
    document = authority.metadata
    assert len(document) > 3
    assert not {name for name, value in document.items() if value is None or value in ([], {}, "")}
    assert all(isinstance(document[name], list) for name in LISTS if name in document)
    assert all(isinstance(each, str) for name in LISTS for each in document.get(name, []))


@clause("rfc9207:2.3:supported", "mcp-authorization:response:iss-advertised")
def test_the_iss_parameter_is_announced(authority: Authority) -> None:
    assert authority.metadata["authorization_response_iss_parameter_supported"] is True


@clause("rfc9728:4:protected-resources-consistent")
def test_the_resources_of_the_authorization_server_hold_this_one_where_they_are_listed(authority: Authority) -> None:
    assert authority.metadata["issuer"]
    assert authority.resource in authority.metadata.get("protected_resources", [authority.resource])


@clause(
    "rfc6749:2.3.1:tls",
    "rfc6749:3.1:tls",
    "rfc6749:3.2:tls",
    "rfc6749:10.8:not-in-the-clear",
    "rfc6749:10.11:tls-for-people",
    "rfc6750:5.2:confidential-transport",
    "rfc7591:3:tls",
    "rfc9700:2.6:metadata",
    "oauth-2.1:1.4.2:transport",
    "oauth-2.1:1.5:https",
    "oauth-2.1:1.5:transport-security",
    "mcp-authorization:communication:https",
)
def test_every_endpoint_is_https(authority: Authority) -> None:
    named = {name: authority.metadata[name] for name in ENDPOINTS if name in authority.metadata}
    assert len(named) > 1
    assert not {name: url for name, url in named.items() if not url.startswith("https://")}


# The protected resource's document


@clause(
    "rfc9728:3:location", "rfc9728:3.1:get", "rfc9728:3.2:status-and-type", "mcp-authorization:discovery:well-known"
)
def test_the_resource_is_described_at_the_well_known_path(authority: Authority) -> None:
    answer = authority.get(inserted(authority.url, PROTECTED))
    assert answer.status == 200, answer
    assert answer.content_type == JSON
    assert isinstance(answer.json, dict)


@clause("rfc9728:1.2:resource-https")
def test_the_resource_is_https(authority: Authority) -> None:
    assert authority.resource.startswith("https://")


@clause(
    "rfc9728:1.2:resource-no-fragment", "rfc9728:1.2:resource-no-query", "mcp-authorization:resource:canonical-form"
)
def test_the_resource_is_a_plain_url_without_a_slash_at_its_end(authority: Authority) -> None:
    parts = urlsplit(authority.resource)
    assert parts.scheme in {"http", "https"}
    assert parts.netloc == parts.netloc.lower()
    assert not set("?#") & set(authority.resource)
    assert not authority.resource.endswith("/")


@clause("rfc9728:2:resource", "rfc9728:3.3:resource-as-called")
def test_the_document_that_the_challenge_points_to_is_about_the_url_that_was_called(authority: Authority) -> None:
    assert authority.protected["resource"] == authority.url


@clause("rfc9728:3.3:resource-identical", "rfc9728:3.1:no-slash")
@pytest.mark.parametrize("path", ["", "/", "/other", "/mcp/other", "//mcp"])
def test_what_lies_at_other_well_known_paths_is_not_about_this_resource(authority: Authority, path: str) -> None:
    assert authority.get(inserted(authority.url, PROTECTED)).json["resource"] == authority.url
    parts = urlsplit(authority.url)
    asked = f"{parts.scheme}://{parts.netloc}{path}"
    if asked.rstrip("/") == authority.url:
        raise NotApplicable("the resource lies at that very path")
    answer = authority.get(f"{parts.scheme}://{parts.netloc}{PROTECTED}{path}")
    assert answer.status in {200, 404}, answer
    assert answer.status == 404 or answer.json["resource"] == asked


@clause(
    "rfc9728:2:authorization-servers",
    "mcp-authorization:discovery:protected-resource-metadata",
    "mcp-authorization:discovery:authorization-servers",
)
def test_each_authorization_server_has_metadata(authority: Authority) -> None:
    issuers = authority.protected["authorization_servers"]
    assert isinstance(issuers, list)
    assert issuers
    assert [authority.get(inserted(each, WELL_KNOWN)).json["issuer"] for each in issuers] == issuers


@clause("rfc9728:2:jwks-uri-https", "rfc9728:2:jwks-use", "rfc9728:2:signing-algs-none")
def test_keys_and_algorithms_of_the_resource_are_in_order_where_there_are_any(authority: Authority) -> None:
    document = authority.protected
    assert document["resource"]
    assert document.get("jwks_uri", "https://").startswith("https://")
    assert "none" not in document.get("resource_signing_alg_values_supported", [])
    keys = authority.get(document["jwks_uri"]).json["keys"] if "jwks_uri" in document else []
    uses = {each.get("use") for each in keys}
    assert "enc" not in uses or None not in uses


@clause(
    "rfc9728:2:scopes-supported", "mcp-authorization:scopes:no-omnibus", "mcp-authorization:refresh:no-offline-access"
)
def test_the_scopes_of_the_resource_are_listed_and_none_is_for_everything(authority: Authority) -> None:
    scopes = authority.protected["scopes_supported"]
    assert scopes
    assert not {"*", "all", "full-access", "offline_access"} & set(scopes)
    assert not [each for each in scopes if "*" in each]


@clause("rfc9728:2:bearer-methods", "rfc6750:2.3:uri-query-not-used")
def test_a_token_is_sent_in_the_header_and_never_in_a_query(authority: Authority) -> None:
    methods = member(authority.protected, "bearer_methods_supported")
    assert "header" in methods
    assert set(methods) <= {"header", "body"}


@clause("rfc9728:2:resource-name")
def test_the_resource_has_a_name_for_people(authority: Authority) -> None:
    assert isinstance(authority.protected["resource_name"], str)
    assert authority.protected["resource_name"].strip()


@clause("rfc9728:3.2:arrays", "rfc9728:3.2:no-empty")
def test_what_the_resource_has_several_of_is_an_array_and_what_it_has_not_is_left_out(authority: Authority) -> None:
    document = authority.protected
    assert len(document) > 1
    assert not {name for name, value in document.items() if value is None or value in ([], {}, "")}
    assert all(isinstance(value, list) for name, value in document.items() if name.endswith("_supported"))


@clause(
    "rfc9728:5:challenge",
    "rfc9728:5.1:parameter",
    "rfc9728:5.1:with-others",
    "mcp-authorization:discovery:challenge",
    "mcp-authorization:discovery:one-way-at-least",
)
def test_the_challenge_says_where_the_document_is(authority: Authority) -> None:
    assert authority.refusal.status == 401
    scheme, parameters = parse_challenge(authority.refusal.header("www-authenticate") or "")
    assert scheme == "Bearer"
    url = dict(parameters)["resource_metadata"]
    assert authority.get(url).json["resource"] == authority.url


@clause(
    "rfc9700:2.6:metadata-published",
    "mcp-authorization:discovery:authorization-server-metadata",
    "mcp-authorization:discovery:metadata-recommended",
    "mcp-authorization:discovery:as-metadata-or-oidc",
)
def test_the_authorization_server_has_metadata(authority: Authority) -> None:
    assert authority.metadata["token_endpoint"]


@clause("mcp-authorization:discovery:root", "mcp-authorization:discovery:base-url")
def test_the_metadata_lies_at_the_root_of_the_host(site: Site) -> None:
    answer = site.authority.get(f"{site.issuer}{WELL_KNOWN}")
    assert answer.status == 200, answer
    assert answer.json["issuer"] == site.issuer


@clause("mcp-authorization:discovery:no-incomplete-openid")
def test_a_document_of_openid_connect_names_its_pkce_methods_where_there_is_one(authority: Authority) -> None:
    answer = authority.get(f"{authority.issuer}/.well-known/openid-configuration")
    assert answer.status in {200, 404}, answer
    assert answer.status == 404 or "S256" in answer.json["code_challenge_methods_supported"]
