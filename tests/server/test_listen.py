"""`subscriptions/listen`, and change events from their one source."""

import dataclasses
import json
from functools import partial
from typing import Any

import pytest
import trio

from tenantry import CallContext, prompt, resource, tool
from tenantry.mcp.offer import Offer
from tenantry.server.changes import World
from tests.server.in_process import InProcess, data_of, in_process, request, until

ALL = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


@resource("test://watched", name="watched")
def watched() -> str:
    """Something to watch."""
    return "x"


@prompt
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Say hello to {name}"


@tool
async def touch(ctx: CallContext) -> str:
    """Change things."""
    ctx.updated("test://watched")
    ctx.changed("prompts")
    return "touched"


class Ear:
    """A listener's side of one stream."""

    def __init__(self) -> None:
        self.heard = b""
        self.left = trio.Event()

    def hear(self, part: bytes) -> None:
        self.heard += part

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in data_of(self.heard)]

    @property
    def methods(self) -> list[str]:
        return [message["method"] for message in self.messages if "method" in message]


async def listen(server: InProcess, token: str, ear: Ear, id_: int | str, **wanted: object) -> None:
    await server.modern("subscriptions/listen", token, id_, left=ear.left, hear=ear.hear, notifications=wanted)


def without(server: InProcess, name: str) -> World:
    """The world as it is, but tenant-a has lost one tool."""
    world = server.parts.changes.world
    tenant = world.directory.tenants["tenant-a"]
    fewer = dataclasses.replace(tenant, features=frozenset(f for f in tenant.features if f.name != name))
    return World(
        dataclasses.replace(world.directory, tenants={**world.directory.tenants, "tenant-a": fewer}), world.offer
    )


@pytest.mark.parametrize("id_", [0, "listen-1"])
async def test_listening_is_acknowledged_first_with_what_is_honoured_and_the_ids_own_type(tmp_path, id_):
    ear = Ear()
    async with in_process(tmp_path, offer=[watched]) as server, trio.open_nursery() as nursery:
        wanted = {"toolsListChanged": True, "promptsListChanged": False, "nonsense": True}
        uris = ["test://watched", "test://nowhere"]
        nursery.start_soon(lambda: listen(server, server.token(), ear, id_, **wanted, resourceSubscriptions=uris))
        with trio.fail_after(5):
            await until(lambda: bool(ear.messages))
        nursery.cancel_scope.cancel()

    assert ear.messages[0] == {
        "jsonrpc": "2.0",
        "method": "notifications/subscriptions/acknowledged",
        "params": {
            "notifications": {"toolsListChanged": True, "resourceSubscriptions": ["test://watched"]},
            "_meta": {"io.modelcontextprotocol/subscriptionId": id_},
        },
    }


async def test_a_change_reaches_exactly_those_whose_view_changed_in_both_eras(tmp_path):
    ears = {name: Ear() for name in ("alice", "bob", "carol", "deaf", "legacy")}
    async with in_process(tmp_path) as server:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for name in ("alice", "bob", "carol"):
                    nursery.start_soon(partial(listen, server, server.token(name), ears[name], 1, **ALL))
                nursery.start_soon(
                    lambda: listen(server, server.token("alice"), ears["deaf"], 1, promptsListChanged=True)
                )
                session = (await server.initialize(server.token("bob"))).headers["mcp-session-id"]
                fields = {
                    "authorization": f"Bearer {server.token('bob')}",
                    "accept": "text/event-stream",
                    "mcp-session-id": session,
                }
                legacy = ears["legacy"]
                nursery.start_soon(
                    lambda: server.ask("GET", "/mcp", headers=fields, left=legacy.left, hear=legacy.hear)
                )
                await until(lambda: all(ear.heard for ear in ears.values()))
                server.parts.changes.replace(without(server, "admin_purge"))
                await until(lambda: all(len(ears[name].methods) == 2 for name in ("alice", "bob")))
                await until(lambda: bool(legacy.methods))
                nursery.cancel_scope.cancel()

    changed = "notifications/tools/list_changed"
    assert ears["alice"].methods[1:] == ears["bob"].methods[1:] == legacy.methods == [changed]
    assert ears["carol"].methods[1:] == ears["deaf"].methods[1:] == []


async def test_after_a_change_the_list_and_the_call_are_the_new_ones(tmp_path):
    async with in_process(tmp_path) as server:
        token = server.token("alice")
        server.parts.changes.replace(without(server, "echo"))
        tools = await server.modern("tools/list", token)
        call = await server.modern("tools/call", token, name="echo", arguments={"message": "x"})

        assert "echo" not in [tool["name"] for tool in tools.json["result"]["tools"]]
        assert call.json["error"]["code"] == -32602


async def test_what_a_tool_reports_reaches_its_tenant_and_nobody_else(tmp_path):
    mine, theirs, unsubscribed = Ear(), Ear(), Ear()
    async with in_process(tmp_path, offer=[watched, greet, touch]) as server:
        uris = ["test://watched"]
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    lambda: listen(server, server.token("bob"), mine, 1, **ALL, resourceSubscriptions=uris)
                )
                nursery.start_soon(
                    lambda: listen(server, server.token("carol"), theirs, 1, **ALL, resourceSubscriptions=uris)
                )
                nursery.start_soon(
                    lambda: listen(server, server.token("alice"), unsubscribed, 1, toolsListChanged=True)
                )
                await until(lambda: all(ear.heard for ear in (mine, theirs, unsubscribed)))
                await server.modern("tools/call", server.token("alice"), 9, name="touch")
                await until(lambda: len(mine.messages) == 3)
                nursery.cancel_scope.cancel()

    assert mine.methods[1:] == ["notifications/resources/updated", "notifications/prompts/list_changed"]
    assert mine.messages[1]["params"]["uri"] == "test://watched"
    assert all(message["params"]["_meta"] for message in mine.messages)
    assert "resourceSubscriptions" not in theirs.messages[0]["params"]["notifications"]
    assert theirs.methods[1:] == unsubscribed.methods[1:] == []


async def test_a_stop_ends_listening_with_a_result(tmp_path):
    ear, closing = Ear(), trio.Event()
    async with in_process(tmp_path, closing=closing) as server:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: listen(server, server.token(), ear, 4, toolsListChanged=True))
                await until(lambda: bool(ear.heard))
                closing.set()

    assert ear.messages[-1]["id"] == 4
    assert ear.messages[-1]["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 4


async def test_a_listener_that_leaves_is_forgotten(tmp_path):
    ear = Ear()
    async with in_process(tmp_path) as server:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: listen(server, server.token(), ear, 1, **ALL))
                await until(lambda: bool(ear.heard))
                assert len(server.parts.changes._listeners) == 1
                ear.left.set()

        assert server.parts.changes._listeners == set()


@pytest.mark.parametrize(
    "wanted", [5, None, {"resourceSubscriptions": "x"}, {"resourceSubscriptions": [5]}, {"toolsListChanged": "yes"}]
)
async def test_a_filter_that_is_none_is_invalid(tmp_path, wanted):
    async with in_process(tmp_path) as server:
        answer = await server.modern("subscriptions/listen", server.token(), notifications=wanted)

        assert answer.json["error"]["code"] == -32602


async def test_a_legacy_client_unsubscribes(tmp_path):
    async with in_process(tmp_path, offer=[watched]) as server:
        token = server.token()
        session = (await server.initialize(token)).headers["mcp-session-id"]

        async def ask(method: str, uri: str):
            return await server.post(request(method, 1, uri=uri), token, mcp_session_id=session)

        subscribed = await ask("resources/subscribe", "test://watched")
        unknown = await ask("resources/subscribe", "test://nowhere")
        again = await ask("resources/unsubscribe", "test://watched")

        assert subscribed.json["result"] == again.json["result"] == {}
        assert unknown.json["error"]["code"] == -32002


def test_an_offer_of_two_of_a_name_is_refused():
    with pytest.raises(ValueError, match="two are named touch"):
        Offer.of([touch, touch])


@prompt(complete={"name": lambda typed: [name for name in ("Ada", "Alan") if name.startswith(typed)]})
def salute(name: str) -> str:
    """Salute somebody."""
    return f"Salute {name}"


async def test_suggestions_are_for_those_who_may_use_what_they_complete(tmp_path):
    reference = {"ref": {"type": "ref/prompt", "name": "salute"}, "argument": {"name": "name", "value": "A"}}
    async with in_process(tmp_path, offer=[salute]) as server:
        mine = await server.modern("completion/complete", server.token("bob"), **reference)
        foreign = await server.modern("completion/complete", server.token("carol"), **reference)
        unknown = await server.modern(
            "completion/complete",
            server.token("carol"),
            **{**reference, "ref": {"type": "ref/prompt", "name": "salutx"}},
        )

        assert mine.json["result"]["completion"]["values"] == ["Ada", "Alan"]
        assert foreign.json["error"]["code"] == -32602
        assert foreign.body == unknown.body
