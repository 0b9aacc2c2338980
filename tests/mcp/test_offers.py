"""Resources, prompts, contents and schemas: what authors write, and what of it goes on the wire."""

import pytest
from pydantic import BaseModel

from tenantry import Audio, Contents, Embedded, Image, Message, Text, prompt, resource, tool
from tenantry.mcp import resources, results
from tenantry.mcp.revisions import LEGACY, MODERN

NEWEST = next(iter(MODERN.values()))


@resource("test://fixed", name="fixed", mime_type="text/plain")
def fixed() -> str:
    """A fixed one."""
    return "x"


@resource("test://{kind}/{id}", name="many")
def many(kind: str, id: int) -> str:  # noqa: A002  # the template's variable
    """Many."""
    return f"{kind} {id}"


def test_a_fixed_uri_goes_before_a_template():
    found = resources.find("test://fixed", [many, fixed])

    assert found == (fixed, {})


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        ("test://a/5", {"kind": "a", "id": "5"}),
        ("test://a%2Fb/5", {"kind": "a/b", "id": "5"}),
        ("test://a/b/5", None),
        ("test://a/", None),
        ("TEST://a/5", None),
        ("test://a/5?x", {"kind": "a", "id": "5?x"}),
    ],
)
def test_a_template_matches_whole_segments(uri, variables):
    assert many.match(uri) == variables


def test_a_templates_variables_are_the_functions_parameters():
    with pytest.raises(ValueError, match="variables"):

        @resource("test://{a}")
        def other(b: str) -> str:
            return b


def test_contents_are_text_or_bytes():
    assert fixed.contents("test://fixed", "é")[0].body() == {
        "uri": "test://fixed",
        "mimeType": "text/plain",
        "text": "é",
    }
    assert Contents("u", b"\xff").body() == {"uri": "u", "blob": "/w=="}
    with pytest.raises(TypeError):
        fixed.contents("test://fixed", 5)


@prompt(title="Say hello")
def hello(name: str, loud: str = "no") -> list[Message]:
    """Greet."""
    return [Message("user", Text(f"Hello {name} {loud}")), Message("assistant", Image(b"\0", "image/png"))]


def test_a_prompt_says_which_arguments_it_needs():
    assert results.describe_prompt(hello, NEWEST) == {
        "name": "hello",
        "title": "Say hello",
        "description": "Greet.",
        "arguments": [{"name": "name", "required": True}, {"name": "loud", "required": False}],
    }
    assert "title" not in results.describe_prompt(hello, LEGACY["2025-03-26"])


def test_what_is_no_message_is_refused():
    with pytest.raises(TypeError, match="hello"):
        hello.messages([5])


@tool
def sound() -> Audio:
    """Make a noise."""
    return Audio(b"\0", "audio/wav")


def test_blocks_go_out_as_they_are_where_the_revision_has_them():
    value = ["text", Embedded(Contents("u", "x")), Audio(b"\0", "audio/wav")]
    new = results.of_value(value, tool=sound, revision=NEWEST)["content"]
    old = results.of_value(value, tool=sound, revision=LEGACY["2024-11-05"])["content"]

    assert [block["type"] for block in new] == ["text", "resource", "audio"]
    assert [block["type"] for block in old] == ["text", "resource", "text"]


def test_a_list_of_texts_is_a_value_and_no_row_of_blocks():
    body = results.of_value(["a", "b"], tool=sound, revision=NEWEST)

    assert body["structuredContent"] == ["a", "b"]
    assert len(body["content"]) == 1


class Sum(BaseModel):
    total: int


@tool
def add(a: int, b: int) -> Sum:
    """Add."""
    return Sum(total=a + b)


@pytest.mark.parametrize(
    ("revision", "structured", "described"),
    [("2026-07-28", True, True), ("2025-11-25", True, True), ("2025-06-18", True, True), ("2025-03-26", False, False)],
)
def test_a_model_is_structured_content_by_its_schema_where_the_revision_has_it(revision, structured, described):
    chosen = {**LEGACY, **MODERN}[revision]
    body = results.of_value(Sum(total=3), tool=add, revision=chosen)

    assert (body.get("structuredContent") == {"total": 3}) is structured
    assert ("outputSchema" in results.describe_tool(add, chosen)) is described
    assert body["content"][0]["text"] == '{"total": 3}'


def test_a_result_that_does_not_fit_its_schema_is_refused():
    with pytest.raises(ValueError, match="output schema"):
        results.of_value({"total": "3"}, tool=add, revision=NEWEST)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:1/schema.json", "https://example.com/s", "file:///etc/passwd"])
def test_a_schema_that_reaches_outside_is_refused_and_nothing_is_fetched(reference):
    with pytest.raises(ValueError, match=r".+"):
        tool(input_schema={"type": "object", "properties": {"a": {"$ref": reference}}})(lambda arguments: "")


def test_no_argument_makes_a_pattern_run_away():
    @tool(input_schema={"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}})
    def match(arguments: dict[str, object]) -> str:
        return str(arguments)

    problem = next(match._input.iter_errors({"a": "a" * 50_000 + "!"}), None)

    assert problem is not None  # a matcher that backtracks does not get here before the test's timeout


def test_audio_in_a_prompt_is_base64_with_its_media_type():
    body = Message("user", Audio(b"\0", "audio/wav")).body()

    assert body == {"role": "user", "content": {"type": "audio", "data": "AA==", "mimeType": "audio/wav"}}


@pytest.mark.parametrize(("pair", "fits"), [([1, "a"], True), (["a", 1], False), ([1, "a", 2], False)])
def test_a_schema_without_a_dialect_is_read_as_2020_12(pair, fits):
    items = {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}

    @tool(input_schema={"type": "object", "properties": {"pair": items}})
    def take(arguments: dict[str, object]) -> str:
        return str(arguments)

    assert (next(take._input.iter_errors({"pair": pair}), None) is None) is fits
