"""The whole application without a socket: real store, real audit log, ASGI messages in and out."""

import json
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import trio
import trio.testing
from conformance.schemas import REVISIONS, violations

from tenantry import tool
from tenantry.audit import record
from tenantry.config import Config, FeatureSection, Mode, load
from tenantry.mcp.offer import Offer
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.tools import Tool
from tenantry.oauth import access_token
from tenantry.server import audit_log
from tenantry.server.application import application
from tenantry.server.asgi import ASGIApp, Message
from tenantry.server.audit_log import AuditLog
from tenantry.server.audit_writer import AuditWriter
from tenantry.server.bus import Bus
from tenantry.server.figures import Figures
from tenantry.server.keys import SigningKeys
from tenantry.server.parts import Parts, build
from tenantry.server.settings import load_offer
from tenantry.server.store import Store

HOST = "localhost:3000"
BOTH = "application/json, text/event-stream"
MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class Answered:
    """What came back from one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The messages of an event stream, in order."""
        return [json.loads(data) for data in data_of(self.body)]

    @property
    def ids(self) -> list[str]:
        """The event ids of an event stream, in order."""
        return [line.removeprefix(b"id: ").decode() for line in self.body.split(b"\n") if line.startswith(b"id: ")]


class InProcess:
    """One server in this process, and clients of it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        parts: Parts,
        config: Config,
        store: Store,
        path: Path,
        bus: Bus,
        now: Callable[[], float],
        audit: AuditWriter,
    ) -> None:
        self.app = app
        self.parts = parts
        self.config = config
        self.keys = SigningKeys(store, feed=parts.feed, clock=now)
        self.path = path
        self.bus = bus
        self.now = now
        self.audit = audit

    def records(self) -> list[dict[str, Any]]:
        """The audit log as it stands on the disk."""
        return [record.decode(body) for _, body in audit_log.read(self.path)]

    def store_row(self, question: str) -> tuple[Any, ...]:
        """The first row of the store that a question in SQL finds."""
        with closing(sqlite3.connect(self.path.parent / "state.db")) as connection:
            row: tuple[Any, ...] = connection.execute(question).fetchone()
        return row

    def token(self, user: str = "alice", *scopes: str, client: str = "client", **changes: Any) -> str:
        """An access token as the token endpoint would sign it; all of the person's scopes unless some are named."""
        person = self.config.users[user]
        claims = {
            "issuer": self.config.issuer,
            "audience": self.config.resource,
            "subject": user,
            "tenant": person.tenant,
            "client_id": client,
            "scopes": scopes or person.scopes,
            "token_id": "token",
            "family_id": "family",
            "issued_at": int(self.now()),
            "expires_at": int(self.now()) + 600,
        }
        return access_token.mint(access_token.Claims(**claims | changes), self.keys.now.signing)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        left: trio.Event | None = None,
        held: trio.Event | None = None,
        hear: Callable[[bytes], None] | None = None,
    ) -> Answered:
        """Send one request and take the whole answer; the client leaves when `left` is set.

        `hear` is told each part of the body as it comes. The body is sent once `held`, where there is one, is set.
        """
        answered: list[Message] = []
        asked = False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                if held is not None:
                    await held.wait()
                asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            await (trio.Event() if left is None else left).wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            if left is not None and left.is_set():
                return  # what is sent to a client that has left goes nowhere
            answered.append(message)
            if hear is not None and message.get("body"):
                hear(message["body"])

        fields = {"host": HOST, **({"content-length": str(len(body))} if body else {}), **(headers or {})}
        target, _, query = path.partition("?")
        await self.app(
            {
                "type": "http",
                "method": method,
                "scheme": "http",
                "raw_path": target.encode(),
                "query_string": query.encode(),
                "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()],
                "client": ("127.0.0.1", 9),
            },
            receive,
            send,
        )
        start: Message = answered[0] if answered else {"status": 0, "headers": []}
        return Answered(
            start["status"],
            {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in answered[1:]),
        )

    async def post(
        self,
        message: object,
        token: str | None = None,
        *,
        left: trio.Event | None = None,
        hear: Callable[[bytes], None] | None = None,
        **headers: str | None,
    ) -> Answered:
        """POST a message to the MCP endpoint; a header given as None is left out."""
        fields = {"content-type": "application/json", "accept": BOTH}
        if token is not None:
            fields["authorization"] = f"Bearer {token}"
        chosen = fields | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.ask(
            "POST",
            "/mcp",
            headers={name: value for name, value in chosen.items() if value is not None},
            body=message if isinstance(message, bytes) else json.dumps(message).encode(),
            left=left,
            hear=hear,
        )
        method = message.get("method") if isinstance(message, dict) else None
        assert faults(chosen.get("mcp-protocol-version"), method, answer) == []
        return answer

    async def modern(
        self,
        method: str,
        token: str,
        id_: int | str = 0,
        *,
        capabilities: dict[str, Any] | None = None,
        meta: dict[str, Any] | None = None,
        left: trio.Event | None = None,
        hear: Callable[[bytes], None] | None = None,
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> Answered:
        """POST a request of the modern era with all that it needs."""
        fields = {"mcp_protocol_version": "2026-07-28", "mcp_method": method, **(headers or {})}
        mirrored = params.get("name") or params.get("uri") or params.get("taskId")
        if mirrored is not None and "mcp_name" not in fields:
            fields["mcp_name"] = mirrored
        meta = {
            **MODERN_META,
            "io.modelcontextprotocol/clientCapabilities": capabilities or {},
            **(meta or {}),
        }
        return await self.post(request(method, id_, _meta=meta, **params), token, left=left, hear=hear, **fields)

    async def initialize(
        self, token: str, revision: str = "2025-11-25", capabilities: dict[str, Any] | None = None
    ) -> Answered:
        """Do the first half of the legacy handshake."""
        params = {
            "protocolVersion": revision,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        return await self.post(request("initialize", 1, **params), token)


def quiet(inside: trio.Event) -> Tool:
    """A tool that sets `inside`, says nothing and never ends."""

    @tool(name="quiet")
    async def wait() -> str:
        inside.set()
        await trio.sleep_forever()
        raise AssertionError

    return wait


def faults(revision: str | None, method: str | None, answer: Answered) -> list[str]:
    """What the revision's official schema says against the messages of an answer."""
    kind = answer.headers.get("content-type")
    if revision not in REVISIONS or kind is None or not answer.body:
        return []
    messages = answer.events if kind == "text/event-stream" else [answer.json]
    return [
        fault
        for message in messages
        if isinstance(message, dict) and "jsonrpc" in message  # neither a batch nor an error of HTTP
        for fault in violations(revision, message, method)
    ]


def data_of(body: bytes) -> list[bytes]:
    """The data of all events that have any."""
    return [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")]


def request(method: str, id_: int | str | None = 0, **params: Any) -> dict[str, Any]:
    """A JSON-RPC request, or a notification where `id_` is None."""
    message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
    return {name: value for name, value in message.items() if not (name == "id" and value is None)}


def demo_config(mode: str = "dual") -> Config:
    """The demo's configuration at its usual place."""
    text = (files("tenantry.demo") / "demo.toml").read_text()
    return load(text, source="demo").model_copy(update={"mode": Mode(mode)}).at("http://localhost:3000")


def offering(config: Config, more: list[Tool | Resource | Prompt]) -> Config:
    """The configuration with more to offer in tenant-a, all under the scope `tools:call`."""
    tables = {"tools": Tool, "resources": Resource, "prompts": Prompt}
    names = {table: [item.name for item in more if isinstance(item, kind)] for table, kind in tables.items()}
    needed = FeatureSection(scopes=("tools:call",))
    tenant = config.tenants["tenant-a"]
    tenant = tenant.model_copy(update={table: (*getattr(tenant, table), *names[table]) for table in tables})
    update: dict[str, Any] = {
        table: {**getattr(config, table), **dict.fromkeys(names[table], needed)} for table in tables
    }
    return config.model_copy(update={**update, "tenants": {**config.tenants, "tenant-a": tenant}})


@asynccontextmanager
async def in_process(
    data: Path,
    mode: str = "dual",
    *,
    config: Config | None = None,
    tools: list[Tool] | None = None,
    offer: list[Tool | Resource | Prompt] | None = None,
    clock: Callable[[], float] = lambda: 1_800_000_000.0,
    closing: trio.Event | None = None,
    bus: Bus | None = None,
    number: int = 0,
) -> AsyncIterator[InProcess]:
    """Run a server on the data in `data` until the block ends; with `tools`, in place of the demo's of those names.

    What is in `offer` is there besides, for tenant-a alone. With a `bus`, and a `number` of its own, it is one worker
    of several over the same data.
    """
    config = offering(config or demo_config(mode), offer or [])
    store = Store.open(data / "state.db")
    path = audit_log.path_of(data, str(number))
    log = AuditLog(path)
    audit = AuditWriter(log, queue_max=config.limits.audit_queue)
    sites = config.sites(bound_port=3000, bound_to_loopback=True)
    demo = load_offer(demo_config(mode), source="demo")
    named = {tool.name: tool for tool in tools or []}
    whole = Offer.of([*(named.get(name, demo.tools[name]) for name in demo.tools), *(offer or [])])
    parts = build(
        config,
        offer=whole,
        data=data,
        store=store,
        audit=audit,
        sites=sites,
        bus=bus or Bus(secrets.token_hex(8)),
        figures=Figures(),
        clock=clock,
    )
    app = application(parts.app.handle, closing=trio.Event() if closing is None else closing)
    with ExitStack() as files:
        files.callback(store.close)
        files.callback(log.close)
        async with trio.open_nursery() as nursery:
            await nursery.start(audit.run)
            try:
                async with trio.open_nursery() as serving:
                    serving.start_soon(parts.admission.run)
                    serving.start_soon(parts.turns.run)
                    await serving.start(parts.tasks.run)
                    serving.start_soon(parts.feed.run)
                    yield InProcess(
                        app, parts=parts, config=config, store=store, path=path, bus=bus, now=clock, audit=audit
                    )
                    serving.cancel_scope.cancel()
            finally:
                audit.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what tasks and threads together bring about."""
    while not condition():
        await trio.testing.wait_all_tasks_blocked(0.005)
