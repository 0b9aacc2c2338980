"""Where servers that are measured keep their data: on the disk of the day, or where all flushes take the same time."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faults.shim import Faults, Mode

MEMORY = Path("/dev/shm")


@contextmanager
def disk(flush_ms: float = 0.0) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Give a directory, and the environment of servers whose data is in it.

    With `flush_ms` the directory is in memory and each flush of those servers there takes so long; 0 leaves the disk
    as it is.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if flush_ms and MEMORY.is_dir() else None) as data:
        directory = Path(data)
        if not flush_ms:
            yield directory, {}
            return
        with tempfile.TemporaryDirectory() as control:
            faults = Faults.make(Path(control), directory)
            faults.set(Mode.OFF, delay_ms=flush_ms)
            yield directory, faults.environment
