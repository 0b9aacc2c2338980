"""Changes by command, beside a running server or without one: in its store, and on record in a log of their own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.server.audit_log import ADMIN_FILE_NAME, AuditLog
from tenantry.server.store import Store

STORE = "state.db"


class NoData(Exception):
    """The directory holds no data of a server."""


class Administration:
    """A server's store, and the log that commands write to."""

    def __init__(self, store: Store, log: AuditLog) -> None:
        self.store = store
        self.now = time.time()
        """When the command runs, in seconds since the epoch."""
        self._log = log

    def record(self, kind: Kind, **fields: Any) -> None:  # noqa: ANN401
        """Put a change on record, durably; each change of the store is followed by one."""
        self._log.commit([record.encode(kind, time_us=int(self.now * 1_000_000), **fields)])


@contextmanager
def administration(data: Path) -> Iterator[Administration]:
    """Open both for one command; the log first, so that nothing is changed that could not be recorded.

    Another command waits for its turn. Raises `NoData`, and what opening either raises.
    """
    if not (data / STORE).exists():
        raise NoData(f"{data} holds no data of a tenantry server")
    log = AuditLog(data / ADMIN_FILE_NAME, wait=True)
    try:
        store = Store.open(data / STORE)
        try:
            yield Administration(store, log)
        finally:
            store.close()
    finally:
        log.close()
