import pytest

from tenantry.jsonrpc import Code, RemoteProtocolError
from tenantry.mcp.param_headers import check, mirrored
from tenantry.web import Headers


def schema(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties}


REGION = {"type": "string", "x-mcp-header": "Region"}
WANTED = mirrored(
    schema(
        region=REGION,
        count={"type": "integer", "x-mcp-header": "Count"},
        dry={"type": "boolean", "x-mcp-header": "Dry"},
        place=schema(city={"type": "string", "x-mcp-header": "City"}),
    )
)


def judge(arguments: dict[str, object], **fields: str) -> Code | None:
    headers = Headers((f"mcp-param-{name}", value) for name, value in fields.items())
    try:
        check(headers, WANTED, arguments, id_=1)
    except RemoteProtocolError as error:
        return error.code if error.id == 1 else None
    return None


def test_annotations_are_found_along_properties():
    assert WANTED["mcp-param-city"] == ("place", "city")


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ({}, {}),
        ({"region": None}, {}),
        ({"region": "us"}, {"region": "us"}),
        ({"region": "é"}, {"region": "=?base64?w6k=?="}),
        ({"count": 42}, {"count": "42.0"}),
        ({"count": -7}, {"count": "-7"}),
        ({"dry": False}, {"dry": "false"}),
        ({"place": {"city": "Ulm"}}, {"city": "Ulm"}),
        ({}, {"unheard": "of"}),
    ],
)
def test_what_agrees_passes(arguments, fields):
    assert judge(arguments, **fields) is None


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ({"region": "us"}, {}),
        ({"region": "us"}, {"region": "US"}),
        ({}, {"region": "us"}),
        ({"region": None}, {"region": "null"}),
        ({"region": "é"}, {"region": "é"}),
        ({"region": "us"}, {"region": "=?base64?!?="}),
        ({"count": 42}, {"count": "43"}),
        ({"count": 42}, {"count": "x"}),
        ({"dry": True}, {"dry": "True"}),
        ({"dry": True}, {"dry": "1"}),
        ({"place": "Ulm"}, {"city": "Ulm"}),
    ],
)
def test_what_differs_is_a_mismatch(arguments, fields):
    assert judge(arguments, **fields) is Code.HEADER_MISMATCH


@pytest.mark.parametrize(
    "bad",
    [
        schema(a={"type": "string", "x-mcp-header": ""}),
        schema(a={"type": "string", "x-mcp-header": "a b"}),
        schema(a={"type": "string", "x-mcp-header": 5}),
        schema(a={"type": "object", "x-mcp-header": "A"}),
        schema(a={"x-mcp-header": "A"}),
        schema(a=REGION, b={**REGION, "x-mcp-header": "REGION"}),
        schema(a={"type": "array", "items": REGION}),
        {**schema(), "$defs": {"a": REGION}},
    ],
)
def test_an_annotation_that_breaks_the_rules_is_refused_with_the_tool(bad):
    with pytest.raises(ValueError, match=r".+"):
        mirrored(bad)
