"""One call, every revision and mode: the same result, and the same record."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.in_process import InProcess, in_process, request

LEGACY = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
HOW_IT_CAME = {"time", "duration_us", "session", "era", "revision", "mode", "client", "jsonrpc_id"}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts | st.lists(texts, max_size=2)
calls = st.one_of(
    st.tuples(st.just("echo"), st.fixed_dictionaries({"message": texts})),
    st.tuples(st.just("search_documents"), st.fixed_dictionaries({"query": st.sampled_from(["", "a", "pricing"])})),
    st.tuples(
        st.sampled_from(["echo", "search_documents", "export_report", "admin_purge", "nothing", "Echo"]),
        st.dictionaries(st.sampled_from(["message", "query", "reportId", "confirm", "x"]), values, max_size=3),
    ),
)


async def one(server: InProcess, token: str, revision: str | None, name: str, arguments: Any) -> Any:
    """Make the call in one revision, the modern one for None, and give what is the same in all of them."""
    if revision is None:
        answer = await server.modern("tools/call", token, name=name, arguments=arguments)
    else:
        session = (await server.initialize(token, revision)).headers.get("mcp-session-id")
        answer = await server.post(
            request("tools/call", name=name, arguments=arguments),
            token,
            mcp_protocol_version=revision,
            mcp_session_id=session,
        )
    if "www-authenticate" in answer.headers:
        return answer.status, answer.headers["www-authenticate"]
    body = answer.json
    if "error" in body:
        return "error", body["error"]["message"].removeprefix("Invalid params: ")
    text = body["result"]["content"][0]["text"]
    if text.startswith("Invalid arguments: "):
        return "error", text.removeprefix("Invalid arguments: ")
    return body["result"]["isError"], text


@settings(max_examples=25)
@given(call=calls, user=st.sampled_from(["alice", "bob", "carol"]))
async def test_a_call_gives_the_same_in_every_revision_and_mode(call, user):
    name, arguments = call
    seen, recorded = [], []
    for mode in ("dual", "stateless"):
        with tempfile.TemporaryDirectory() as directory:
            async with in_process(Path(directory), mode) as server:
                token = server.token(user)
                seen += [await one(server, token, revision, name, arguments) for revision in (None, *LEGACY)]
                recorded += [
                    {field: value for field, value in entry.items() if field not in HOW_IT_CAME}
                    for entry in server.records()
                ]

    if name != "admin_purge":  # what it removes is gone the second time
        assert all(result == seen[0] for result in seen), seen
    assert len(recorded) == len(seen)
    assert all(entry == recorded[0] for entry in recorded), recorded
