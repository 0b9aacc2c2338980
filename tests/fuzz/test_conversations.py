"""Generated histories: sessions, streams that are cut and resumed, rounds of input."""

import tempfile
from pathlib import Path
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tenantry import CallContext, tool
from tests.server.in_process import InProcess, data_of, in_process, request, until


class Answer(BaseModel):
    value: int


@tool
async def count(upto: int, ctx: CallContext) -> str:
    """Count by progress."""
    for number in range(upto):
        await ctx.progress(number + 1)
    return f"counted to {upto}"


@tool
async def add(terms: int, ctx: CallContext) -> str:
    """Ask for numbers, one at a time, and add them."""
    total = 0
    for _ in range(terms):
        answer = await ctx.elicit("Next?", Answer)
        total += int(answer.content["value"])
    return f"the sum is {total}"


# --- sessions: whatever happens to several of them, each is known exactly as long as it should be

steps = st.lists(
    st.tuples(st.sampled_from(["open", "initialized", "use", "steal", "end", "restart", "later"]), st.integers(0, 3)),
    max_size=14,
)


@settings(max_examples=30)
@given(history=steps)
async def test_a_session_is_known_from_its_handshake_to_its_end_and_to_its_owner_alone(history):
    now = [1_800_000_000.0]
    known: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        while True:
            async with in_process(place, clock=lambda: now[0]) as server:
                history = await live(server, now, known, history)
            if not history:
                break


async def live(server: InProcess, now: list[float], known: list[dict[str, Any]], history: list[Any]) -> list[Any]:
    """Act out the history up to a restart; give what is left of it."""
    idle_s = server.config.lifetimes.mcp_session_idle_s
    for number, (what, which) in enumerate(history):
        token = server.token("alice")
        if what == "restart":
            return history[number + 1 :]
        if what == "later":
            now[0] += idle_s / 2
        elif what == "open":
            session = (await server.initialize(token)).headers["mcp-session-id"]
            assert session not in [one["id"] for one in known]
            known.append({"id": session, "seen": now[0], "ended": False})
        elif known:
            one = known[which % len(known)]
            alive = not one["ended"] and now[0] - one["seen"] <= idle_s
            await act(server, what, one, alive=alive, token=token)
            if alive and what != "steal":
                one["seen"] = now[0]
                one["ended"] = what == "end"
    return []


async def act(server: InProcess, what: str, one: dict[str, Any], *, alive: bool, token: str) -> None:
    """Do one thing to a session, and check that it is answered as the model says."""
    if what == "end":
        answer = await server.ask(
            "DELETE", "/mcp", headers={"authorization": f"Bearer {token}", "mcp-session-id": one["id"]}
        )
        assert answer.status == (204 if alive else 404)
    elif what == "initialized":
        answer = await server.post(request("notifications/initialized", None), token, mcp_session_id=one["id"])
        assert answer.status == (202 if alive else 404)
    else:
        bearer = server.token("bob") if what == "steal" else token
        answer = await server.post(request("ping"), bearer, mcp_session_id=one["id"])
        assert answer.status == (200 if alive and what == "use" else 404)


# --- streams: cut anywhere, resumed from anywhere, nothing is lost, doubled or out of order


@settings(max_examples=30)
@given(upto=st.integers(1, 8), cut=st.integers(0, 8), back=st.integers(0, 8), restart=st.booleans())
async def test_a_stream_that_is_cut_and_resumed_anywhere_goes_on_behind_the_id_that_was_named(upto, cut, back, restart):
    call = request("tools/call", 3, name="count", arguments={"upto": upto}, _meta={"progressToken": "t"})
    heard = bytearray()
    left = trio.Event()

    def hear(part: bytes) -> None:
        heard.extend(part)
        if heard.count(b"\n\n") > cut:
            left.set()

    with tempfile.TemporaryDirectory() as directory, trio.fail_after(20):
        place = Path(directory)
        async with in_process(place, offer=[count]) as server:
            token = server.token()
            session = (await server.initialize(token)).headers["mcp-session-id"]
            await server.post(call, token, left=left, hear=hear, mcp_session_id=session)
            ids = [line[4:].decode() for line in bytes(heard).split(b"\n") if line.startswith(b"id: ")]
            chosen = ids[min(back, len(ids) - 1)]
            if not restart:
                resumed = await resume(server, session, chosen)
        if restart:
            async with in_process(place, offer=[count]) as server:
                resumed = await resume(server, session, chosen)

    place_of_chosen = ids.index(chosen)  # the priming event is number 0
    progress = [message["params"]["progress"] for message in resumed if "params" in message]
    assert progress == list(range(place_of_chosen + 1, upto + 1))
    assert [message["id"] for message in resumed if "result" in message] == [3] * (place_of_chosen <= upto)


async def resume(server: InProcess, session: str, last: str) -> list[Any]:
    """Come back with a `Last-Event-ID` and take what there is."""
    headers = {
        "authorization": f"Bearer {server.token()}",
        "accept": "text/event-stream",
        "mcp-session-id": session,
        "last-event-id": last,
    }
    return (await server.ask("GET", "/mcp", headers=headers)).events


# --- rounds of input: answers in any order of honesty, the sum is right or the call is refused

ROUND = st.sampled_from(["answer", "answer", "answer", "nothing", "other state", "no state", "tampered"])


@settings(max_examples=40)
@given(numbers=st.lists(st.integers(-9, 9), min_size=1, max_size=4), ways=st.lists(ROUND, min_size=12, max_size=12))
async def test_rounds_of_input_come_to_the_right_sum_whatever_is_sent_between(numbers, ways):
    with tempfile.TemporaryDirectory() as directory:
        async with in_process(Path(directory), offer=[add]) as server:
            token = server.token()
            given_answers, state = 0, None
            states: list[str] = []
            for way in ways:
                more: dict[str, Any] = {} if state is None else {"requestState": state}
                key = f"elicitation-{given_answers + 1}"
                answer = {key: {"action": "accept", "content": {"value": numbers[given_answers]}}}
                if way == "tampered":
                    more = {"requestState": (state or "x")[:-4] + "AAAA", "inputResponses": answer}
                elif way == "other state":
                    more["requestState"] = states[0] if states else "gAAAA"
                elif way == "no state":
                    more.pop("requestState", None)
                elif way == "answer":
                    more["inputResponses"] = answer
                reply = await server.modern(
                    "tools/call",
                    token,
                    capabilities={"elicitation": {}},
                    name="add",
                    arguments={"terms": len(numbers)},
                    **more,
                )
                if way == "tampered" or more.get("requestState") == "gAAAA":
                    assert reply.json["error"]["code"] == -32602
                    continue
                if way != "answer":
                    assert reply.json["result"]["resultType"] == "input_required"
                    continue
                given_answers += 1
                if given_answers == len(numbers):
                    assert reply.json["result"]["content"][0]["text"] == f"the sum is {sum(numbers)}"
                    return
                state = reply.json["result"]["requestState"]
                states.append(state)


async def test_what_is_heard_in_parts_is_what_was_sent(tmp_path):
    heard: list[bytes] = []
    async with in_process(tmp_path, offer=[count]) as server:
        token = server.token()
        session = (await server.initialize(token)).headers["mcp-session-id"]
        call = request("tools/call", 3, name="count", arguments={"upto": 3}, _meta={"progressToken": 0})
        answer = await server.post(call, token, hear=heard.append, mcp_session_id=session)
        await until(lambda: bool(heard))

    assert b"".join(heard) == answer.body
    assert len(data_of(answer.body)) == 4
