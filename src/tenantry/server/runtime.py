"""Builds the server out of its configuration, and keeps the order in which things start and stop.

The audit writer starts before the first request can come and stops after the last answer has left. It lives
outside of the ASGI application: hypercorn would go on serving after an error there.
"""

import fcntl
import importlib
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import trio

from tenantry import web
from tenantry.config import Config, ConfigError, is_loopback
from tenantry.mcp.offer import Offer
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.tools import Tool
from tenantry.policy import Directory
from tenantry.server import host
from tenantry.server.app import ANY, App, Routes
from tenantry.server.asgi import ASGIApp, application
from tenantry.server.audit_log import FILE_NAME, AuditLog
from tenantry.server.audit_writer import AuditUnavailable, AuditWriter
from tenantry.server.authentication import Authentication
from tenantry.server.calls import Calls
from tenantry.server.changes import Changes, World
from tenantry.server.client_documents import Fetch, KnownClients
from tenantry.server.departures import end_the_departed
from tenantry.server.event_store import EventStore
from tenantry.server.features import Features
from tenantry.server.feed import Feed
from tenantry.server.fetch import Fetcher
from tenantry.server.keys import SigningKeys
from tenantry.server.legacy import LegacyEra
from tenantry.server.login import Login
from tenantry.server.mcp_endpoint import McpEndpoint
from tenantry.server.modern import ModernEra, RequestStates
from tenantry.server.oauth_endpoints import OAuthEndpoints
from tenantry.server.ongoing import Ongoing
from tenantry.server.services import Services
from tenantry.server.sessions import Sessions
from tenantry.server.store import Store
from tenantry.server.tasks import Tasks

_log = structlog.get_logger()


class StartError(Exception):
    """The server can't start; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `serve` is told beside the configuration."""

    config: Config
    source: str
    """The configuration's name in errors."""
    read_again: Callable[[], Config] | None = None
    """Gives the configuration as it stands now; raises `ConfigError`."""
    data: Path
    host: str = "127.0.0.1"
    port: int = 3000


def load_offer(config: Config, *, source: str) -> Offer:
    """Import the configured modules and take what the configuration names.

    Raises `ConfigError` for a module that can't be imported and for a name that no module offers.
    """
    offered: list[Tool | Resource | Prompt] = []
    for name in config.tool_modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(source, [f"tool_modules: {name} can't be imported: {error}"]) from error
        offered += [item for item in vars(module).values() if isinstance(item, Tool | Resource | Prompt)]
    wanted = {Tool: config.tools, Resource: config.resources, Prompt: config.prompts}
    known = {(type(item), item.name) for item in offered}
    missing = [
        f"{table}.{name}: no module in tool_modules offers it"
        for table, kind in (("tools", Tool), ("resources", Resource), ("prompts", Prompt))
        for name in wanted[kind]
        if (kind, name) not in known
    ]
    if missing:
        raise ConfigError(source, missing)
    return Offer.of(item for item in offered if item.name in wanted[type(item)])


@contextmanager
def own_data(data: Path) -> Iterator[None]:
    """Make the data directory, keep others out of it, and hold it for this process alone.

    Raises `StartError` where another server has it or where it can't be made.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        data.chmod(0o700)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(f"--data {data}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"--data {data}: another tenantry is serving from it") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d" % os.getpid(), 0)
        yield
    finally:
        os.close(lock)


def process_serving(data: Path) -> int | None:
    """The id of the process that serves from the directory, None where there is none."""
    try:
        with (data / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int((data / "lock").read_text())
    except OSError:
        return None
    return None


def fresh() -> str:
    """Give 256 random bits as URL-safe text."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A server that is built and does not run yet."""

    app: App
    sessions: Sessions
    tasks: Tasks
    changes: Changes
    feed: Feed


def build(
    config: Config,
    *,
    offer: Offer,
    store: Store,
    audit: AuditWriter,
    sites: web.Sites,
    clock: Callable[[], float] = time.time,
    fetch: Fetch | None = None,
) -> Parts:
    """Wire everything up: the one place where the parts meet.

    `fetch` gets clients' metadata documents; without it they come from the net.
    """
    changes = Changes(World(config.directory(), offer))
    keys = SigningKeys.load(store, now=int(clock()))
    feed = Feed(store.announcements)
    sessions = Sessions(store=store, feed=feed, config=config, clock=clock, fresh=fresh)
    events = EventStore(store, fresh=fresh)
    states = RequestStates(keys.seal_key, clock)

    def directory() -> Directory:
        return changes.world.directory

    authentication = Authentication(keys=keys, feed=feed, directory=directory, config=config, clock=clock)
    ongoing = Ongoing(feed, stands=authentication.stands)
    calls = Calls(
        directory=directory,
        audit=audit,
        clock=clock,
        mode=config.mode.value,
        timeout_s=config.limits.tool_timeout_s,
    )
    features = Features(config=config, changes=changes, calls=calls, seal=states.seal)
    tasks = Tasks(store=store, calls=calls, audit=audit, changes=changes, ongoing=ongoing, clock=clock, fresh=fresh)
    endpoint = McpEndpoint(
        config=config,
        authentication=authentication,
        ongoing=ongoing,
        legacy=LegacyEra(
            config=config,
            features=features,
            changes=changes,
            sessions=sessions,
            events=events,
            audit=audit,
            clock=clock,
        ),
        modern=ModernEra(features=features, changes=changes, tasks=tasks, states=states),
    )
    services = Services(
        config=config,
        directory=directory,
        store=store,
        clients=KnownClients(
            config=config,
            store=store,
            fetch=fetch or Fetcher(ports=config.clients.document_ports).get,
            clock=clock,
        ),
        audit=audit,
        keys=keys,
        feed=feed,
        clock=clock,
        fresh=fresh,
    )
    routes: Routes = {"/mcp": {ANY: endpoint.handle}, **OAuthEndpoints(services).routes(), **Login(services).routes()}
    feed.look()
    return Parts(app=App(routes, sites), sessions=sessions, tasks=tasks, changes=changes, feed=feed)


async def serve(settings: Settings, *, on_ready: Callable[[str], None], stop: trio.Event | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set; `on_ready` is told the MCP endpoint's URL.

    A stop lets the requests in flight be answered, ends streams cleanly and closes the audit log last. Raises
    `StartError` and `ConfigError` before anything is served, and the audit log's own error after it has failed.
    """
    stop = trio.Event() if stop is None else stop
    offer = load_offer(settings.config, source=settings.source)
    with own_data(settings.data):
        try:
            listening = host.bind(settings.host, settings.port)
        except OSError as error:
            raise StartError(f"--host {settings.host} --port {settings.port}: {error.strerror}") from error
        port = listening.getsockname()[1]
        config = _reachable(settings, port)
        store = Store.open(settings.data / "state.db")
        log = AuditLog(settings.data / FILE_NAME, host=urlsplit(config.public_url).hostname or "localhost")
        audit = AuditWriter(log.commit, queue_max=config.limits.audit_queue)
        sites = config.sites(bound_port=port, bound_to_loopback=is_loopback(settings.host))
        parts = build(config, offer=offer, store=store, audit=audit, sites=sites)
        app = application(parts.app.handle, closing=stop)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(_run_audit, audit, stop))
            try:
                async with trio.open_nursery() as serving:
                    await serving.start(_stop_on_signal, stop, serving.cancel_scope)
                    serving.start_soon(parts.sessions.run)
                    serving.start_soon(parts.feed.run)
                    await serving.start(parts.tasks.run)
                    departed = partial(end_the_departed, store, audit=audit, clock=time.time)
                    await departed(parts.changes.world.directory)
                    await serving.start(partial(_reload_on_signal, settings, parts.changes, departed))
                    await serving.start(partial(_serve_until, stop, app, listening, serving.cancel_scope))
                    on_ready(config.resource)
            finally:
                with trio.CancelScope(shield=True):
                    await parts.sessions.write_back()
                audit.close()
        if audit.failure is None:
            log.commit([], sign=True)
        log.close()
        store.close()
        if audit.failure is not None:
            raise audit.failure


def _reachable(settings: Settings, port: int) -> Config:
    if settings.config.public_url:
        return settings.config
    if not is_loopback(settings.host):
        raise StartError(f"--host {settings.host} is reached from elsewhere: say how with --public-url https://...")
    return settings.config.at(f"http://localhost:{port}")


async def _run_audit(
    audit: AuditWriter, stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    # A log that failed takes no more records: whoever asks is told so, and the server stops in good order.
    try:
        await audit.run(task_status=task_status)
    except Exception as error:  # noqa: BLE001  # kept in audit.failure, raised at the end of serve
        _log.error("the audit log failed; stopping", error=repr(error))
        stop.set()


async def _serve_until(
    stop: trio.Event,
    app: ASGIApp,
    listening: socket.socket,
    rest: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    await host.serve(app, sockets=[listening], shutdown=stop, task_status=task_status)
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


async def _reload_on_signal(
    settings: Settings,
    changes: Changes,
    departed: Callable[[Directory], Awaitable[None]],
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
                world = reread(settings)
            except ConfigError as error:
                _log.error("the configuration was not reloaded", reason=str(error))
            else:
                changes.replace(world)
                _log.info("the configuration was reloaded", source=settings.source)
                try:
                    await departed(world.directory)
                except AuditUnavailable as error:
                    _log.error("a departure is not on record", reason=str(error))


def reread(settings: Settings) -> World:
    """Read the configuration again: tenants, people, and which tools there are.

    Raises `ConfigError` for one that can't be served, and for a change that needs a restart.
    """
    if settings.read_again is None:
        raise ConfigError(settings.source, ["it can't be read again"])
    config = settings.read_again()
    fixed = ("mode", "public_url", "scopes", "lifetimes", "limits", "clients", "tool_modules")
    changed = [name for name in fixed if getattr(config, name) != getattr(settings.config, name)]
    if changed:
        raise ConfigError(settings.source, [f"{name}: a change of this needs a restart" for name in changed])
    return World(config.directory(), load_offer(config, source=settings.source))
