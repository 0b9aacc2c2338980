"""Servers that start at once: forks of a process that has everything loaded. Only for a process without threads."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tenantry.cli.serve import serve
from tests.faults.callers import CONFIG

READY = b"tenantry serves"


@contextmanager
def forked_server(
    data: Path, port: int, plant: Callable[[], AbstractContextManager[None]], *, end: int = signal.SIGKILL
) -> Iterator[int]:
    """Serve the shop from `data` in a fork, with a bug or without; give its process id once it is ready.

    It gets the signal `end` at the end, and must then end in good order unless that is a kill.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        log = os.open(data.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 2)
        try:
            with plant():
                status = serve(config=CONFIG, data=data, port=port)
        finally:
            os._exit(locals().get("status", 3))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as output:
            assert output.readline().startswith(READY), data.with_suffix(".log").read_text()
        yield child
    except BaseException:
        end = signal.SIGKILL
        raise
    finally:
        os.kill(child, end)
        _, status = os.waitpid(child, 0)
    assert end == signal.SIGKILL or status == 0, data.with_suffix(".log").read_text()[-4000:]
