import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.audit import record
from tenantry.audit.record import Form, Kind, Outcome


def test_a_record_is_canonical_and_comes_back():
    body = record.encode(Kind.TOOL_CALL, time_us=5, tenant="a", tool="echo", outcome=Outcome.SUCCEEDED, jsonrpc_id=0)

    assert body == b'{"jsonrpc_id":0,"kind":"tool_call","outcome":"succeeded","tenant":"a","time":5,"tool":"echo"}'
    assert record.decode(body)["jsonrpc_id"] == 0


def test_a_field_that_is_none_is_left_out():
    assert "session" not in record.decode(record.encode(Kind.LOGIN, time_us=1, session=None))


def test_a_form_writes_each_record_by_its_own_values_whatever_the_one_before_held():
    form = Form(Kind.TOOL_CALL, ("time", "jsonrpc_id", "session", "recorded"), tool="100%", outcome=Outcome.SUCCEEDED)
    for values in ((1, 7, None, None), (2, "7", "s", {"b": 1, "a": "x"}), (3, 7, None, None), (4, 8, "s", None)):
        fields = dict(zip(("jsonrpc_id", "session", "recorded"), values[1:], strict=True))
        alone = record.encode(Kind.TOOL_CALL, time_us=values[0], tool="100%", outcome=Outcome.SUCCEEDED, **fields)
        assert form.encode(*values) == alone
        assert record.decode(alone) == {
            "kind": "tool_call",
            "tool": "100%",
            "outcome": "succeeded",
            "time": values[0],
            **{name: value for name, value in fields.items() if value is not None},
        }
    with pytest.raises(ValueError, match="type"):
        form.encode(5, 7.5, None, None)


def test_long_text_is_cut():
    entry = record.decode(record.encode(Kind.TOOL_DENIED, time_us=1, tool="x" * 10_000))

    assert len(entry["tool"]) == record.MAX_TEXT


def test_control_characters_can_not_break_a_line():
    assert b"\n" not in record.encode(Kind.TOOL_DENIED, time_us=1, tool="a\nb\x1b[31m\u202e")


@pytest.mark.parametrize("fields", [{"password": "x"}, {"tenant": 5}, {"duration_us": True}, {"arguments_bytes": "1"}])
def test_a_field_that_no_record_has_is_refused(fields):
    with pytest.raises(ValueError, match=r"field|type"):
        record.encode(Kind.LOGIN, time_us=1, **fields)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind":"tool_call"}',
        b'{"kind":"tool_call","time":"1"}',
        b'{"kind":"other","time":1}',
        b'{"kind":"login","time":1,"x":1}',
        b'{"time":1,"kind":"login"}',
        b'{"kind":"login", "time":1}',
        b'{"kind":"login","time":1}\n',
        b"\xff",
    ],
)
def test_what_is_no_record_in_canonical_form_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        record.decode(body)


def test_arguments_are_kept_as_digest_and_size_whatever_their_order():
    one = record.digest({"a": 1, "b": "é"})

    assert one == record.digest({"b": "é", "a": 1})
    assert one[1] == len('{"a":1,"b":"é"}'.encode())


@given(st.text())
def test_any_text_can_stand_in_a_record(text):
    body = record.encode(Kind.LOGIN_FAILED, time_us=1, subject=text)

    assert record.canonical(json.loads(body)) == body


def test_an_excerpt_of_arguments_is_bounded_and_flat():
    arguments = {"path": "x" * 1000, "count": 3, "share": 0.5, "deep": {"b": 1, "a": [2]}, "yes": True, "none": None}
    found = record.excerpt({**arguments, "huge": 10**400, "secret": "s"}, [*arguments, "huge", "absent"])
    assert found is not None
    assert {name: value for name, value in found.items() if name not in ("path", "huge")} == {
        "count": 3,
        "share": "0.5",
        "deep": '{"a":[2],"b":1}',
        "yes": "true",
    }
    assert [len(str(found[name])) for name in ("path", "huge")] == [256, 256]
    assert record.excerpt(arguments, ()) is None
    assert record.excerpt(arguments, ("none",)) is None
    assert record.decode(record.encode(Kind.TOOL_CALL, time_us=1, recorded=found))["recorded"] == found
