"""Serves in one process: the order in which things start and stop, and what signals do.

The audit writer starts before the first request can come and stops after the last answer has left. It lives
outside of the ASGI application: hypercorn would go on serving after an error there.
"""

import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

import structlog
import trio

from tenantry.audit.checkpoint import BadKey
from tenantry.config import Config, ConfigError, is_loopback
from tenantry.jsonrpc import Object
from tenantry.mcp.offer import Offer
from tenantry.server import host, large_pages, management
from tenantry.server.application import application
from tenantry.server.audit_key import AuditLogInUse
from tenantry.server.audit_log import AuditLog, AuditLogDamaged, path_of
from tenantry.server.audit_writer import AuditUnavailable, AuditWriter, State
from tenantry.server.bus import Bus
from tenantry.server.changes import Changes, World
from tenantry.server.data_directory import own_data
from tenantry.server.figures import SAMPLE_EVERY_S, Figures
from tenantry.server.housekeeping import keep_tidy
from tenantry.server.management import Readiness
from tenantry.server.parts import build, fresh
from tenantry.server.people import settle
from tenantry.server.settings import Settings, StartError, load_offer, reachable, replaceable, scheme, tls_of
from tenantry.server.store import Store
from tenantry.server.store.database import StoreUnavailable

CONFIG = "config"
"""Sent by the supervisor: the configuration that was read again."""
REFUSED = "refused"
"""Sent to the supervisor: what it sent as CONFIG, which can't be served; the one before still is."""
HEALTH = "health"
"""Sent to the supervisor each second: how it goes with the worker's audit log."""

# How long a thread with a record to write waits for an event loop that is busy; Python's own 5 ms are ten requests.
SWITCH_S = 0.0005

_log = structlog.get_logger()


async def serve(settings: Settings, *, on_ready: Callable[[str], None], stop: trio.Event | None = None) -> None:
    """Serve in this process until SIGTERM or SIGINT, or until `stop` is set; `on_ready` is told the MCP endpoint's URL.

    A stop lets the requests in flight be answered, ends streams cleanly and closes the audit log last. Raises
    `StartError` and `ConfigError` before anything is served, and the audit log's own error where it fails at the end.
    """
    offer = load_offer(settings.config, source=settings.source)
    with own_data(settings.data):
        await run(settings, offer, bus=Bus(fresh()), number=0, on_ready=on_ready, stop=stop)


# A collection of all objects takes seconds where ten thousand streams are open, and finds next to nothing: what ends
# is let go by hand. It is made a hundred times more seldom than Python would.
COLLECTIONS = (700, 10, 1000)


def _settle_interpreter() -> None:
    """Make pauses short: what was made until now lives as long as the process, so no collection looks at it again."""
    gc.collect()
    gc.freeze()
    large_pages.use()
    gc.set_threshold(*COLLECTIONS)
    sys.setswitchinterval(SWITCH_S)


async def run(
    settings: Settings,
    offer: Offer,
    *,
    bus: Bus,
    number: int,
    on_ready: Callable[[str], None],
    stop: trio.Event | None = None,
) -> None:
    """What `serve` says, in a data directory that is held already; `number` tells workers on one port apart."""
    stop = trio.Event() if stop is None else stop
    listening = _bind(settings)
    port = listening.getsockname()[1]
    config = reachable(settings, port)
    settings = replace(settings, config=config, port=port)
    store = Store.open(settings.data / "state.db")
    log = _open_log(settings, number)
    limits = config.limits
    figures = Figures()
    audit = AuditWriter(
        log,
        queue_max=limits.audit_queue,
        deadline_s=limits.audit_deadline_s,
        denials_recorded=limits.denials_recorded,
        on_the_spot=True,
        committed=figures.commit,
    )
    sites = config.sites(bound_port=port, bound_to_loopback=is_loopback(settings.host), scheme=scheme(settings))
    parts = build(
        config, offer=offer, data=settings.data, store=store, audit=audit, sites=sites, bus=bus, figures=figures
    )
    app = application(parts.app.handle, closing=stop, proxies=config.proxies, https_for_good=config.https_for_good)
    listen = partial(
        host.serve,
        app,
        sockets=[listening],
        shutdown=stop,
        lean=settings.host_profile == "lean",
        tls=tls_of(settings),
        is_proxy=config.proxies.trusts,
        turns=parts.turns,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(_run_audit, audit)
        try:
            async with trio.open_nursery() as serving:
                await serving.start(_stop_on_signal, stop, serving.cancel_scope)
                serving.start_soon(_run_bus, bus, stop)
                serving.start_soon(parts.sessions.run)
                serving.start_soon(partial(keep_tidy, store, config, clock=time.time))
                serving.start_soon(parts.feed.run)
                serving.start_soon(parts.admission.run)
                serving.start_soon(parts.turns.run)
                serving.start_soon(figures.sample, parts.admission, parts.sessions, audit)
                await serving.start(partial(_show, settings, figures, audit, bus, stop))
                await serving.start(parts.tasks.run)
                settled = partial(settle, parts.changes, store, audit=audit, clock=time.time)
                await settled()
                replace_world = partial(_replace_world, settings, parts.changes, settled)
                await serving.start(partial(_reload_on_signal, settings, replace_world))
                bus.subscribe(CONFIG, lambda body: serving.start_soon(_take_config, bus, replace_world, body))
                await serving.start(_serve_until, listen, serving.cancel_scope)
                _settle_interpreter()
                on_ready(config.resource)
        finally:
            with trio.CancelScope(shield=True):
                await parts.sessions.write_back()
            audit.close()
    log.close()
    store.close()
    if audit.failure is not None:
        raise audit.failure


def _open_log(settings: Settings, number: int) -> AuditLog:
    path = path_of(settings.data, str(number))
    host = urlsplit(settings.config.public_url).hostname or "localhost"
    try:
        return AuditLog(path, host=host, copy=settings.checkpoint_copy)
    except (AuditLogDamaged, AuditLogInUse, BadKey) as error:
        raise StartError(f"the audit log can't be written to: {error}") from error


def _bind(settings: Settings) -> socket.socket:
    try:
        return host.bind(settings.host, settings.port, shared=settings.shares_port)
    except OSError as error:
        raise StartError(f"--host {settings.host} --port {settings.port}: {error.strerror}") from error


@contextmanager
def reserve(settings: Settings) -> Iterator[int]:
    """Hold a port that several processes are going to listen on, and give it; raises `StartError`."""
    with _bind(settings) as held:
        yield held.getsockname()[1]


async def _show(
    settings: Settings,
    figures: Figures,
    audit: AuditWriter,
    bus: Bus,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let an operator see how it goes: on the management listener, or through the supervisor's."""
    if settings.shares_port:
        task_status.started()
        while True:
            bus.publish(HEALTH, readiness_of(audit).details)
            await trio.sleep(SAMPLE_EVERY_S)
    sock = manage(settings)
    if sock is None:
        task_status.started()
        return
    await management.serve(
        sock,
        registry=figures.registry,
        readiness=lambda: readiness_of(audit),
        shutdown=stop,
        task_status=task_status,
    )


def manage(settings: Settings) -> socket.socket | None:
    """Bind the management listener, None where there is to be none; raises `StartError`.

    Nobody chose the default port: where it is taken, there is a line in the log and no listener.
    """
    chosen = settings.management_port
    if chosen is None:
        return None
    try:
        return management.listen(chosen)
    except OSError as error:
        if chosen != management.DEFAULT_PORT:
            raise StartError(f"--management-port {chosen}: {error.strerror}") from error
        _log.info("no management listener: the port is taken", port=chosen)
        return None


def readiness_of(audit: AuditWriter) -> Readiness:
    """Whether calls can be answered: not without their records."""
    health = audit.health
    return Readiness(
        ready=health.state is State.OK,
        details={"audit": health.state.value, "since": health.since, "reason": health.reason},
    )


async def _run_bus(bus: Bus, stop: trio.Event) -> None:
    await bus.run()
    _log.error("the supervisor is gone; stopping")
    stop.set()


async def _run_audit(audit: AuditWriter, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    try:
        await audit.run(task_status=task_status)
    except Exception as error:  # noqa: BLE001  # kept in audit.failure, raised at the end of serve
        _log.error("the audit log failed and did not come back", error=repr(error))


async def _serve_until(
    listen: Callable[..., Awaitable[None]],
    rest: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    await listen(task_status=task_status)
    rest.cancel()


async def _stop_on_signal(
    stop: trio.Event, serving: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    if threading.current_thread() is not threading.main_thread():
        task_status.started()  # signals go to the main thread alone
        return
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                serving.cancel()  # asked twice: whoever stops us does not want to wait
            stop.set()


async def _replace_world(
    settings: Settings, changes: Changes, settled: Callable[[], Awaitable[None]], config: Config
) -> None:
    """Serve another configuration from now on; raises `ConfigError` where that can't be."""
    changes.replace(World(config.directory(), load_offer(config, source=settings.source)))
    _log.info("the configuration was reloaded", source=settings.source)
    try:
        await settled()
    except (AuditUnavailable, StoreUnavailable) as error:
        _log.error("a departure or a changed password is not on record: reload once more", reason=str(error))


async def _reload_on_signal(
    settings: Settings,
    replace_world: Callable[[Config], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    if settings.read_again is None or threading.current_thread() is not threading.main_thread():
        task_status.started()
        return
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            try:
                await replace_world(replaceable(settings))
            except ConfigError as error:
                _log.error("the configuration was not reloaded", reason=str(error))


async def _take_config(bus: Bus, replace_world: Callable[[Config], Awaitable[None]], body: Object) -> None:
    try:
        await replace_world(Config.model_validate_json(body["config"]))
    except ConfigError as error:
        _log.error("the configuration was not reloaded", reason=str(error))
        bus.publish(REFUSED, body)
