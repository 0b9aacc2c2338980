"""The server under attack, and what must hold of it after each attack."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tenantry.audit import record
from tenantry.server import audit_log
from tests.attacks.wire import Fields, Reply, connect, eventually, read_all, read_reply, request_bytes
from tests.running import RunningServer, running_server

SERVED = Path(__file__).parent / "served"
CONFIG = SERVED / "server.toml"
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "nemo")
FORM = "application/x-www-form-urlencoded"
# A thread of the pool waits that long for the next piece of work, and no test waits for the pool.
POOL_THREADS = 48


def password_of(user: str) -> str:
    """What the person of the served configuration signs in with."""
    return f"canary-password-of-{user}"


@dataclass(frozen=True)
class Baseline:
    """What a server at rest has open."""

    descriptors: int
    threads: int


@dataclass
class Target:
    """One running server, what it was told in secret, and its clock."""

    mode: str
    running: RunningServer
    clock: Path
    port: int
    secrets: dict[bytes, str] = field(default_factory=dict)
    unsearched: set[bytes] = field(default_factory=set)
    printed: bytes = b""
    stopped: bool = False
    """The test has ended it: nothing is asked of it any more, and what it wrote is judged."""
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def issuer(self) -> str:
        return self.running.issuer

    @property
    def resource(self) -> str:
        return self.running.url

    @property
    def netloc(self) -> str:
        return f"localhost:{self.port}"

    @property
    def sessions(self) -> bool:
        """Whether legacy clients have sessions."""
        return self.mode != "stateless"

    @property
    def modern(self) -> bool:
        """Whether the revision without handshakes is served."""
        return self.mode != "sessionful"

    # --- talking

    def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Fields = (),
        body: bytes | None = None,
        source: str | None = None,
        plain: bool = False,
    ) -> Reply:
        """Send one request on a connection of its own; `plain` leaves out Host and lengths that are not given."""
        pairs = list(headers.items() if hasattr(headers, "items") else headers)
        names = {name.lower() for name, _ in pairs}
        fields: list[tuple[str, str]] = [] if plain or "host" in names else [("Host", self.netloc)]
        fields += [(name, value) for name, value in pairs if value is not None]
        if body is not None and not plain and not names & {"content-length", "transfer-encoding"}:
            fields.append(("Content-Length", str(len(body))))
        if "connection" not in names:
            fields.append(("Connection", "close"))
        with connect(self.port, source) as sock:
            with suppress(ConnectionError):  # an early answer may close while we write
                sock.sendall(request_bytes(method, target, fields, body or b""))
            return read_reply(sock, method)

    def raw(self, data: bytes, *, half_close: bool = True) -> bytes:
        """Send bytes and read all that comes back."""
        with connect(self.port) as sock:
            with suppress(ConnectionError):
                sock.sendall(data)
                if half_close:
                    sock.shutdown(1)
            return read_all(sock)

    def form(self, path: str, values: dict[str, str] | list[tuple[str, str]], **more: Any) -> Reply:
        """Post a form."""
        headers = {"Content-Type": FORM, **more.pop("headers", {})}
        return self.ask("POST", path, headers=headers, body=urlencode(values).encode(), **more)

    def register(self, **metadata: object) -> Reply:
        """Ask for a client registration."""
        name = f"Client {next(self.numbers)}"  # one that was registered before may be given again
        body = json.dumps({"redirect_uris": ["http://127.0.0.1/callback"], "client_name": name, **metadata})
        return self.ask("POST", "/register", headers={"Content-Type": "application/json"}, body=body.encode())

    # --- looking

    def keep_secret(self, *values: str) -> None:
        """Remember what must be found in no file and no log."""
        for value in values:
            secret = value.encode("utf-8", "surrogatepass")
            if len(secret) >= 12 and secret not in self.secrets:
                self.secrets[secret] = value[:6]
                self.unsearched.add(secret)

    def records(self, kind: str | None = None, **wanted: object) -> list[dict[str, Any]]:
        """The audit log as it stands on the disk."""
        found = [record.decode(body) for _, body in audit_log.read(self.running.data / audit_log.FILE_NAME)]
        return [
            entry
            for entry in found
            if kind in (None, entry["kind"]) and all(entry.get(name) == value for name, value in wanted.items())
        ]

    def stored(self, question: str) -> list[tuple[Any, ...]]:
        """What the server's store answers to a question in SQL."""
        with closing(sqlite3.connect(f"{(self.running.data / 'state.db').as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(question).fetchall()

    def shift(self, seconds: float) -> None:
        """Set the server's clock that far off."""
        with self.clock.open("r+b") as file:
            file.write(struct.pack("d", seconds))

    def slow_down(self, seconds: float) -> None:
        """Have each commit of the audit log take that much longer."""
        with self.clock.open("r+b") as file:
            file.seek(8)
            file.write(struct.pack("d", seconds))

    def rss_kib(self) -> int:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.running.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def cpu_s(self) -> float:
        """Processor time that the process has used."""
        fields = Path(f"/proc/{self.running.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Every file that the server wrote, and what it printed."""
        for path in sorted(self.running.data.rglob("*")):
            if path.is_file():
                yield path.name, path.read_bytes()
        yield "stderr", self.running.logged().encode("utf-8", "surrogateescape")
        yield "stdout", self._stdout()

    def _stdout(self) -> bytes:
        assert self.running.process.stdout is not None
        descriptor = self.running.process.stdout.fileno()
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            while data := os.read(descriptor, 65536):
                self.printed += data
        return self.printed

    # --- what must hold

    def alive(self) -> bool:
        """Whether the process runs and answers."""
        if self.running.process.poll() is not None:
            return False
        return self.ask("GET", "/.well-known/oauth-authorization-server").status == 200

    def baseline(self) -> Baseline:
        """What is open now."""
        tasks = Path(f"/proc/{self.running.process.pid}/task")
        return Baseline(self.running.descriptors(), len(list(tasks.iterdir())))

    def leaks(self) -> list[str]:
        """Which secrets are in which files; those that were searched for before are left to the last search."""
        files = list(self.written())
        return [
            f"{self.secrets[secret]}... is in {name}"
            for secret in self.unsearched
            for name, content in files
            if secret in content
        ]

    def check(self, before: Baseline) -> None:
        """The four invariants; raises `AssertionError`."""
        self.shift(0)
        if not self.stopped:
            self._check_rest(before)
        for path in audit_log.logs_in(self.running.data):
            assert audit_log.verify(path).problem is None, path.name
        assert self.leaks() == []
        self.unsearched.clear()

    def _check_rest(self, before: Baseline) -> None:
        assert self.alive(), self.running.logged()[-2000:]
        at_rest = eventually(lambda: self.running.descriptors() <= before.descriptors)
        assert at_rest, f"{self.running.descriptors()} descriptors, {before.descriptors} before"
        assert self.baseline().threads <= before.threads + POOL_THREADS

    def faults(self) -> list[str]:
        """Lines of the log that tell of a fault of ours."""
        return [line for line in self.running.logged().splitlines() if "level=error" in line or "Traceback" in line]


@contextmanager
def checked(target: Target) -> Iterator[Target]:
    """Attack inside of the block; the invariants hold behind it."""
    target.register()  # what is opened at the first request is no leak
    before = target.baseline()
    yield target
    target.check(before)


@contextmanager
def started(data: Path, mode: str, *flags: str, config: Path = CONFIG, killed: bool = False) -> Iterator[Target]:
    """Start a server over `data` and stop it at the end; all secrets are then searched for once more.

    `killed` where the test ends it by a signal that it can't hear.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    clock = data.parent / f"{data.name}.clock"
    clock.write_bytes(bytes(16))
    program = (sys.executable, str(SERVED / "clocked.py"), str(clock))
    flags = ("--config", str(config), "--mode", mode, *flags)
    with running_server(data, *flags, program=program, exit_status=-9 if killed else 0) as running:
        port = int(flags[flags.index("--port") + 1]) if "--port" in flags else running.port
        target = Target(mode, running, clock, port)
        target.keep_secret(*map(password_of, PEOPLE))
        yield target
        target.unsearched.update(target.secrets)
        if running.process.poll() is None:
            assert target.leaks() == []


class Servers:
    """Starts one server a mode and keeps it until the end of the session."""

    def __init__(self, room: Callable[[str], Path]) -> None:
        self._room = room
        self._open = ExitStack()
        self._by_mode: dict[str, Target] = {}

    def of(self, mode: str) -> Target:
        """The server of that mode."""
        if mode not in self._by_mode:
            self._by_mode[mode] = self._open.enter_context(started(self._room(mode) / "data", mode))
        return self._by_mode[mode]

    def close(self) -> None:
        """Stop them all."""
        self._open.close()


def tenantry(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the tenantry under test."""
    command = [sys.executable, "-m", "tenantry", *words]
    # A server that should have refused to start would serve for ever.
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
