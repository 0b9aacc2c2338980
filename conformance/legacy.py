"""What the tests in test_legacy_*.py share: a client in its session, and talks in which the server asks the client."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conformance.client import EVENTS, META, Event, Legacy, NotApplicable, Silence, Stream
from conformance.peer import Peer
from conformance.schemas import LEGACY, MODERN, definitions_of

Message = dict[str, Any]

PAUSE_S = 0.5
"""How long a test listens for what should not come."""
NO_TOOL = "no_such_tool"
PROGRESSING = "test_tool_with_progress"
LOGGING = "test_tool_with_logging"
SAMPLING = "test_sampling"
ELICITING = "test_elicitation"
ARGUMENTS: Mapping[str, Message] = {SAMPLING: {"prompt": "Say a word"}, ELICITING: {"message": "What is your name?"}}
EVERYTHING: Message = {"sampling": {}, "roots": {"listChanged": True}, "elicitation": {}}
"""The capabilities of a client that can be asked for anything, by form where it is a question."""
SAMPLED: Message = {
    "role": "assistant",
    "content": {"type": "text", "text": "A sampled word"},
    "model": "a-model",
    "stopReason": "endTurn",
}


def join(peer: Peer, capabilities: Mapping[str, Any] | None = None, **more: Any) -> Legacy:
    """Give a client of the column's revision after its handshake."""
    client = peer.connect(capabilities=capabilities or {}, **more)
    assert isinstance(client, Legacy)
    return client


def is_request(message: Message) -> bool:
    """Whether a message from the server wants an answer."""
    return "method" in message and "id" in message


def is_notification(message: Message) -> bool:
    """Whether a message from the server wants none."""
    return "method" in message and "id" not in message


def is_response(message: Message) -> bool:
    """Whether a message from the server answers something."""
    return "method" not in message


def params_of(tool: str, token: str | int | None = None) -> Message:
    """Make the params of a call of one of the fixtures, with a progress token where one is given."""
    params: Message = {"name": tool, "arguments": ARGUMENTS.get(tool, {})}
    return params if token is None else {**params, "_meta": {"progressToken": token}}


def streaming(client: Legacy, tool: str, token: str | int | None = None, **more: Any) -> Stream:
    """Call a tool and give its request stream; not applicable where the answer is JSON, which a server may choose."""
    message = client.message("tools/call", params_of(tool, token), **more)
    wire = client.wire("POST", json.dumps(message).encode(), usual=client.usual_headers(message))
    stream = Stream(wire, client, "tools/call")
    if stream.content_type != EVENTS:
        body = wire.rest()
        wire.close()
        assert stream.status == 200, f"{stream.status} {body!r}"
        raise NotApplicable(f"{tool} is not answered with a stream")
    return stream


def question(client: Legacy, stream: Stream) -> Message:
    """Read a stream up to the first request of the server; not applicable where the stream ends without one."""
    for message in stream.messages():
        if is_request(message):
            found: Message = message
            return found
    stream.close()
    raise NotApplicable(f"the server does not ask a client of {client.revision}")


def asked(peer: Peer, tool: str, **more: Any) -> tuple[Legacy, Stream, Message]:
    """Give a client, the stream of its call and the server's question in it."""
    peer.needs_tool(tool)
    client = join(peer, EVERYTHING)
    stream = streaming(client, tool, **more)
    return client, stream, question(client, stream)


def accepted(content: Message) -> Message:
    """Make the result of a form that the person sent off."""
    return {"action": "accept", "content": content}


def filled(schema: Message, text: str) -> Message:
    """Fill in a form: `text` where a text is free, the first of what may be chosen, something fitting elsewhere."""
    return {name: _value(part, text) for name, part in schema.get("properties", {}).items()}


def _value(part: Message, text: str) -> Any:
    if "enum" in part:
        return part["enum"][0]
    if "oneOf" in part or "anyOf" in part:
        return (part.get("oneOf") or part["anyOf"])[0]["const"]
    kind = part["type"]
    if kind == "array":
        return [_value(part["items"], text)]
    if kind == "boolean":
        return True
    if kind in ("number", "integer"):
        return part.get("minimum", part.get("maximum", 7))
    return f"{text}@example.com" if part.get("format") == "email" else text


def final(stream: Stream, request_id: Any = None) -> Message:
    """Read a stream to its response, and check which request that answers where an id is given."""
    for message in stream.messages():
        if is_response(message):
            assert request_id is None or message["id"] == request_id, message
            found: Message = message
            return found
    raise AssertionError("the stream ended without a response")


def text_of(result: Message) -> str:
    """All the text in the result of a call."""
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


def heard(stream: Stream, seconds: float = PAUSE_S) -> list[Message]:
    """Give what comes on a stream in a while."""
    return [event.message for event in overheard(stream, seconds) if event.data]


def overheard(stream: Stream, seconds: float = PAUSE_S) -> list[Event]:
    """Give the events that come on a stream in a while."""
    deadline, found = time.monotonic() + seconds, []
    try:
        while (left := deadline - time.monotonic()) > 0:
            event = stream.next(left)
            if event is None:
                break
            found.append(event)
    except Silence:
        pass
    return found


def exchange(client: Legacy, stream: Stream, answer: Callable[[Message], Any]) -> list[Message]:
    """Read a stream to its end, with `answer` giving the result for each question, and give all its messages."""
    found = []
    for message in stream.messages():
        found.append(message)
        if is_request(message):
            assert client.respond(message, answer(message)).status == 202
    return found


def is_fine(client: Legacy) -> bool:
    """Whether the server still serves this client."""
    return bool(client.request("ping").result == {})


def refused(answer: Any) -> bool:
    """Whether an answer says no: an HTTP status, or an error."""
    results = [message for message in answer.messages if isinstance(message, dict) and "result" in message]
    return not results and (answer.status >= 400 or any("error" in message for message in answer.messages))


def unfit(answer: Any) -> bool:
    """Whether a call was turned down, as a protocol error or as a result marked as one."""
    return refused(answer) or answer.result.get("isError") is True


def blocks_of(results: Mapping[str, Message]) -> Iterator[tuple[str, Message]]:
    """Give each content block of the results of calls with the name of its part of the schema."""
    names = {
        "text": "TextContent",
        "image": "ImageContent",
        "audio": "AudioContent",
        "resource": "EmbeddedResource",
        "resource_link": "ResourceLink",
    }
    for result in results.values():
        for block in result["content"]:
            yield names[block["type"]], block


def later_members(revision: str, part: str, value: Message) -> list[str]:
    """Name the members of a part of a message that only later revisions know."""
    known = definitions_of(revision).get(part, {}).get("properties", {})
    ever = [definitions_of(each).get(part, {}).get("properties", {}) for each in (LEGACY[-1], MODERN[-1])]
    return [f"{part}.{name}" for name in value if name not in known and any(name in members for members in ever)]


def metadata_keys(value: Any) -> Iterator[str]:
    """Give every key in every `_meta` of a message."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "_meta" and isinstance(member, dict):
                yield from member
            yield from metadata_keys(member)
    elif isinstance(value, list):
        for member in value:
            yield from metadata_keys(member)


def unreserved(name: str) -> str:
    """Give a key that MCP keeps for itself and that means nothing."""
    return f"{META}{name}"


def simple_results(client: Legacy) -> dict[str, Message]:
    """Call every tool of the fixtures that only talks back, and give the results by name."""
    names = (
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_error_handling",
    )
    listed = {tool["name"] for tool in listed_all(client, "tools/list", "tools")}
    return {name: client.call(name).result for name in names if name in listed}


def listed_all(client: Legacy, method: str, member: str) -> list[Message]:
    """Give every item of a list, over all its pages."""
    return [item for page in pages(client, method) for item in page[member]]


def pages(client: Legacy, method: str) -> list[Message]:
    """Give every page of a list."""
    found: list[Message] = []
    params: Message = {}
    while True:
        found.append(client.request(method, params).result)
        if "nextCursor" not in found[-1]:
            return found
        params = {"cursor": found[-1]["nextCursor"]}
