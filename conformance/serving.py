"""Servers that the suite starts itself, each in a process of its own."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from conformance.login import SignedIn, sign_in

SERVE = (sys.executable, "-m", "tenantry", "serve", "--management-port", "off")
# The fixtures of the suite, and whoever may use them; without that flag, the demo's own.
WITH_FIXTURES = (("--demo", "--conformance"), "tester")
PLAIN = (("--demo",), "alice")
PASSWORD = "demo"
READY_S = 20
STOP_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that said it is ready."""

    url: str
    process: subprocess.Popen[str]
    data: Path
    log: IO[str]
    user: str
    """Who may sign in with the password `demo` and use everything that the tests need."""

    @property
    def issuer(self) -> str:
        """The URL without the endpoint's path."""
        return self.url.removesuffix("/mcp")

    def logged(self) -> str:
        """Everything that it wrote to stderr so far."""
        self.log.seek(0)
        return self.log.read()

    def sign_in(self, user: str | None = None, password: str = PASSWORD) -> SignedIn:
        """Sign somebody in by the login pages."""
        return sign_in(self.url, user=user or self.user, password=password)

    def add_service(self) -> tuple[str, str]:
        """Make a client that acts for itself in the tenant of the fixtures; give its id and secret."""
        words = ["clients", "add-service", "--tenant", "conformance", "--name", "conformance", "--scope", "tools:call"]
        command = [sys.executable, "-m", "tenantry", *words, "--data", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        return said["client_id"], said["client_secret"]

    def kill(self) -> None:
        """End it at once, as a lost machine would."""
        self.process.kill()
        self.process.wait(STOP_S)


@contextmanager
def serving(data: Path, *flags: str, user: str) -> Iterator[Server]:
    """Start `tenantry serve` over `data`; it is stopped at the end if it still runs."""
    with tempfile.TemporaryFile("w+") as log:
        port = () if "--port" in flags else ("--port", "0")
        command = [*SERVE, "--data", str(data), *port, *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        with process:
            try:
                assert process.stdout is not None
                ready = re.search(r"https?://\S+/mcp", process.stdout.readline())
                server = Server(url=ready[0] if ready else "", process=process, data=data, log=log, user=user)
                if ready is None:
                    raise RuntimeError(f"the server did not start: {server.logged()}")
                yield server
            finally:
                stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """Ask a process to stop, and end it where it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    """Give a port at which nobody listens at this moment."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


@contextmanager
def demo(data: Path, mode: str, *more: str) -> Iterator[Server]:
    """Start the demo in a mode and with more flags, with the fixtures of this suite where the server has them."""
    with contextlib.ExitStack() as stack:
        for flags, user in (WITH_FIXTURES, PLAIN):
            try:
                server = stack.enter_context(serving(data, *flags, "--mode", mode, *more, user=user))
            except RuntimeError as error:
                if flags == WITH_FIXTURES[0] and WITH_FIXTURES[0][-1] in str(error):
                    continue  # the server does not know the flag
                raise
            yield server
            return


def until(condition: object, *, seconds: float = 5.0) -> bool:
    """Wait until a callable gives something true; give whether it did in time."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
