"""A grant that ends takes with it what is under way: streams, calls, tasks; whichever process ended it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tenantry import CallContext, tool
from tenantry.audit import record
from tenantry.oauth.token import CodeGrant
from tenantry.server.departures import end_the_departed
from tenantry.server.features import Features
from tenantry.server.feed import Feed
from tenantry.server.ongoing import Ongoing
from tenantry.server.store import Store
from tests.server.in_process import BOTH, Answered, InProcess, demo_config, in_process, quiet, until
from tests.server.test_sessions import ALICE
from tests.server.test_streams import CALL, Gate, resume, session

TASKS: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
NOW = 1_800_000_000.0


class Asked:
    """A request under way, and its answer once there is one."""

    def __init__(self) -> None:
        self.heard = b""
        self.answer: Answered | None = None

    def hear(self, part: bytes) -> None:
        self.heard += part

    async def ask(self, request) -> None:
        self.answer = await request(self.hear)


@asynccontextmanager
async def another_process(server: InProcess) -> AsyncIterator[Store]:
    """The store as the command line opens it."""
    store = Store.open(server.path.parent / "state.db")
    yield store
    store.close()


async def end(server: InProcess, how: str) -> None:
    async with another_process(server) as store:
        await {
            "family": lambda: store.endings.family("family", now=NOW),
            "subject": lambda: store.endings.subject("tenant-a", "alice", now=NOW),
            "consent": lambda: store.endings.consent("tenant-a", "alice", "client", now=NOW),
            "client": lambda: store.endings.client("client", now=NOW),
        }[how]()


def streams(server: InProcess, kind: str, token: str, headers: dict[str, str], gate: Gate):
    """A request that stays open, of each kind that there is."""
    return {
        "standalone": lambda hear: resume(server, token, headers, None, hear=hear),
        "listen": lambda hear: server.modern(
            "subscriptions/listen", token, hear=hear, notifications={"toolsListChanged": True}
        ),
        "legacy call": lambda hear: server.post(CALL, token, hear=hear, **headers),
        "modern call": lambda hear: server.modern(
            "tools/call", token, hear=hear, meta={"progressToken": "t"}, name="slow", arguments={}
        ),
    }[kind]


@pytest.mark.parametrize("how", ["family", "consent", "subject", "client"])
@pytest.mark.parametrize("kind", ["standalone", "listen", "legacy call", "modern call"])
async def test_an_open_stream_ends_with_its_last_chunk_when_its_grant_ends_elsewhere(tmp_path, kind, how):
    gate, gone, stays = Gate(), Asked(), Asked()
    async with in_process(tmp_path, offer=[gate.tool()]) as server, trio.open_nursery() as nursery:
        token, other = server.token(), server.token("bob", client="other", family_id="another")
        headers, others = await session(server, token), await session(server, other)
        nursery.start_soon(gone.ask, streams(server, kind, token, headers, gate))
        nursery.start_soon(stays.ask, streams(server, kind, other, others, gate))
        with trio.fail_after(30):
            await until(lambda: bool(gone.heard) and bool(stays.heard))
            await end(server, how)
            await until(lambda: gone.answer is not None)

        assert gone.answer is not None
        assert gone.answer.status == 200
        assert stays.answer is None
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_under_way_is_cancelled_and_on_record_and_its_client_is_told_to_sign_in(tmp_path, era):
    inside, asked = trio.Event(), Asked()

    async with in_process(tmp_path, offer=[quiet(inside)]) as server, trio.open_nursery() as nursery:
        token = server.token()
        headers = await session(server, token)
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "quiet", "arguments": {}}}
        requests = {
            "legacy": lambda hear: server.post(call, token, **headers),
            "modern": lambda hear: server.modern("tools/call", token, name="quiet", arguments={}),
        }
        nursery.start_soon(asked.ask, requests[era])
        with trio.fail_after(30):
            await inside.wait()
            await end(server, "family")
            await until(lambda: asked.answer is not None)

        assert asked.answer is not None
        assert asked.answer.status == 401
        assert 'error="invalid_token"' in asked.answer.headers["www-authenticate"]
        assert [(row["tool"], row["outcome"]) for row in server.records()] == [("quiet", "cancelled")]


def listing(server: InProcess, token: str, held: trio.Event | None = None):
    """A request that has nothing to wait for once it is read."""
    fields = {"content-type": "application/json", "accept": BOTH, "authorization": f"Bearer {token}"}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    return lambda hear: server.ask("POST", "/mcp", headers=fields, body=body, held=held, hear=hear)


async def test_a_request_whose_grant_ends_while_its_body_comes_is_refused(tmp_path):
    held, asked = trio.Event(), Asked()
    async with in_process(tmp_path, "stateless") as server, trio.open_nursery() as nursery:
        nursery.start_soon(asked.ask, listing(server, server.token(), held))
        await trio.testing.wait_all_tasks_blocked()
        await end(server, "family")
        server.parts.feed.look()
        held.set()
        with trio.fail_after(30):
            await until(lambda: asked.answer is not None)
        assert asked.answer is not None
        assert asked.answer.status == 401


async def test_nothing_more_of_a_batch_runs_once_its_grant_has_ended(tmp_path, monkeypatch):
    async with in_process(tmp_path) as server:
        token = server.token()
        headers = await session(server, token, "2025-03-26")
        release = Features.release

        async def then_end(*args: Any) -> None:
            await release(*args)
            await end(server, "family")
            server.parts.feed.look()

        monkeypatch.setattr(Features, "release", then_end)
        call = {"method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hello"}}}
        answer = await server.post([{"jsonrpc": "2.0", "id": id_, **call} for id_ in (1, 2)], token, **headers)

        assert answer.status == 401
        assert [row["outcome"] for row in server.records()] == ["succeeded", "cancelled"]


async def test_a_request_whose_grant_ends_while_it_waits_for_room_is_refused(tmp_path):
    gate, first, second = Gate(), Asked(), Asked()
    config = demo_config("stateless")
    config = config.model_copy(update={"limits": config.limits.model_copy(update={"calls_at_once": 1})})
    async with in_process(tmp_path, config=config, offer=[gate.tool()]) as server, trio.open_nursery() as nursery:
        other = server.token(client="other", family_id="another")
        nursery.start_soon(first.ask, lambda hear: server.post(CALL, other, hear=hear))
        with trio.fail_after(30):
            await gate.inside.wait()
            nursery.start_soon(second.ask, listing(server, server.token()))
            await trio.testing.wait_all_tasks_blocked()
            await end(server, "family")
            server.parts.feed.look()
            gate.go.set()
            await until(lambda: second.answer is not None)
        assert second.answer is not None
        assert second.answer.status == 401


async def test_a_task_of_an_ended_grant_is_cancelled(tmp_path):
    inside = trio.Event()

    @tool(name="endless", task="required")
    async def endless(ctx: CallContext) -> str:
        inside.set()
        await trio.sleep_forever()
        raise AssertionError

    async with in_process(tmp_path, offer=[endless]) as server:
        created = await server.modern("tools/call", server.token(), capabilities=TASKS, name="endless", arguments={})
        task_id = created.json["result"]["taskId"]
        with trio.fail_after(30):
            await inside.wait()
            await end(server, "family")
            await until(lambda: server.records()[-1]["kind"] == "tool_call")
            await until(lambda: "cancelled" in server.store_row("SELECT body FROM task")[0])

        signed_in_again = server.token(family_id="another")
        answer = await server.modern("tasks/get", signed_in_again, capabilities=TASKS, taskId=task_id)
        assert answer.json["result"]["status"] == "cancelled"
        assert server.records()[-1]["outcome"] == "cancelled"


async def test_after_a_revocation_the_session_is_gone_for_the_next_login_too(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token()
        headers = await session(server, token)
        await end(server, "family")
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        refused = await server.post(ping, token, **headers)
        unknown = await server.post(ping, server.token(family_id="another"), **headers)

        assert refused.status == 401
        assert unknown.status == 404
        assert json.loads(unknown.body)["error"]["message"] == "Session not found; begin again with initialize"


# A server's clock stands still here: an access token that expired within the leeway has that much left.
ALMOST = {"issued_at": int(NOW) - 600, "expires_at": int(NOW) - 4}


@pytest.mark.parametrize("kind", ["standalone", "listen"])
async def test_an_open_stream_ends_with_its_access_token(tmp_path, kind):
    gate, asked = Gate(), Asked()
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token = server.token(**ALMOST)
        headers = await session(server, token)
        with trio.fail_after(30):
            await asked.ask(streams(server, kind, token, headers, gate))

        assert asked.answer is not None
        assert asked.answer.status == 200


async def test_the_stream_of_a_modern_call_ends_with_its_access_token_and_the_call_with_it(tmp_path):
    gate, asked = Gate(), Asked()
    async with in_process(tmp_path, offer=[gate.tool()]) as server:
        token = server.token(**ALMOST)
        with trio.fail_after(30):
            await asked.ask(streams(server, "modern call", token, {}, gate))

        assert asked.answer is not None
        assert [event["method"] for event in asked.answer.events] == ["notifications/progress"]
        assert server.records()[-1]["outcome"] == "cancelled"


async def test_the_stream_of_a_legacy_call_is_released_and_its_client_comes_back_with_another_access_token(tmp_path):
    gate, asked, resumed = Gate(), Asked(), Asked()
    async with in_process(tmp_path, offer=[gate.tool()]) as server, trio.open_nursery() as nursery:
        token = server.token(**ALMOST)
        headers = await session(server, token)
        nursery.start_soon(asked.ask, streams(server, "legacy call", token, headers, gate))
        with trio.fail_after(30):
            await until(lambda: b"retry:" in asked.heard)
            last = Answered(200, {}, asked.heard).ids[-1]
            gate.go.set()
            await resumed.ask(lambda hear: resume(server, server.token(), headers, last, hear=hear))

        assert resumed.answer is not None
        assert resumed.answer.events[-1]["result"]["content"][0]["text"] == "done at last"
        assert server.records()[-1]["outcome"] == "succeeded"


async def test_who_has_left_the_directory_keeps_nothing_and_it_is_on_record(tmp_path):
    store = Store.open(tmp_path / "state.db")
    kept: list[dict[str, Any]] = []

    class Audit:
        async def append(self, entry: bytes) -> None:
            kept.append(record.decode(entry))

    for number, subject in enumerate(("alice", "zoe")):
        code = CodeGrant(
            family_id=subject,
            client_id="client",
            tenant="tenant-a",
            subject=subject,
            scopes=("tools:call",),
            redirect_uri="r",
            challenge="c",
            expires_at=NOW,
            redeemed=False,
        )
        await store.grants.add_code(subject, code, consent_id=f"{number}", now=NOW)
        await store.grants.redeem_code(subject, refresh_digest=f"token of {subject}", now=NOW)
    await end_the_departed(store, demo_config().directory(), audit=Audit(), clock=lambda: NOW)

    assert await store.endings.subjects() == {("tenant-a", "alice")}
    assert [(entry["kind"], entry["tenant"], entry["subject"]) for entry in kept] == [
        ("subject_ended", "tenant-a", "zoe")
    ]
    store.close()


@pytest.mark.parametrize("stands", [True, False])
async def test_what_begins_after_its_grant_has_ended_is_cut_at_once(tmp_path, stands):
    # Between a request's authentication and the start of its stream the end may have been announced already.
    store = Store.open(tmp_path / "state.db")
    ongoing = Ongoing(Feed(store.announcements), stands=lambda _: stands)
    with ongoing.of(ALICE) as scope:
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught is not stands
    store.close()
