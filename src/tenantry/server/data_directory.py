"""The data directory: one server's at a time, and its owner's alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenantry.server.settings import StartError


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
