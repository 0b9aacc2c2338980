"""The headers that repeat the body (2026-07-28, Streamable HTTP, request metadata)."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Answer, NotApplicable, header_value
from conformance.modern import REVISION, TASKS, call_something
from conformance.peer import Peer, listing

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
NAMED = {"tools/call": "no_such_tool", "prompts/get": "no_such_prompt", "resources/read": "test://no-such-resource"}
FEATURE = {"tools/call": "tools", "prompts/get": "prompts", "resources/read": "resources"}


def named(peer: Peer, method: str, name: str, **headers: str | None) -> Answer:
    """Ask for something by its name, with other headers than usual."""
    member = "uri" if method == "resources/read" else "name"
    spelt = {key.replace("_", "-"): value for key, value in headers.items()}
    return peer.modern().request(method, {member: name}, headers=spelt)


def encoded(text: str, *, start: str = "=?base64?", end: str = "?=") -> str:
    """Give the base64 form of a value."""
    return f"{start}{base64.b64encode(text.encode()).decode()}{end}"


def is_mismatch(answer: Answer) -> bool:
    """Whether the answer is the refusal that headers get."""
    return (answer.status, answer.code) == (400, -32020)


@clause(
    "mcp-2026-07-28:basic/transports/http/headers:version-matches",
    "mcp-2026-07-28:basic/transports/http/headers:version-mismatch-error",
    "mcp-2026-07-28:basic/transports/http/headers:mismatch-body-is-jsonrpc",
)
@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-29", "1900-01-01", "nonsense", ""])
def test_a_version_header_that_differs_is_a_mismatch(peer: Peer, version: str) -> None:
    for method in ("server/discover", "tools/list", "no/such/method"):
        assert is_mismatch(peer.modern().request(method, headers={"mcp-protocol-version": version})), method


@clause("mcp-2026-07-28:basic/transports/http/headers:version-missing-refused")
@pytest.mark.parametrize("method", ["server/discover", "tools/list", "no/such/method"])
def test_a_modern_request_without_the_version_header_is_a_mismatch(peer: Peer, method: str) -> None:
    assert is_mismatch(peer.modern().request(method, headers={"mcp-protocol-version": None}))


@clause(
    "mcp-2026-07-28:basic/transports/http/headers:unknown-method-status",
    "mcp-2026-07-28:basic/error-codes:method-not-found",
)
@pytest.mark.parametrize("method", ["no/such/method", "", "tools", "tools/", "TOOLS/LIST", "rpc.discover", "é"])
def test_an_unknown_method_is_404(peer: Peer, method: str) -> None:
    client = peer.modern()
    answer = client.request(method, headers={} if method.isascii() else {"mcp-method": header_value(method)})
    if method.isascii():
        assert (answer.status, answer.code) == (404, -32601), answer
    else:  # the text allows the base64 form for names alone, so a method like this can't be said in a header
        assert answer.code in {-32601, -32020}, answer


@clause("mcp-2026-07-28:basic/transports/http/headers:method-required")
@pytest.mark.parametrize("method", ["server/discover", "tools/list", "no/such/method"])
def test_a_request_without_the_method_header_is_a_mismatch(peer: Peer, method: str) -> None:
    assert is_mismatch(peer.modern().request(method, headers={"mcp-method": None}))


@clause(
    "mcp-2026-07-28:basic/transports/http/headers:method-matches",
    "mcp-2026-07-28:basic/transports/http/headers:values-case-sensitive",
)
@pytest.mark.parametrize("header", ["tools/call", "SERVER/DISCOVER", "Server/Discover", "server/discover/", "", "*"])
def test_a_method_header_that_differs_is_a_mismatch(peer: Peer, header: str) -> None:
    assert is_mismatch(peer.modern().request("server/discover", headers={"mcp-method": header}))


@clause("mcp-2026-07-28:basic/transports/http/headers:name-required-tools-call")
def test_a_tool_call_without_the_name_header_is_a_mismatch(peer: Peer) -> None:
    for name in ("no_such_tool", "echo"):
        assert is_mismatch(named(peer, "tools/call", name, mcp_name=None))


@clause("mcp-2026-07-28:basic/transports/http/headers:name-required-resources-read")
def test_a_resource_read_without_the_name_header_is_a_mismatch(peer: Peer) -> None:
    peer.needs("resources")
    assert is_mismatch(named(peer, "resources/read", "test://static-text", mcp_name=None))


@clause("mcp-2026-07-28:basic/transports/http/headers:name-required-prompts-get")
def test_a_prompt_without_the_name_header_is_a_mismatch(peer: Peer) -> None:
    peer.needs("prompts")
    assert is_mismatch(named(peer, "prompts/get", "test_simple_prompt", mcp_name=None))


@clause(
    "mcp-2026-07-28:basic/transports/http/headers:name-matches",
    "mcp-2026-07-28:basic/transports/http/headers:values-case-sensitive",
)
@pytest.mark.parametrize("method", NAMED)
def test_a_name_header_that_differs_is_a_mismatch(peer: Peer, method: str) -> None:
    peer.needs(FEATURE[method])
    name = NAMED[method]
    for header in ("other", name.upper(), name + "x", name[:-1], "", f'"{name}"', encoded("other")):
        assert is_mismatch(named(peer, method, name, mcp_name=header)), header


@clause("mcp-2026-07-28:basic/transports/http/headers:name-not-needed-elsewhere")
def test_methods_without_a_name_need_no_name_header(peer: Peer) -> None:
    for method in ("server/discover", "tools/list"):
        assert peer.modern().request(method, headers={"mcp-name": None}).status == 200


@clause("mcp-2026-07-28:basic/transports/http/headers:name-decoded-by-server")
@pytest.mark.parametrize(
    "name", ["no_such_tool", "Hello, 世界", " padded ", "line1\nline2", "=?base64?literal?=", "", "🙂"]
)
def test_a_name_in_the_base64_form_is_decoded_before_it_is_compared(peer: Peer, name: str) -> None:
    assert not is_mismatch(named(peer, "tools/call", name, mcp_name=encoded(name)))
    assert is_mismatch(named(peer, "tools/call", name + "x", mcp_name=encoded(name)))


@clause("mcp-2026-07-28:basic/transports/http/headers:markers-exact")
@pytest.mark.parametrize(
    ("start", "end"), [("=?BASE64?", "?="), ("=?Base64?", "?="), ("=?base64?", ""), ("", "?="), ("=?utf-8?B?", "?=")]
)
def test_markers_of_another_spelling_are_plain_text(peer: Peer, start: str, end: str) -> None:
    value = encoded("no_such_tool", start=start, end=end)
    assert is_mismatch(named(peer, "tools/call", "no_such_tool", mcp_name=value))
    assert not is_mismatch(named(peer, "tools/call", value, mcp_name=value))


@clause("mcp-2026-07-28:basic/transports/http/headers:names-case-insensitive")
def test_header_names_count_in_any_case(peer: Peer) -> None:
    client = peer.modern()
    message = client.message("tools/call", {"name": "no_such_tool"})
    usual = client.usual_headers(message)
    for spell in (str.upper, str.title, str.swapcase):
        lines = {spell(name): value for name, value in usual.items()}
        lines |= {spell("authorization"): f"Bearer {client.token}"}
        assert not is_mismatch(in_spelling(peer, lines))


def in_spelling(peer: Peer, lines: dict[str, str]) -> Answer:
    """Send a call with header names spelt as they are given."""
    client = peer.modern()
    message = client.message("tools/call", {"name": "no_such_tool"}, id=1)
    body = json.dumps(message).encode()
    host = client.url.split("/")[2]
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, "host": host}.items())
    data = f"POST /mcp HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with client.raw(data) as wire:
        wire.head()
        status, headers, content = wire.status, wire.headers, wire.rest()
    return Answer(status, headers, content, [client.received(content, "tools/call")])


@clause("mcp-2026-07-28:basic/transports/http/headers:outer-space-trimmed")
@pytest.mark.parametrize("form", [" {}", "{} ", "  {}\t", "\t{}"])
def test_white_space_around_a_value_does_not_count(peer: Peer, form: str) -> None:
    client = peer.modern()
    headers = {
        "mcp-method": form.format("tools/call"),
        "mcp-name": form.format("no_such_tool"),
        "mcp-protocol-version": form.format(REVISION),
    }
    assert not is_mismatch(client.call("no_such_tool", headers=headers))


@clause("mcp-2026-07-28:basic/transports/http/headers:invalid-characters-refused")
@pytest.mark.parametrize("value", ["é", "世", "a\x7fb", "a\x01b", "a\x00b"])
def test_a_name_with_bytes_that_no_value_may_have_is_refused(peer: Peer, value: str) -> None:
    answer = named(peer, "tools/call", value, mcp_name=value)
    assert answer.status == 400, answer
    # What breaks HTTP itself never becomes a message; the rest is a mismatch.
    assert answer.code in {-32020, None}, answer


@clause("mcp-2026-07-28:basic/transports/http/headers:broken-base64-refused")
@pytest.mark.parametrize("inside", ["SGVsbG8", "SGVs!!!bG8=", "=", "////", "gICA", "SGVs bG8=", "_-_-"])
def test_a_base64_form_that_can_not_be_decoded_is_a_mismatch(peer: Peer, inside: str) -> None:
    for name in ("Hello", f"=?base64?{inside}?="):
        assert is_mismatch(named(peer, "tools/call", name, mcp_name=f"=?base64?{inside}?=")), name


@clause("mcp-2026-07-28:basic/transports/http/headers:method-matches")
@pytest.mark.parametrize("name", ["mcp-method", "mcp-name", "mcp-protocol-version"])
def test_a_mirrored_header_that_comes_twice_is_refused(peer: Peer, name: str) -> None:
    client = peer.modern()
    usual = client.usual_headers(client.message("tools/call", {"name": "echo"}))[name]
    for second in (usual, "other"):
        answer = client.call("echo", {"message": "hi"}, headers={name: [usual, second]})
        assert answer.status == 400, answer


# --- parameters of tools


def annotated(
    schema: Any, path: tuple[str, ...] = (), *, reachable: bool = True
) -> Iterator[tuple[tuple[str, ...], Any, bool]]:
    """Find every annotation in a schema: its path, its schema, and whether properties alone lead to it."""
    if isinstance(schema, list):
        for item in schema:
            yield from annotated(item, path, reachable=False)
    if not isinstance(schema, dict):
        return
    if "x-mcp-header" in schema:
        yield path, schema, reachable
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            for name, inner in value.items():
                yield from annotated(inner, (*path, name), reachable=reachable)
        elif key not in {"default", "examples", "const", "enum"}:
            yield from annotated(value, path, reachable=False)


def mirrored(peer: Peer, kind: str = "string") -> tuple[str, str, str, dict[str, Any]]:
    """Give a tool, its annotated top-level parameter, the header's name, and the other arguments that it needs."""
    for tool in listing(peer.modern(), "tools/list", "tools"):
        schema = tool["inputSchema"]
        for name, inner in schema.get("properties", {}).items():
            if "x-mcp-header" in inner and inner.get("type") == kind:
                others = {key: filler(schema["properties"][key]) for key in schema.get("required", []) if key != name}
                return tool["name"], name, f"mcp-param-{inner['x-mcp-header']}", others
    raise NotApplicable(f"no tool mirrors a parameter of type {kind}")


def filler(schema: dict[str, Any]) -> Any:
    """Some value that a simple schema allows."""
    return {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}.get(schema.get("type", ""), "x")


def call_mirrored(peer: Peer, value: Any, header: str | None, *, kind: str = "string") -> Answer:
    """Call the tool with a value and a header."""
    tool, parameter, name, others = mirrored(peer, kind)
    arguments = others if value is ... else {**others, parameter: value}
    headers = {name: header} | other_headers(peer, tool, others)
    return peer.modern().call(tool, arguments, headers=headers)


def other_headers(peer: Peer, tool: str, arguments: dict[str, Any]) -> dict[str, str | None]:
    """The headers for the arguments that are beside the point."""
    schema = peer.needs_tool(tool)["inputSchema"]["properties"]
    return {
        f"mcp-param-{schema[name]['x-mcp-header']}": str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in arguments.items()
        if "x-mcp-header" in schema[name]
    }


@clause(
    "mcp-2026-07-28:basic/transports/http/param-headers:designated",
    "mcp-2026-07-28:basic/transports/http/param-headers:annotation-not-empty",
    "mcp-2026-07-28:basic/transports/http/param-headers:annotation-is-token",
    "mcp-2026-07-28:basic/transports/http/param-headers:annotation-no-control-characters",
    "mcp-2026-07-28:basic/transports/http/param-headers:annotation-unique",
    "mcp-2026-07-28:basic/transports/http/param-headers:annotation-on-primitives",
    "mcp-2026-07-28:basic/transports/http/param-headers:annotation-reachable",
    "mcp-2026-07-28:basic/transports/http/param-headers:sensitive-not-mirrored",
)
def test_annotations_of_listed_tools_keep_the_rules(peer: Peer) -> None:
    mirrored(peer)
    for tool in listing(peer.modern(), "tools/list", "tools"):
        found = list(annotated(tool["inputSchema"]))
        names = [schema["x-mcp-header"] for _, schema, _ in found]
        assert len(names) == len({name.lower() for name in names}), tool["name"]
        for path, schema, reachable in found:
            assert TOKEN.fullmatch(schema["x-mcp-header"]), path
            assert schema.get("type") in {"string", "integer", "boolean"}, path
            assert reachable, path
            assert not re.search("password|secret|token|api.?key", "/".join(path), re.IGNORECASE), path


@clause("mcp-2026-07-28:basic/transports/http/param-headers:matches-body")
@clause("mcp-2026-07-28:basic/transports/http/param-headers:mismatch-error")
def test_a_parameter_header_must_say_what_the_argument_says(peer: Peer) -> None:
    assert call_mirrored(peer, "here", "here").status == 200
    for header in ("there", "HERE", "her", "here,here", ""):
        assert is_mismatch(call_mirrored(peer, "here", header)), header


@clause("mcp-2026-07-28:basic/transports/http/param-headers:decoded-before-comparing")
@pytest.mark.parametrize("value", ["Hello", "Hello, 世界", " padded ", "line1\nline2", "=?base64?literal?="])
def test_a_parameter_header_in_the_base64_form_is_decoded(peer: Peer, value: str) -> None:
    assert call_mirrored(peer, value, encoded(value)).status == 200
    assert is_mismatch(call_mirrored(peer, value, encoded(value + "x")))


@clause("mcp-2026-07-28:basic/transports/http/param-headers:decoded-before-comparing")
@pytest.mark.parametrize("value", ["SGVsbG8=", "=?base64?SGVsbG8=", "SGVsbG8=?=", "=?BASE64?SGVsbG8=?="])
def test_a_parameter_header_without_both_markers_is_plain(peer: Peer, value: str) -> None:
    assert call_mirrored(peer, value, value).status == 200


@clause("mcp-2026-07-28:basic/transports/http/param-headers:invalid-characters-refused")
@pytest.mark.parametrize("header", ["=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?=", "Hellö"])
def test_a_parameter_header_with_invalid_characters_is_a_mismatch(peer: Peer, header: str) -> None:
    for value in ("Hello", header):
        assert is_mismatch(call_mirrored(peer, value, header)), value


@clause("mcp-2026-07-28:basic/transports/http/param-headers:missing-refused")
@clause("mcp-2026-07-28:basic/transports/http/param-headers:mismatch-error")
def test_an_argument_without_its_header_is_a_mismatch(peer: Peer) -> None:
    assert is_mismatch(call_mirrored(peer, "here", None))


@clause(
    "mcp-2026-07-28:basic/transports/http/param-headers:not-expected-for-absent",
    "mcp-2026-07-28:basic/transports/http/param-headers:not-expected-for-null",
)
@pytest.mark.parametrize("value", [..., None], ids=["absent", "null"])
def test_no_header_is_expected_for_what_is_not_there(peer: Peer, value: object) -> None:
    # The tool may want the argument all the same; but then that is said of the argument and not of the header.
    assert not is_mismatch(call_mirrored(peer, value, None))


@clause("mcp-2026-07-28:basic/transports/http/param-headers:integers-numerically")
@pytest.mark.parametrize("header", ["42", "42.0", "4.2e1", "+42", "042"])
def test_whole_numbers_are_compared_as_numbers(peer: Peer, header: str) -> None:
    answer = call_mirrored(peer, 42, header, kind="integer")
    if header in {"42", "42.0"}:
        assert answer.status == 200, answer
    assert is_mismatch(call_mirrored(peer, 43, header, kind="integer"))


@clause("mcp-2026-07-28:basic/transports/http/param-headers:matches-body")
def test_truth_values_are_written_in_lower_case(peer: Peer) -> None:
    assert call_mirrored(peer, True, "true", kind="boolean").status == 200
    for header in ("false", "True", "1", "yes"):
        assert is_mismatch(call_mirrored(peer, True, header, kind="boolean")), header


@clause("mcp-2026-07-28:basic/transports/http/param-headers:unrecognized-ignored")
def test_a_parameter_header_that_no_tool_named_changes_nothing(peer: Peer) -> None:
    assert call_something(peer.modern(), headers={"mcp-param-nobody": "x"}).status == 200


@clause("mcp-tasks:headers:name-differs-refused")
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_a_task_request_repeats_the_task_id_in_its_name_header(peer: Peer, method: str) -> None:
    peer.needs("tasks")
    client = peer.modern(capabilities={"extensions": {TASKS: {}}})
    params = {"taskId": "no-such-task", "inputResponses": {}}
    for header in (None, "other", "NO-SUCH-TASK"):
        assert is_mismatch(client.request(method, params, headers={"mcp-name": header})), header
    assert client.request(method, params, headers={"mcp-name": "no-such-task"}).code == -32602
    assert client.request(method, params, headers={"mcp-name": encoded("no-such-task")}).code == -32602
