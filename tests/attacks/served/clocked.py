"""Runs the tenantry command with a clock and a disk that a test can play with: `python clocked.py FILE serve ...`.

FILE holds two numbers of eight bytes: the seconds by which the wall clock is off, and those that a commit of the
audit log takes longer. They are read each time, so the whole server sees a change at once; the monotonic clock, which
deadlines hang on, goes on as ever.
"""

import mmap
import struct
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Put the shifted clock in place before anything of the server is imported."""
    _, path, *command = sys.argv
    sys.path.pop(0)  # the folder of this file holds the server's tools, which the configuration leads to
    with Path(path).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 16)
    real = time.time
    time.time = lambda: real() + float(struct.unpack_from("d", shared)[0])

    from tenantry.cli import main as tenantry  # after the clock
    from tenantry.server.audit_log import AuditLog

    commit = AuditLog.commit

    def slow(log: AuditLog, *entries: Any, **more: Any) -> None:
        time.sleep(float(struct.unpack_from("d", shared, 8)[0]))
        commit(log, *entries, **more)

    setattr(AuditLog, "commit", slow)  # noqa: B010  # what a checker would not let pass by name

    sys.argv = ["tenantry", *command]
    tenantry()


if __name__ == "__main__":
    main()
