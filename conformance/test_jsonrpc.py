"""JSON-RPC 2.0, in every revision and mode."""

from typing import Any

import pytest

from conformance.clauses import clause
from conformance.client import Answer, Legacy, Modern
from conformance.peer import Peer

PARSE_ERROR, INVALID_REQUEST, NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
PREDEFINED = {PARSE_ERROR, INVALID_REQUEST, NOT_FOUND, INVALID_PARAMS, -32603}
# Edges of what JSON numbers and text carry; 0 and "" are as good as any other.
IDS = (0, 1, -1, 2**53 - 1, "0", "", "a b", "\u00fc\u8a9e")


def spoilt(client: Modern | Legacy, **members: Any) -> Answer:
    """Send a request with some members replaced; ... takes one out."""
    message = {**client.message("tools/list"), **members}
    return client.post({name: value for name, value in message.items() if value is not ...})


def various(client: Modern | Legacy) -> list[Answer]:
    """One answer of each kind."""
    return [
        client.request("tools/list"),
        client.request("no/such/method"),
        client.request("tools/call", {"name": 1}),
        spoilt(client, method=1),
        client.post(b'{"jsonrpc"'),
    ]


@clause("jsonrpc-2.0:4:version-member")
@pytest.mark.parametrize("version", ["1.0", "2", 2.0, None, ...], ids=repr)
def test_another_json_rpc_version_is_an_invalid_request(peer: Peer, version: Any) -> None:
    assert spoilt(peer.connect(), jsonrpc=version).code == INVALID_REQUEST


@clause("jsonrpc-2.0:4:method-is-text")
@pytest.mark.parametrize("method", [1, None, ["tools/list"], {}], ids=repr)
def test_a_method_that_is_no_text_is_an_invalid_request(peer: Peer, method: Any) -> None:
    assert spoilt(peer.connect(), method=method).code == INVALID_REQUEST


@clause("jsonrpc-2.0:4:params-are-structured")
@pytest.mark.parametrize("params", ["text", 1, True], ids=repr)
def test_params_that_are_no_structure_are_refused(peer: Peer, params: Any) -> None:
    assert spoilt(peer.connect(), params=params).code in {INVALID_REQUEST, INVALID_PARAMS}


@clause("jsonrpc-2.0:4:id-is-plain")
@pytest.mark.parametrize("wrong", [[1], {"a": 1}, True], ids=repr)
def test_an_id_that_is_no_text_and_no_number_is_refused(peer: Peer, wrong: Any) -> None:
    assert spoilt(peer.connect(), id=wrong).code == INVALID_REQUEST


@clause("jsonrpc-2.0:4.1:notification-unanswered")
@pytest.mark.parametrize("method", ["notifications/cancelled", "no/such/notification"])
def test_a_notification_is_answered_by_no_message(peer: Peer, method: str) -> None:
    answer = peer.connect().notify(method, {"requestId": "none"})
    assert not answer.messages
    assert not answer.body


@clause("jsonrpc-2.0:4.2:names-match-exactly")
def test_a_name_in_another_case_is_another_parameter(peer: Peer) -> None:
    client = peer.connect()
    tool = client.request("tools/list").result["tools"][0]["name"]
    answer = client.request("tools/call", {"Name": tool, "Arguments": {}}, headers={"mcp-name": tool})
    assert "error" in answer.response


@clause("jsonrpc-2.0:5:version-in-answers", "jsonrpc-2.0:5:result-or-error")
def test_every_answer_names_the_version_and_has_either_a_result_or_an_error(peer: Peer) -> None:
    for answer in various(peer.connect()):
        assert answer.response["jsonrpc"] == "2.0"
        assert ("result" in answer.response) != ("error" in answer.response)


@clause("jsonrpc-2.0:5:id-repeated")
@pytest.mark.parametrize("method", ["tools/list", "no/such/method"])
def test_the_id_comes_back_as_it_was_sent(peer: Peer, method: str) -> None:
    client = peer.connect()
    for each in IDS:
        came = client.request(method, id=each).response["id"]
        assert (type(came), came) == (type(each), each)


@clause("jsonrpc-2.0:5.1:error-object", "jsonrpc-2.0:5.1:reserved-codes")
def test_errors_have_an_integer_code_of_a_known_range_and_a_message(peer: Peer) -> None:
    for error in [answer.error for answer in various(peer.connect()) if "error" in answer.response]:
        assert type(error["code"]) is int
        assert isinstance(error["message"], str)
        reserved = -32768 <= error["code"] <= -32000
        assert not reserved or error["code"] in PREDEFINED or error["code"] >= -32099


@clause("jsonrpc-2.0:5.1:parse-error")
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"jsonrpc":"2.0","method":"foobar,"params":"bar","baz]', b"{'a':1}", b'"\xff"', b"nul"]
)
def test_what_is_no_json_is_a_parse_error(peer: Peer, body: bytes) -> None:
    assert peer.connect().post(body).code == PARSE_ERROR


@clause("jsonrpc-2.0:5.1:invalid-request")
@pytest.mark.parametrize("value", [1, "text", True, {}, {"foo": "boo"}], ids=repr)
def test_json_that_is_no_request_is_an_invalid_request(peer: Peer, value: Any) -> None:
    assert peer.connect().post(value).code == INVALID_REQUEST


@clause("jsonrpc-2.0:5.1:method-not-found")
@pytest.mark.parametrize("method", ["no/such/method", "tools", "TOOLS/LIST", "tools/list ", ""])
def test_an_unknown_method_is_not_found(peer: Peer, method: str) -> None:
    client = peer.connect()
    answer = client.request(method, headers={"mcp-method": method.strip()})
    assert answer.code in ({NOT_FOUND, -32020} if peer.is_modern and method != method.strip() else {NOT_FOUND})


@clause("jsonrpc-2.0:5.1:invalid-params")
def test_params_that_do_not_fit_are_invalid(peer: Peer) -> None:
    answer = peer.connect().request("tools/call", {"name": ["x"], "arguments": {}}, headers={"mcp-name": "x"})
    assert answer.code in ({INVALID_PARAMS, -32020} if peer.is_modern else {INVALID_PARAMS})


@clause("jsonrpc-2.0:8:no-rpc-methods")
def test_methods_that_begin_with_rpc_are_not_found(peer: Peer) -> None:
    assert peer.connect().request("rpc.discover").code == NOT_FOUND


@clause("jsonrpc-2.0:6:every-request-answered", "jsonrpc-2.0:6:junk-in-a-batch")
def test_every_member_of_a_batch_is_answered_on_its_own(peer: Peer) -> None:
    client = peer.connect()
    batch = [
        client.message("ping", id=1),
        client.message("tools/list", id="1"),
        {"jsonrpc": "2.0", "method": "no/such/notification"},
        {"foo": "boo"},
        client.message("no/such/method", id=5),
    ]
    messages = client.post(batch).messages
    by_id = {str(type(message["id"])) + str(message["id"]): message for message in messages if message.get("id")}
    assert "result" in by_id[f"{int}1"]
    assert "result" in by_id[f"{str}1"]
    assert by_id[f"{int}5"]["error"]["code"] == NOT_FOUND
    junk = [message["error"]["code"] for message in messages if message.get("id") is None]
    assert junk == [INVALID_REQUEST]
    assert len(messages) == 4


@clause("jsonrpc-2.0:6:junk-in-a-batch")
def test_each_junk_member_of_a_batch_has_an_error_of_its_own(peer: Peer) -> None:
    messages = peer.connect().post([1, 2, 3]).messages
    assert [message["error"]["code"] for message in messages] == [INVALID_REQUEST] * 3


@clause("jsonrpc-2.0:6:notifications-have-no-answer")
def test_a_batch_of_notifications_is_answered_by_nothing(peer: Peer) -> None:
    notification = {"jsonrpc": "2.0", "method": "no/such/notification"}
    answer = peer.connect().post([notification, notification])
    assert not answer.messages
    assert not answer.body


@clause("jsonrpc-2.0:6:empty-array")
def test_an_empty_batch_is_one_invalid_request(peer: Peer) -> None:
    answer = peer.connect().post([])
    assert answer.json["error"]["code"] == INVALID_REQUEST


@clause("jsonrpc-2.0:6:unreadable-batch")
def test_a_batch_that_is_no_json_is_one_parse_error(peer: Peer) -> None:
    answer = peer.connect().post(b'[{"jsonrpc": "2.0", "method": "ping", "id": 1}, {"jsonrpc"')
    assert answer.json["error"]["code"] == PARSE_ERROR
