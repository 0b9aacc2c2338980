"""`serve --workers N`: processes that serve the same port, and the one that watches over them.

A worker that dies is started again, after a delay that grows while it keeps dying. The supervisor serves no
request itself: it has nothing that a request could break.
"""

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from tenantry.config import Config, ConfigError
from tenantry.jsonrpc import Object
from tenantry.server import management
from tenantry.server.bus import WORKERS, Link
from tenantry.server.data_directory import own_data
from tenantry.server.management import Readiness
from tenantry.server.runtime import CONFIG, HEALTH, REFUSED, manage, reserve
from tenantry.server.settings import Settings, StartError, differing, reachable, reread
from tenantry.server.store import Store

BACK_OFF_FIRST_S = 0.1
BACK_OFF_MAX_S = 10.0
# Who lived for so long did not die of its start.
STEADY_S = 30.0
# Beyond the host's own grace for requests in flight.
KILL_AFTER_S = 20.0
START, READY = "start", "ready"

_log = structlog.get_logger()


class _Worker:
    """One life of one worker: its process and its end of the bus."""

    def __init__(self, number: int, life: str, process: trio.Process, stream: trio.SocketStream) -> None:
        self.number = number
        self.life = life
        self.process = process
        self.stream = stream
        self.link = Link(stream)
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.wanted = True
        """False once it was asked to stop."""
        self.health: Object = {"audit": "ok"}

    def stop(self) -> None:
        """Ask it to stop; asked again, it does not wait for requests in flight."""
        self.wanted = False
        self.process.send_signal(signal.SIGTERM)

    def stopped_early(self, status: int) -> bool:
        """Whether it was asked to stop before it could listen for that."""
        return not self.wanted and not self.ready.is_set() and status == -signal.SIGTERM


class Supervisor:
    """Starts the workers, passes their messages on, and replaces those that die."""

    def __init__(self, settings: Settings, *, count: int, fresh: Callable[[], str]) -> None:
        self._settings = settings
        self._config = self._config_before = settings.config
        self._count = count
        self._fresh = fresh
        self._workers: dict[int, _Worker] = {}
        self._stop = trio.Event()
        self._deaths: Counter[int] = Counter()
        self._changed = trio.Event()
        """Set, and replaced, whenever a worker began to serve or died."""
        self._failed: list[int] = []
        self._figures = settings.data / "metrics"
        """Where the workers' figures are, for as long as this process lives."""

    @property
    def ready(self) -> int:
        """How many workers serve now."""
        return sum(worker.ready.is_set() for worker in self._workers.values())

    async def run(self, *, on_ready: Callable[[str], None], stop: trio.Event | None = None) -> None:
        """Serve until SIGTERM or SIGINT, or until `stop` is set; `on_ready` is told the MCP endpoint's URL.

        Raises `StartError` and `ConfigError` before anything is served, and `StartError` where a worker can't start
        or did not end in good order.
        """
        self._stop = stop or self._stop
        with own_data(self._settings.data), reserve(self._settings) as port:
            self._config = reachable(self._settings, port)
            self._settings = replace(self._settings, port=port, config=self._config)
            Store.open(self._settings.data / "state.db").close()  # migrated once, before anybody uses it
            self._figures = _emptied(self._settings.data / "metrics")
            managing = manage(self._settings)
            async with trio.open_nursery() as nursery:
                if managing is not None:
                    await nursery.start(self._show, managing)
                await nursery.start(self._listen_to_signals)
                for number in range(self._count):
                    nursery.start_soon(self._keep, number)
                nursery.start_soon(self._say_ready, on_ready)
                await self._stop.wait()
                await self._end_all()
                nursery.cancel_scope.cancel()
        if self._failed:
            raise StartError(f"a worker ended with exit status {self._failed[0]}")

    async def _show(self, sock: socket.socket, *, task_status: trio.TaskStatus[None]) -> None:
        await management.serve(
            sock,
            registry=self._registry,
            readiness=self._readiness,
            shutdown=trio.Event(),  # to be seen until the last worker has ended
            task_status=task_status,
        )

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._figures))  # type: ignore[no-untyped-call]
        return registry

    def _readiness(self) -> Readiness:
        workers = {
            str(number): {"ready": worker.ready.is_set(), **worker.health}
            for number, worker in sorted(self._workers.items())
        }
        fit = [worker for worker in self._workers.values() if worker.ready.is_set() and worker.health["audit"] == "ok"]
        return Readiness(ready=bool(fit), details={"workers": workers})

    async def _say_ready(self, on_ready: Callable[[str], None]) -> None:
        while self.ready < self._count:
            await self._changed.wait()
        on_ready(self._config.resource)

    async def _end_all(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        with trio.move_on_after(KILL_AFTER_S):
            for worker in list(self._workers.values()):
                await worker.ended.wait()
            return
        for worker in self._workers.values():
            worker.process.kill()
        self._failed.append(-signal.SIGKILL)

    # --- one worker

    async def _keep(self, number: int) -> None:
        back_off_s = BACK_OFF_FIRST_S
        served = False
        while not self._stop.is_set():
            started_at = trio.current_time()
            worker = await self._start(number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.link.run, partial(self._heard, worker))
                status = await worker.process.wait()
                nursery.cancel_scope.cancel()
            await self._bury(worker)
            served = served or worker.ready.is_set()
            if status and (not served or not worker.wanted) and not worker.stopped_early(status):
                self._failed.append(status)
            if not served:
                self._stop.set()
            elif worker.wanted:
                _log.error("a worker died", worker=number, status=status, again_in_s=back_off_s)
                with trio.move_on_after(back_off_s):
                    await self._stop.wait()
                steady = trio.current_time() - started_at > STEADY_S
                back_off_s = BACK_OFF_FIRST_S if steady else min(back_off_s * 2, BACK_OFF_MAX_S)

    async def _start(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "tenantry.server.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._figures)},
                start_new_session=True,  # Ctrl-C is for the supervisor, which asks once
            )
        worker = _Worker(number, self._fresh(), process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self._workers[number] = worker
        worker.link.send(START, self._start_message(worker))
        return worker

    def _start_message(self, worker: _Worker) -> Object:
        return {
            "number": worker.number,
            "life": worker.life,
            "alive": [other.life for other in self._workers.values()],
            "config": self._config.model_dump_json(),
            "source": self._settings.source,
            "data": str(self._settings.data),
            "checkpoint_copy": None if self._settings.checkpoint_copy is None else str(self._settings.checkpoint_copy),
            "host_profile": self._settings.host_profile,
            "certificate": list(map(str, self._settings.certificate or ())),
            "host": self._settings.host,
            "port": self._settings.port,
            "path": sys.path,
        }

    def _heard(self, worker: _Worker, kind: str, body: Object) -> None:
        if kind == HEALTH:
            worker.health = body
            return
        if kind == REFUSED:
            if body == _as_message(self._config):
                self._config = self._config_before
            return
        if kind == READY:
            worker.ready.set()
            self._count_heads()
            return
        for other in self._workers.values():
            if other is not worker:
                other.link.send(kind, body)

    async def _bury(self, worker: _Worker) -> None:
        del self._workers[worker.number]
        mark_process_dead(worker.process.pid, path=str(self._figures))  # type: ignore[no-untyped-call]
        self._deaths[worker.number] += 1
        worker.ended.set()
        await worker.stream.aclose()
        self._count_heads()

    def _count_heads(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        alive = [worker.life for worker in self._workers.values()]
        for worker in self._workers.values():
            worker.link.send(WORKERS, {"alive": alive})

    # --- signals

    async def _listen_to_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    await self._reload()
                elif self._stop.is_set():
                    for worker in self._workers.values():
                        worker.stop()
                else:
                    self._stop.set()

    async def _reload(self) -> None:
        try:
            config = reread(self._settings)
        except (ConfigError, StartError) as error:
            _log.error("the configuration was not reloaded", reason=str(error))
            return
        self._config_before, self._config = self._config, config
        if differing(self._config_before, config):
            await self._roll()
            return
        for worker in self._workers.values():
            worker.link.send(CONFIG, _as_message(config))

    async def _roll(self) -> None:
        """Replace the workers one after the other; the first that can't live with the new configuration ends it."""
        for number in range(self._count):
            deaths = self._deaths[number]
            worker = self._workers.get(number)
            if worker is not None:
                worker.stop()
                await worker.ended.wait()
            if not await self._comes_back(number, deaths + 1):
                _log.error("the configuration was not reloaded: a worker can't start with it", worker=number)
                self._config = self._config_before
                return
        _log.info("the configuration was reloaded, one worker after the other", source=self._settings.source)

    async def _comes_back(self, number: int, deaths: int) -> bool:
        while self._deaths[number] <= deaths:
            worker = self._workers.get(number)
            if worker is not None and worker.ready.is_set():
                return True
            await self._changed.wait()
        return False


def _as_message(config: Config) -> Object:
    return {"config": config.model_dump_json()}


def _emptied(directory: Path) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    for file in directory.iterdir():
        file.unlink()
    return directory
