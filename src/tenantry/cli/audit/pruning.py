"""`tenantry audit prune`: what is older than it may be is taken out, and the log still stands."""

import time
from datetime import datetime
from pathlib import Path

from tenantry.audit import record
from tenantry.audit.checkpoint import BadKey
from tenantry.audit.record import Kind
from tenantry.cli.audit.logs import chosen, complain, microseconds
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server.audit_key import AuditLogInUse
from tenantry.server.audit_log import AuditLog, AuditLogDamaged


def prune(*, before: datetime, data: Path = DEFAULT_DATA, log: str | None = None) -> int:
    """Take the content of old records out for good. Their hashes stay and a record says what was taken, so that the
    log can still be verified and what is left be proven.

    Only while no server runs on the data. Exit status 0, or 1 where a log could not be pruned.

    Parameters
    ----------
    before
        Records from before then lose their content, up to the first that is not older; a time without a zone is UTC.
    data
        The server's data directory.
    log
        Only the log of this name.
    """
    before_us = microseconds(before) or 0
    done = [_prune(path, before_us) for path in chosen(data, log)]
    return 0 if all(done) else 1


def _prune(path: Path, before_us: int) -> bool:
    if not path.exists():
        complain(f"{path}: there is no such log")
        return False
    try:
        log = AuditLog(path)
    except (AuditLogInUse, AuditLogDamaged, BadKey) as error:
        complain(error)
        return False
    try:
        upto = log.last_before(before_us)
        if upto is None:
            print(f"{path}: nothing is that old")
            return True
        tombstone = record.encode(Kind.LOG_PRUNED, time_us=time.time_ns() // 1000, upto=upto)
        log.prune(upto, tombstone)
        print(f"{path}: records up to {upto} have lost their content")
    finally:
        log.close()
    return True
