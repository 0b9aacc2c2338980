import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.server import audit_log, audit_tail
from tenantry.server.asgi import Message
from tests.server.in_process import HOST, InProcess, in_process


class Consumer:
    """A WebSocket client of the application; it takes messages only as long as its gate is open."""

    def __init__(self, server: InProcess, token: str | None, query: str = "", **headers: str) -> None:
        self._server = server
        fields = {"host": HOST, **({} if token is None else {"authorization": f"Bearer {token}"}), **headers}
        self._scope = {
            "type": "websocket",
            "scheme": "ws",
            "raw_path": b"/audit/tail",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "client": ("127.0.0.1", 9),
        }
        self.gate = trio.Event()
        self.gate.set()
        self.left = trio.Event()
        self.sent: list[Message] = []
        self._connected = False

    async def run(self) -> None:
        await self._server.app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        await self.left.wait()
        return {"type": "websocket.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.gate.wait()
        await trio.lowlevel.checkpoint()
        self.sent.append(message)

    @property
    def messages(self) -> list[Any]:
        return [json.loads(message["text"]) for message in self.sent if message["type"] == "websocket.send"]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [entry for message in self.messages for entry in message["records"]]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.testing.wait_all_tasks_blocked(0.001)


@asynccontextmanager
async def following(consumer: Consumer):
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consumer.run)
            await until(lambda: len(consumer.messages) > 0)
            yield
            consumer.gate.set()
            consumer.left.set()


def reader(server: InProcess, user: str = "alice") -> str:
    return server.token(user, "tools:call", "audit:read")


async def call(server: InProcess, user: str, id_: int) -> None:
    await server.modern("tools/call", server.token(user, "tools:call"), id_, name="echo", arguments={"message": "hi"})


def fill(path: Path, count: int) -> None:
    log = audit_log.AuditLog(path)
    log.commit([record.encode(Kind.TOOL_CALL, time_us=at, tenant="tenant-a", jsonrpc_id=at) for at in range(count)])
    log.close()


@pytest.mark.parametrize(
    ("who", "query", "headers", "status"),
    [
        (None, "", {}, 401),
        ("tools:call", "", {}, 403),
        ("audit:read", "from=x", {}, 400),
        ("audit:read", "from=0:0", {}, 400),
        ("audit:read", "", {"origin": "https://evil.example"}, 403),
        ("audit:read", "", {"host": "evil.example"}, 403),
    ],
)
async def test_who_may_not_follow_is_refused_before_the_socket_is_accepted(tmp_path, who, query, headers, status):
    async with in_process(tmp_path) as server:
        consumer = Consumer(server, None if who is None else server.token("alice", who), query, **headers)
        await consumer.run()
    assert [message["type"] for message in consumer.sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert consumer.sent[0]["status"] == status


async def test_the_scope_counts_only_as_long_as_the_person_may_have_it(tmp_path):
    async with in_process(tmp_path) as server:
        consumer = Consumer(server, server.token("bob", "audit:read"))
        await consumer.run()
    assert consumer.sent[0]["status"] == 403
    assert b"audit:read" in dict(consumer.sent[0]["headers"])[b"www-authenticate"]


async def test_a_request_that_is_no_websocket_is_told_to_become_one(tmp_path):
    async with in_process(tmp_path) as server:
        answer = await server.ask("GET", "/audit/tail", headers={"authorization": f"Bearer {reader(server)}"})
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")


async def test_records_of_ones_own_tenant_come_as_they_are_committed(tmp_path):
    async with in_process(tmp_path) as server:
        await call(server, "alice", 1)
        async with following(consumer := Consumer(server, reader(server))):
            assert consumer.messages == [{"records": [], "next": {"0": 2}}]
            await call(server, "carol", 2)
            await call(server, "alice", 3)
            await until(lambda: len(consumer.records) > 0)
    (entry,) = consumer.records
    assert (entry["log"], entry["seq"], entry["jsonrpc_id"], entry["tenant"]) == ("0", 3, 3, "tenant-a")
    assert consumer.messages[-1]["next"] == {"0": 4}


async def test_who_was_cut_off_goes_on_without_a_hole_and_without_a_record_twice(tmp_path):
    async with in_process(tmp_path) as server:
        async with following(first := Consumer(server, reader(server))):
            await call(server, "alice", 1)
            await until(lambda: len(first.records) == 1)
        await call(server, "alice", 2)
        query = "&".join(f"from={name}:{seq}" for name, seq in first.messages[-1]["next"].items())
        async with following(second := Consumer(server, reader(server), query)):
            await call(server, "alice", 3)
            await until(lambda: len(second.records) == 2)
    assert [entry["seq"] for entry in first.records + second.records] == [1, 2, 3]


async def test_for_a_consumer_that_stalls_nothing_is_read_ahead(tmp_path):
    fill(tmp_path / audit_log.FILE_NAME, 20 * audit_tail.PAGE)
    pages: list[audit_tail.Page] = []
    read_page = audit_tail.read_page

    def counted(*arguments: Any) -> audit_tail.Page:
        pages.append(read_page(*arguments))
        return pages[-1]

    async with in_process(tmp_path) as server:
        with patch.object(audit_tail, "read_page", counted):
            async with following(consumer := Consumer(server, reader(server), "from=1")):
                consumer.gate = trio.Event()
                taken = len(consumer.messages)
                for number in range(5):
                    await call(server, "alice", 100_000 + number)
                    await trio.testing.wait_all_tasks_blocked(0.005)
                assert len(pages) <= taken + 2, "one page waits, and none behind it is read"
                consumer.gate.set()
                await until(lambda: len(consumer.records) == 20 * audit_tail.PAGE + 5)
    assert [entry["seq"] for entry in consumer.records] == list(range(1, 20 * audit_tail.PAGE + 6))


async def test_a_tail_ends_when_its_client_leaves_or_speaks(tmp_path):
    async with in_process(tmp_path) as server:
        consumer = Consumer(server, reader(server))
        consumer.left.set()
        with trio.fail_after(5):
            await consumer.run()
        assert consumer.sent[-1] == {"type": "websocket.close", "code": 1000}


async def test_a_wait_without_news_says_that_the_connection_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_tail, "QUIET_S", 0.01)
    monkeypatch.setattr(audit_tail, "LOOK_S", 0.005)
    async with in_process(tmp_path) as server, following(consumer := Consumer(server, reader(server))):
        await until(lambda: len(consumer.messages) > 2)
    assert consumer.messages[-1] == {"records": [], "next": {"0": 1}}


@pytest.mark.parametrize("reference", ["", "0", "x", "-1", "a:", "a:0", "1.5", "9" * 30, "\u0661"])
def test_what_is_no_place_is_refused(reference):
    with pytest.raises(ValueError, match="SEQ"):
        audit_tail.place(reference)


def test_a_place_names_a_log_or_means_the_first():
    assert audit_tail.place("7") == ("0", 7)
    assert audit_tail.place("admin:3") == ("admin", 3)
