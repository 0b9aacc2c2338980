import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.jsonrpc import Code, Notification, RemoteProtocolError, Request, Response
from tenantry.mcp import route
from tenantry.mcp.revisions import Era
from tenantry.mcp.route import CLIENT_CAPABILITIES, PROTOCOL_VERSION, Legacy, Modern, classify
from tenantry.web import Headers, decode_mirrored

MODERN = "2026-07-28"
META = {PROTOCOL_VERSION: MODERN, CLIENT_CAPABILITIES: {}}


def headers(**fields: str) -> Headers:
    return Headers([(name.replace("_", "-"), value) for name, value in fields.items()])


def modern_headers(method: str, **fields: str) -> Headers:
    return headers(mcp_protocol_version=MODERN, mcp_method=method, **fields)


def call(name: object = "echo", meta: object = META) -> Request:
    return Request(3, "tools/call", {"name": name, "_meta": meta})


def refused(fields: Headers, message: Request | Notification | Response, *, modern_served: bool = True):
    with pytest.raises(RemoteProtocolError) as caught:
        classify(fields, message, modern_served=modern_served)
    return caught.value


def test_a_request_with_metadata_is_modern():
    routed = classify(modern_headers("tools/call", mcp_name="echo"), call(), modern_served=True)

    assert isinstance(routed, Modern)
    assert routed.revision.era is Era.MODERN


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel"])
def test_the_envelope_beats_the_methods_name(method):
    routed = classify(modern_headers(method), Request(1, method, {"_meta": META}), modern_served=True)

    assert isinstance(routed, Modern)


def test_no_header_and_no_metadata_is_legacy():
    routed = classify(headers(), Request(1, "initialize", {}), modern_served=True)

    assert routed == Legacy(message=Request(1, "initialize", {}), header_revision=None)


def test_a_header_that_no_legacy_revision_has_is_modern():
    assert refused(headers(mcp_protocol_version="1900-01-01"), Request(0, "ping", {})).code is Code.INVALID_PARAMS


@pytest.mark.parametrize(
    "meta",
    [
        None,
        {},
        {PROTOCOL_VERSION: MODERN},
        {PROTOCOL_VERSION: 5, CLIENT_CAPABILITIES: {}},
        {PROTOCOL_VERSION: MODERN, CLIENT_CAPABILITIES: []},
        {CLIENT_CAPABILITIES: {}},
    ],
)
def test_metadata_that_is_missing_or_wrong_is_invalid_params_with_the_id(meta):
    error = refused(modern_headers("tools/call", mcp_name="echo"), call(meta=meta))

    assert (error.code, error.id, route.status_of(error, Era.MODERN)) == (Code.INVALID_PARAMS, 3, 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_method": "tools/call", "mcp_name": "echo"},
        {"mcp_protocol_version": "2025-11-25", "mcp_method": "tools/call", "mcp_name": "echo"},
        {"mcp_protocol_version": MODERN, "mcp_name": "echo"},
        {"mcp_protocol_version": MODERN, "mcp_method": "tools/list", "mcp_name": "echo"},
        {"mcp_protocol_version": MODERN, "mcp_method": "TOOLS/CALL", "mcp_name": "echo"},
        {"mcp_protocol_version": MODERN, "mcp_method": "tools/call"},
        {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "purge"},
        {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "=?base64?!!?="},
        {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "=?base64?/w==?="},
        {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "ech\xf6"},
    ],
)
def test_a_header_that_is_missing_or_differs_is_a_mismatch(fields):
    error = refused(headers(**fields), call())

    assert (error.code, error.id, route.status_of(error, Era.MODERN)) == (Code.HEADER_MISMATCH, 3, 400)


def test_a_revision_that_is_not_served_is_named_beside_those_that_are():
    error = refused(
        headers(mcp_protocol_version="2099-01-01", mcp_method="tools/list"),
        Request(0, "tools/list", {"_meta": {PROTOCOL_VERSION: "2099-01-01", CLIENT_CAPABILITIES: {}}}),
    )

    assert error.code is Code.UNSUPPORTED_VERSION
    assert error.data == {
        "supported": ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"],
        "requested": "2099-01-01",
    }
    assert error.id == 0


def test_a_response_can_not_be_posted_in_the_modern_era():
    assert refused(modern_headers("x"), Response(1, {}, None)).code is Code.INVALID_REQUEST


def test_where_only_legacy_is_served_a_modern_request_gets_no_modern_code():
    error = refused(
        modern_headers("server/discover"), Request("p", "server/discover", {"_meta": META}), modern_served=False
    )

    assert (error.code, error.http_status, error.id) == (Code.INVALID_REQUEST, 400, "p")


def test_a_legacy_header_names_the_revision():
    routed = classify(headers(mcp_protocol_version="2025-06-18"), Request(1, "ping", {}), modern_served=True)

    assert isinstance(routed, Legacy)
    assert routed.header_revision is not None
    assert routed.header_revision.name == "2025-06-18"


def test_an_unknown_method_is_404_for_modern_and_200_for_legacy_clients():
    error = RemoteProtocolError(Code.METHOD_NOT_FOUND, "x", id=1)

    assert (route.status_of(error, Era.MODERN), route.status_of(error, Era.LEGACY)) == (404, 200)


@given(st.text())
def test_any_name_goes_through_the_base64_form(name):
    encoded = f"=?base64?{base64.b64encode(name.encode()).decode()}?="

    assert decode_mirrored(encoded) == name


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_a_plain_name_stands_for_itself(name):
    if not name.startswith("=?base64?"):
        assert decode_mirrored(f" {name}\t") == name


@pytest.mark.parametrize("method", ["tools/call", "resources/read"])
def test_a_call_without_its_name_is_left_to_the_method_itself(method):
    routed = classify(modern_headers(method), Request(1, method, {"_meta": META}), modern_served=True)

    assert isinstance(routed, Modern)


def test_an_error_without_an_id_is_never_sent_as_an_answer():
    assert route.status_of(RemoteProtocolError(Code.INVALID_PARAMS, "x"), Era.LEGACY) == 400
