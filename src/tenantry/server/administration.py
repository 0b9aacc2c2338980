"""Changes by command, beside a running server or without one: each is on record before it counts.

The record is durable inside the change's transaction, so that there may be a record of a change that then failed,
and never a change without its record. Running servers hear of it by the store's announcements.
"""

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.server.audit_log import ADMIN_FILE_NAME, AuditLog
from tenantry.server.store import Store

STATE = "state.db"


class NoData(Exception):
    """No server has kept its data in this directory."""


class Administration:
    """A server's store, and the log that commands write to."""

    def __init__(self, state: Path, log: AuditLog) -> None:
        self._log = log
        self._entry: bytes | None = None
        self.now = time.time()
        """When the command runs, in seconds since the epoch."""
        self.store = Store.open(state, before_commit=self._put_on_record)

    @contextmanager
    def recording(self, kind: Kind, **fields: str) -> Iterator[None]:
        """Put the one change of the store that the block makes on record."""
        self._entry = record.encode(kind, time_us=int(self.now * 1_000_000), operator=_operator(), **fields)
        try:
            yield
        finally:
            self._entry = None

    def _put_on_record(self) -> None:
        if self._entry is None:
            raise RuntimeError("a change needs its record")
        self._log.commit([self._entry], sign=True)
        self._entry = None


@contextmanager
def administration(data: Path) -> Iterator[Administration]:
    """Open both for one command; another command waits for its turn.

    Raises `NoData`, and what opening either raises.
    """
    state = existing_state(data)
    log = AuditLog(data / ADMIN_FILE_NAME, wait=True)
    try:
        opened = Administration(state, log)
        try:
            yield opened
        finally:
            opened.store.close()
    finally:
        log.close()


def existing_state(data: Path) -> Path:
    """Give where the store of a data directory is; raises `NoData` where there is none."""
    path = data / STATE
    if not path.is_file():
        raise NoData(f"--data {data}: no server has kept its data here")
    return path


def _operator() -> str:
    # Whoever is logged in may have no name, as in a container without a user database.
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
