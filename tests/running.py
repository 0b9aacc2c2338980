"""A real server in a process of its own, for tests that need more than the app."""

import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

# Longer than a server in good order takes to answer what is in flight, shorter than a test may take.
STOP_S = 30
# Figures are for the tests that ask for them.
MANAGEMENT = ("--management-port", "off")
TENANTRY = (sys.executable, "-m", "tenantry")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that said it is ready."""

    url: str
    """The MCP endpoint."""
    process: subprocess.Popen[str]
    data: Path
    log: IO[str]

    @property
    def issuer(self) -> str:
        """The URL without the endpoint's path."""
        return self.url.removesuffix("/mcp")

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return urlsplit(self.url).port or 80

    def descriptors(self) -> int:
        """How many files and sockets the process has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def logged(self) -> str:
        """Everything that the server wrote to stderr so far."""
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> None:
        """Ask the server to stop by SIGTERM and wait; fails unless its exit status is 0."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_S)
        assert status == 0, f"exit status {status}\n{self.logged()}"


@contextmanager
def running_server(
    data: Path,
    *flags: str,
    cwd: Path | None = None,
    exit_status: int = 0,
    program: tuple[str, ...] = TENANTRY,
) -> Iterator[RunningServer]:
    """Start `tenantry serve --port 0` over `data`, of the demo unless `flags` name a configuration.

    `program` stands for the tenantry command.

    At the end it is stopped by SIGTERM, unless the test ended it itself, and must have ended with `exit_status`. It
    is killed where the test failed or where it does not stop.
    """
    source = () if "--config" in flags else ("--demo",)
    port = () if "--port" in flags else ("--port", "0")
    management = () if "--management-port" in flags else MANAGEMENT
    command = [*program, "serve", *source, *port, "--data", str(data), *management, *flags]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=cwd)
        with process:
            try:
                assert process.stdout is not None
                ready = re.search(r"https?://\S+/mcp", process.stdout.readline())
                server = RunningServer(url=ready[0] if ready else "", process=process, data=data, log=log)
                assert ready, server.logged()
                yield server
                if process.poll() is None and exit_status == 0:
                    server.stop()
                assert process.wait(STOP_S) == exit_status, server.logged()
            finally:
                if process.poll() is None:
                    process.kill()


def free_port() -> int:
    """A port that was free a moment ago, for a server that must come back at the same one.

    Below those that clients, and servers that ask for any port, get from the kernel: none of them takes it meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def demo_with(directory: Path, more: str) -> Path:
    """Write the demo's configuration with `more` behind it, and give its path."""
    path = directory / "demo.toml"
    path.write_text((files("tenantry.demo") / "demo.toml").read_text() + "\n" + more + "\n")
    return path


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what another process is about to do."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")
