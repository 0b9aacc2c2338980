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
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import trio

from tenantry import web
from tenantry.audit.checkpoint import BadKey
from tenantry.config import Config, ConfigError, is_loopback
from tenantry.jsonrpc import Object
from tenantry.mcp.offer import Offer
from tenantry.mcp.prompts import Prompt
from tenantry.mcp.resources import Resource
from tenantry.mcp.tools import Tool
from tenantry.policy import Directory
from tenantry.server import host, management
from tenantry.server.admission import Admission
from tenantry.server.app import ANY, App, Routes
from tenantry.server.asgi import application
from tenantry.server.audit_endpoint import AuditEndpoint
from tenantry.server.audit_key import AuditLogInUse
from tenantry.server.audit_log import AuditLog, AuditLogDamaged, path_of
from tenantry.server.audit_writer import AuditUnavailable, AuditWriter, State
from tenantry.server.authentication import Authentication
from tenantry.server.bus import Bus
from tenantry.server.calls import Calls
from tenantry.server.changes import Changes, World
from tenantry.server.client_documents import Fetch, KnownClients
from tenantry.server.event_store import EventStore
from tenantry.server.features import Features
from tenantry.server.feed import Feed
from tenantry.server.fetch import Fetcher
from tenantry.server.figures import SAMPLE_EVERY_S, Figures
from tenantry.server.keys import SigningKeys
from tenantry.server.legacy import LegacyEra
from tenantry.server.login import Login
from tenantry.server.management import Readiness
from tenantry.server.mcp_endpoint import McpEndpoint
from tenantry.server.modern import ModernEra, RequestStates
from tenantry.server.oauth_endpoints import OAuthEndpoints
from tenantry.server.ongoing import Ongoing
from tenantry.server.people import peopled, settle
from tenantry.server.services import Services
from tenantry.server.sessions import Sessions
from tenantry.server.store import Store
from tenantry.server.store.announcements import Kind as Announced
from tenantry.server.tasks import Tasks

CONFIG = "config"
"""Sent by the supervisor: the configuration that was read again."""
HEALTH = "health"
"""Sent to the supervisor each second: how it goes with the worker's audit log."""

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
    checkpoint_copy: Path | None = None
    """A second place for the audit log's checkpoints."""
    host: str = "127.0.0.1"
    port: int = 3000
    management_port: int | None = None
    """On loopback; 0 takes any free one, None does without."""
    shares_port: bool = False
    """Whether other processes listen on the same port (SO_REUSEPORT)."""
    host_profile: str = "lean"
    """`lean`, or `stock` for hypercorn's own stream classes."""
    certificate: tuple[Path, Path] | None = None
    """The PEM files of the certificate chain and of its key; None to be spoken to in the clear."""


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
    admission: Admission


def build(
    config: Config,
    *,
    offer: Offer,
    data: Path,
    store: Store,
    audit: AuditWriter,
    sites: web.Sites,
    bus: Bus,
    figures: Figures,
    clock: Callable[[], float] = time.time,
    fetch: Fetch | None = None,
) -> Parts:
    """Wire everything up: the one place where the parts meet.

    `fetch` gets clients' metadata documents; without it they come from the net.
    """
    changes = Changes(World(config.directory(), offer), bus, people=partial(peopled, store=store))
    feed = Feed(store.announcements)
    keys = SigningKeys(store, feed=feed, clock=clock)
    feed.subscribe(lambda _: changes.people_changed(), Announced.PEOPLE_CHANGED)
    sessions = Sessions(store=store, feed=feed, bus=bus, config=config, clock=clock, fresh=fresh)
    events = EventStore(store, bus=bus, fresh=fresh)
    states = RequestStates(keys.seal_key, clock)

    def directory() -> Directory:
        return changes.world.directory

    authentication = Authentication(keys=keys, feed=feed, directory=directory, config=config, clock=clock)
    ongoing = Ongoing(feed, stands=authentication.stands)
    calls = Calls(
        directory=directory,
        audit=audit,
        figures=figures,
        clock=clock,
        mode=config.mode.value,
        timeout_s=config.limits.tool_timeout_s,
    )
    features = Features(config=config, changes=changes, calls=calls, seal=states.seal)
    tasks = Tasks(
        store=store, calls=calls, audit=audit, changes=changes, bus=bus, ongoing=ongoing, clock=clock, fresh=fresh
    )
    admission = Admission(config)
    endpoint = McpEndpoint(
        config=config,
        authentication=authentication,
        ongoing=ongoing,
        admission=admission,
        legacy=LegacyEra(
            config=config,
            features=features,
            changes=changes,
            sessions=sessions,
            events=events,
            audit=audit,
            bus=bus,
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
        authentication=authentication,
        feed=feed,
        clock=clock,
        fresh=fresh,
    )
    routes: Routes = {
        "/mcp": {ANY: endpoint.handle},
        **OAuthEndpoints(services).routes(),
        **Login(services).routes(),
        **AuditEndpoint(data).routes(),
    }
    feed.look()
    return Parts(
        app=App(routes, sites, answered=figures.request),
        sessions=sessions,
        tasks=tasks,
        changes=changes,
        feed=feed,
        admission=admission,
    )


async def serve(settings: Settings, *, on_ready: Callable[[str], None], stop: trio.Event | None = None) -> None:
    """Serve in this process until SIGTERM or SIGINT, or until `stop` is set; `on_ready` is told the MCP endpoint's URL.

    A stop lets the requests in flight be answered, ends streams cleanly and closes the audit log last. Raises
    `StartError` and `ConfigError` before anything is served, and the audit log's own error where it fails at the end.
    """
    offer = load_offer(settings.config, source=settings.source)
    with own_data(settings.data):
        await run(settings, offer, bus=Bus(fresh()), number=0, on_ready=on_ready, stop=stop)


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
        committed=figures.commit,
    )
    sites = config.sites(bound_port=port, bound_to_loopback=is_loopback(settings.host), scheme=_scheme(settings))
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
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(_run_audit, audit)
        try:
            async with trio.open_nursery() as serving:
                await serving.start(_stop_on_signal, stop, serving.cancel_scope)
                serving.start_soon(_run_bus, bus, stop)
                serving.start_soon(parts.sessions.run)
                serving.start_soon(parts.feed.run)
                serving.start_soon(parts.admission.run)
                serving.start_soon(figures.sample, parts.admission, parts.sessions, audit)
                await serving.start(partial(_show, settings, figures, audit, bus, stop))
                await serving.start(parts.tasks.run)
                settled = partial(settle, parts.changes, store, audit=audit, clock=time.time)
                await settled()
                replace_world = partial(_replace_world, settings, parts.changes, settled)
                await serving.start(partial(_reload_on_signal, settings, replace_world))
                bus.subscribe(CONFIG, lambda body: serving.start_soon(replace_world, _config_of(body)))
                await serving.start(_serve_until, listen, serving.cancel_scope)
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


def reachable(settings: Settings, port: int) -> Config:
    """The configuration with its public URL; raises `StartError` where nobody said what that is."""
    if settings.config.public_url:
        if settings.certificate and not settings.config.secure:
            raise StartError(f"--certfile serves https, and the public URL is {settings.config.public_url}")
        return settings.config
    if not is_loopback(settings.host):
        raise StartError(f"--host {settings.host} is reached from elsewhere: say how with --public-url https://...")
    return settings.config.at(f"{_scheme(settings)}://localhost:{port}")


def _scheme(settings: Settings) -> str:
    return "http" if settings.certificate is None else "https"


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """What the listener needs for https, None where it is spoken to in the clear; raises `StartError`."""
    if settings.certificate is None:
        return None
    try:
        return host.tls_context(*settings.certificate)
    except host.TlsError as error:
        raise StartError(f"--certfile, --keyfile: {error}") from None


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
        registry=lambda: figures.registry,
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
    except AuditUnavailable as error:
        _log.error("a departure or a changed password is not on record", reason=str(error))


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
                await replace_world(_replaceable(settings))
            except ConfigError as error:
                _log.error("the configuration was not reloaded", reason=str(error))


def _replaceable(settings: Settings) -> Config:
    config = reread(settings)
    changed = differing(settings.config, config)
    if changed:
        raise ConfigError(settings.source, [f"{name}: a change of this needs a restart" for name in changed])
    return config


def _config_of(body: Object) -> Config:
    return Config.model_validate_json(body["config"])


def reread(settings: Settings) -> Config:
    """Read the configuration again; raises `ConfigError` for one that can't be served."""
    if settings.read_again is None:
        raise ConfigError(settings.source, ["it can't be read again"])
    return reachable(replace(settings, config=settings.read_again()), settings.port)


def differing(before: Config, after: Config) -> list[str]:
    """What of a changed configuration can't be served without a restart."""
    changing = {"tenants", "users", "tools", "resources", "prompts"}
    fixed = [name for name in Config.model_fields.keys() - changing if getattr(before, name) != getattr(after, name)]
    shares = [{name: (it.weight, it.calls_per_s) for name, it in config.tenants.items()} for config in (before, after)]
    reshared = [f"tenants.{name}" for name in shares[0].keys() & shares[1].keys() if shares[0][name] != shares[1][name]]
    return [*fixed, *reshared]
