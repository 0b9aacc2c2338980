import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import jsonrpc
from tenantry.jsonrpc import Code, Notification, RemoteProtocolError, Request, Response


def refused(body: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        jsonrpc.parse(body)
    return caught.value


def request(**members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", **members}).encode()


@pytest.mark.parametrize("id_", [0, -1, 7, 2**53 - 1, "", "a", "server-discover-probe-1", "x" * 256])
def test_an_id_keeps_value_and_type(id_):
    message = jsonrpc.parse(request(id=id_))

    assert message == Request(id_, "ping", {})
    assert type(message.id) is type(id_)


@pytest.mark.parametrize("id_", [None, True, False, 1.0, 1.5, 2**53, -(2**53), [], {}, "x" * 257])
def test_an_id_that_is_none_is_refused_and_not_echoed(id_):
    error = refused(request(id=id_))

    assert (error.code, error.id) == (Code.INVALID_REQUEST, None)


def test_a_request_without_id_is_a_notification():
    assert jsonrpc.parse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}') == Notification(
        "notifications/initialized", {}
    )


def test_responses_are_read():
    assert jsonrpc.parse(b'{"jsonrpc":"2.0","id":0,"result":{}}') == Response(0, {}, None)
    assert jsonrpc.parse(b'{"jsonrpc":"2.0","id":0,"error":{"code":1}}') == Response(0, None, {"code": 1})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xef\xbb\xbf{}",
        '{"jsonrpc":"2.0"}'.encode("utf-16"),
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"a":"\\uDFFF"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xff"}',
        b'{"a":"\x00"}',
        b"{}{}",
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":[' + b"{}," * 60_000 + b"{}]}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_strict_json_is_a_parse_error(body):
    assert refused(body).code is Code.PARSE_ERROR


def test_a_surrogate_pair_is_a_character():
    assert jsonrpc.parse_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_brackets_inside_a_string_are_no_depth():
    text = "[" * 1000 + ',"\\{' * 60_000

    assert jsonrpc.parse_json(json.dumps(text).encode()) == text


def test_the_greatest_depth_is_read():
    depth = jsonrpc.MAX_DEPTH

    assert jsonrpc.parse_json(b"[" * depth + b"]" * depth) is not None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", Code.INVALID_REQUEST),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', Code.INVALID_REQUEST),
        (b"1", Code.INVALID_REQUEST),
        (b"null", Code.INVALID_REQUEST),
        (request(jsonrpc="1.0"), Code.INVALID_REQUEST),
        (b'{"id":1,"method":"ping"}', Code.INVALID_REQUEST),
        (request(method=1), Code.INVALID_REQUEST),
        (request(method="m" * 257), Code.INVALID_REQUEST),
        (request(result={}), Code.INVALID_REQUEST),
        (request(params=None), Code.INVALID_REQUEST),
        (request(params="x"), Code.INVALID_REQUEST),
        (request(params=[]), Code.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1}', Code.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"Method":"ping"}', Code.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', Code.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"result":5}', Code.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","result":{}}', Code.INVALID_REQUEST),
    ],
)
def test_what_is_no_message_is_an_invalid_request(body, code):
    assert refused(body).code is code


def test_an_error_carries_the_id_that_could_be_read():
    assert refused(request(id="seven", params=[])).id == "seven"
    assert refused(request(id=0, jsonrpc="1.0")).id == 0


def test_an_error_without_an_id_has_no_id_member():
    assert jsonrpc.error(-32700, "x", id_=None) == {"jsonrpc": "2.0", "error": {"code": -32700, "message": "x"}}
    assert jsonrpc.error(-32700, "x", id_=0)["id"] == 0


def test_an_answer_with_a_lone_surrogate_is_still_utf8():
    assert jsonrpc.encode({"a": "\ud800"}) == b'{"a":"?"}'


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
)


@given(st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_message_or_the_one_error(body):
    try:
        message = jsonrpc.parse(body)
    except RemoteProtocolError as error:
        jsonrpc.encode(jsonrpc.error(error.code, error.message, id_=error.id))
    else:
        assert isinstance(message, Request | Notification | Response)


@given(values)
def test_what_is_written_is_read_back(value):
    assert jsonrpc.parse_json(jsonrpc.encode(value)) == value
