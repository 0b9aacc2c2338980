import datetime as dt
from typing import Annotated, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from tenantry import CallContext, tool
from tenantry.identity import Principal
from tenantry.mcp.catalogue import Catalogue, page
from tenantry.mcp.context import Channel
from tenantry.mcp.tools import ArgumentError, Tool

CONTEXT = CallContext(
    channel=cast(Channel, None),
    principal=Principal(
        tenant="a", subject="alice", client_id="c", scopes=frozenset(), token_id="t", family_id="f", expires_at=0
    ),
)


@tool(read_only=True)
async def export(
    report_id: Annotated[str, Field(alias="reportId", description="Which one")],
    when: dt.date | None = None,
    count: int = 1,
    *,
    ctx: CallContext,
) -> str:
    """Export it.

    Wholly.
    """
    return f"{report_id} {when} {count} {ctx.tenant}"


def test_types_and_docstring_become_schema_and_description():
    assert export.input_schema["required"] == ["reportId"]
    assert export.input_schema["properties"]["reportId"] == {"type": "string", "description": "Which one"}
    assert export.input_schema["additionalProperties"] is False
    assert "ctx" not in export.input_schema["properties"]
    assert export.description == "Export it.\n\nWholly."
    assert export.annotations == {"readOnlyHint": True}
    assert export.function.is_async


def test_arguments_arrive_as_their_types_with_the_context_beside_them():
    bound = export.bind({"reportId": "r1", "when": "2026-01-02"}, CONTEXT)

    assert bound == {"report_id": "r1", "when": dt.date(2026, 1, 2), "count": 1, "ctx": CONTEXT}


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reportId": 1},
        {"reportId": None},
        {"reportId": "r", "count": "1"},
        {"reportId": "r", "count": 1.5},
        {"reportId": "r", "when": "2026-99-99"},
        {"reportId": "r", "extra": 1},
        {"report_id": "r"},
        {"reportId": "r", "ctx": {}},
    ],
)
def test_arguments_that_do_not_fit_the_schema_are_refused(arguments):
    with pytest.raises(ArgumentError):
        export.bind(arguments, CONTEXT)


def test_a_refusal_is_short_however_long_the_argument():
    with pytest.raises(ArgumentError) as caught:
        export.bind({"reportId": ["x" * 100_000]}, CONTEXT)
    assert len(str(caught.value)) <= 500


def test_a_tool_without_parameters_takes_the_empty_object_alone():
    @tool
    def nothing() -> str:
        return ""

    assert nothing.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}
    with pytest.raises(ArgumentError):
        nothing.bind({"a": 1}, CONTEXT)


def test_a_parameter_without_a_type_is_refused_at_once():
    with pytest.raises(TypeError, match="parameter x"):

        @tool
        def untyped(x) -> str:
            return str(x)


@pytest.mark.parametrize("name", ["", "a b", "é", "a" * 129, "a/b"])
def test_a_name_that_the_protocol_does_not_allow_is_refused(name):
    with pytest.raises(ValueError, match="tool name"):
        tool(name=name or " ")(lambda: "")


def named(name: str) -> Any:
    return tool(name=name)(lambda: "")


def test_the_catalogue_is_in_the_order_of_names_and_has_no_doubles():
    tools: list[Tool] = [named("b"), named("a")]

    assert list(Catalogue(tools)) == ["a", "b"]
    with pytest.raises(ValueError, match="two are named"):
        Catalogue([*tools, named("a")])


@given(st.sets(st.text(min_size=1)), st.integers(1, 5))
def test_pages_together_are_the_whole_list_once(names, size):
    ordered = sorted(names)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        chosen, cursor = page(ordered, cursor, size=size)
        seen += chosen
        if cursor is None:
            break
        assert len(chosen) == size

    assert seen == ordered


@pytest.mark.parametrize("cursor", ["", "x", "e30=", "eyJhZnRlciI6MX0=", 5, [], "é", "=" * 9])
def test_a_cursor_that_we_did_not_make_is_refused(cursor):
    with pytest.raises(ValueError, match="cursor"):
        page(["a"], cursor)


def test_a_tool_may_name_parameters_to_be_recorded_and_no_secret_and_no_other_name():
    def read(path: str, key: SecretStr, pin: Annotated[str, Field(json_schema_extra={"writeOnly": True})]) -> str:
        return path

    assert tool(record=("path",))(read).recorded == ("path",)
    assert tool(read).recorded == ()
    for name in ("key", "pin", "other"):
        with pytest.raises(ValueError, match="record"):
            tool(record=(name,))(read)
