"""What is over does not stay in the store while the server runs, whoever registers or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tenantry.server.housekeeping import EVERY_S, keep_tidy
from tenantry.server.store import Store
from tenantry.server.store.database import StoreUnavailable
from tenantry.server.store.tasks import StoredTask
from tests.server.in_process import demo_config, until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "state.db")
    yield store
    store.close()


async def fill(store: Store, *, expires_at: float) -> None:
    who = {"tenant": "acme", "subject": "alice"}
    await store.login_sessions.add("digest", **who, peer="", now=0, expires_at=expires_at, instead_of=None)
    for id_, ended in (("over", True), ("going on", False)):
        task: Any = {"binding": ("acme", "alice", "client"), "body": {}, "runner": "life"}
        await store.tasks.save(StoredTask(id=id_, ended=ended, expires_at=expires_at, **task))


def left(path: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(path)) as reader:
        (logins,) = reader.execute("SELECT count(*) FROM login_session").fetchone()
        return logins, [id_ for (id_,) in reader.execute("SELECT id FROM task ORDER BY id")]


async def test_what_is_over_goes_while_the_server_runs(store, tmp_path, nursery, mock_clock, monkeypatch):
    times: list[float] = []
    purge = Store.purge

    async def noted(self: Store, *, now: float, family_s: float, idle_client_s: float) -> None:
        await purge(self, now=now, family_s=family_s, idle_client_s=idle_client_s)
        times.append(now)

    monkeypatch.setattr(Store, "purge", noted)
    await fill(store, expires_at=EVERY_S / 2)
    nursery.start_soon(lambda: keep_tidy(store, demo_config(), clock=trio.current_time))
    await until(lambda: len(times) == 1)
    assert left(tmp_path / "state.db") == (1, ["going on", "over"])
    mock_clock.jump(EVERY_S)
    await until(lambda: len(times) == 2)
    assert left(tmp_path / "state.db") == (0, ["going on"])
    nursery.cancel_scope.cancel()


async def test_a_store_that_fails_is_tidied_the_next_time(store, tmp_path, nursery, mock_clock, monkeypatch):
    failed = trio.Event()

    async def fails(*_: object, **__: object) -> None:
        failed.set()
        raise StoreUnavailable("database or disk is full")

    await fill(store, expires_at=-1)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "purge", fails)
        nursery.start_soon(lambda: keep_tidy(store, demo_config(), clock=trio.current_time))
        await failed.wait()
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(EVERY_S)
    await until(lambda: left(tmp_path / "state.db") == (0, ["going on"]))
    nursery.cancel_scope.cancel()
