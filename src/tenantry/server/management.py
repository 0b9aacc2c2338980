"""The management listener, on loopback alone: `/metrics`, `/health/live` and `/health/ready`."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio
from prometheus_client import CollectorRegistry, generate_latest

from tenantry import jsonrpc, web
from tenantry.jsonrpc import Object
from tenantry.server import host
from tenantry.server.app import App, Routes
from tenantry.server.application import application
from tenantry.server.exchange import Answer, Exchange

ADDRESS = "127.0.0.1"
DEFAULT_PORT = 9000
# Prometheus' own text format, version 0.0.4.
_TEXT = {"content-type": "text/plain; version=0.0.4; charset=utf-8", "cache-control": "no-store"}
_JSON = {"content-type": "application/json", "cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests are served as they should be, and what there is to say of it."""

    ready: bool
    details: Object = field(default_factory=dict)


def listen(port: int) -> socket.socket:
    """Bind the listener's socket; raises OSError."""
    return host.bind(ADDRESS, port)


async def serve(
    sock: socket.socket,
    *,
    registry: Callable[[], CollectorRegistry],
    readiness: Callable[[], Readiness],
    shutdown: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on `sock` until `shutdown` is set."""
    port = sock.getsockname()[1]
    sites = web.Sites.of(*(f"http://{name}:{port}" for name in ("localhost", ADDRESS)))
    routes: Routes = {
        "/metrics": {"GET": partial(_metrics, registry)},
        "/health/live": {"GET": _live},
        "/health/ready": {"GET": partial(_ready, readiness)},
    }
    app = application(App(routes, sites).handle, closing=shutdown)
    await host.serve(app, sockets=[sock], shutdown=shutdown, task_status=task_status)


async def _metrics(registry: Callable[[], CollectorRegistry], _: Exchange) -> Answer:
    await trio.lowlevel.checkpoint()
    return web.Response(status=200, headers=_TEXT, body=generate_latest(registry()))


async def _live(_: Exchange) -> Answer:
    await trio.lowlevel.checkpoint()
    return web.Response(status=200, headers=_JSON, body=jsonrpc.encode({"status": "live"}))


async def _ready(readiness: Callable[[], Readiness], _: Exchange) -> Answer:
    await trio.lowlevel.checkpoint()
    now = readiness()
    body = {"status": "ready" if now.ready else "not ready", **now.details}
    return web.Response(status=200 if now.ready else 503, headers=_JSON, body=jsonrpc.encode(body))
