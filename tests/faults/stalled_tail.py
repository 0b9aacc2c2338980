"""Consumers of `audit tail` that stall: the server's memory stays flat, and each goes on later without a hole.

`python -m tests.faults.stalled_tail --records 50000 --consumers 20`. A server starts over a log of so many records;
each consumer asks for all of them, reads one message and stalls until the server cuts it, then comes back for the rest
and checks that it has every record once. Prints the server's memory before, while all stall, and afterwards.
"""

import argparse
import json
import sys
import tempfile
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import trio
from trio_websocket import ConnectionClosed, DisconnectionTimeout, WebSocketConnection, open_websocket_url

from tenantry.audit import record
from tenantry.audit.record import Kind
from tenantry.server import audit_log
from tests.http_client import Client
from tests.running import RunningServer, running_server

BATCH = 1000
LOOKS = 10


@dataclass
class Tally:
    """What came of it; memory in KiB."""

    before: int = 0
    stalled: list[int] = field(default_factory=list)
    afterwards: int = 0
    incomplete: list[str] = field(default_factory=list)


def fill(data: Path, records: int) -> None:
    """Write a log of so many records of tenant-a, and those of another between them."""
    log = audit_log.AuditLog(data / audit_log.FILE_NAME)
    for first in range(0, records, BATCH):
        log.commit(
            [
                record.encode(
                    Kind.TOOL_CALL, time_us=at, tenant="tenant-b" if at % 10 == 0 else "tenant-a", tool="echo" * 40
                )
                for at in range(first, first + BATCH)
            ],
            sign=True,
        )
    log.close()


def memory_of(server: RunningServer) -> int:
    """The server's resident memory in KiB."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Consumer:
    """One that reads a message, stalls, and comes back."""

    def __init__(self, server: RunningServer, token: str, upto: int) -> None:
        self._url = f"ws://localhost:{server.port}/audit/tail"
        self._headers = [(b"authorization", f"Bearer {token}".encode())]
        self._upto = upto
        self._begin = {"0": 1}
        self.seen: list[int] = []

    async def stall(self, until: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Read one message, then nothing, and leave without having read the rest."""
        with suppress(DisconnectionTimeout):  # the end of the connection is behind all that was not read
            async with self._connected(message_queue_size=1, disconnect_timeout=0.1) as connection:
                self._take(await connection.get_message())
                task_status.started()
                await until.wait()

    async def go_on(self) -> None:
        """Read the rest, with a new connection whenever one is lost."""
        while self._begin["0"] <= self._upto:
            try:
                async with self._connected() as connection:
                    while self._begin["0"] <= self._upto:
                        self._take(await connection.get_message())
            except ConnectionClosed:
                continue

    def _connected(self, **how: Any) -> AbstractAsyncContextManager[WebSocketConnection]:
        query = urlencode([("from", f"{name}:{seq}") for name, seq in self._begin.items()])
        return open_websocket_url(f"{self._url}?{query}", extra_headers=self._headers, **how)

    def _take(self, text: str) -> None:
        message = json.loads(text)
        self._begin = message["next"]
        places = [(entry["log"], entry["seq"]) for entry in message["records"]]
        self.seen += [seq for name, seq in places if name == "0" and seq <= self._upto]


def run(data: Path, *, records: int, consumers: int, stall_s: float) -> Tally:
    """Let so many consumers stall for so long, and come back."""
    fill(data, records)
    expected = [seq for seq in range(1, records + 1) if (seq - 1) % 10]
    tally = Tally()
    with running_server(data) as server:
        token = Client.register(server.issuer).sign_in(scope="audit:read")["access_token"]

        async def all_of_it() -> None:
            await (warm := Consumer(server, token, records)).go_on()
            tally.before = memory_of(server)
            stalling = [Consumer(server, token, records) for _ in range(consumers)]
            async with trio.open_nursery() as nursery:
                until = trio.Event()
                for consumer in stalling:
                    await nursery.start(consumer.stall, until)
                for _ in range(LOOKS):
                    await trio.sleep(stall_s / LOOKS)
                    tally.stalled.append(memory_of(server))
                until.set()
            async with trio.open_nursery() as nursery:
                for consumer in stalling:
                    nursery.start_soon(consumer.go_on)
            tally.afterwards = memory_of(server)
            tally.incomplete = [
                f"consumer {number} has {len(consumer.seen)} of {len(expected)} records"
                for number, consumer in enumerate([warm, *stalling])
                if consumer.seen != expected
            ]

        trio.run(all_of_it)
    return tally


def main() -> int:
    """Run and say what came of it; exit status 1 where a consumer has a hole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--consumers", type=int, default=20)
    parser.add_argument("--stall", type=float, default=10.0, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        tally = run(data, records=options.records, consumers=options.consumers, stall_s=options.stall)
    print(f"{options.records} records, {options.consumers} consumers that stall for {options.stall:g} s")
    print(
        f"memory in KiB: {tally.before} before, {min(tally.stalled)} to {max(tally.stalled)} meanwhile, "
        f"{tally.afterwards} afterwards; holes: {len(tally.incomplete)}"
    )
    for text in tally.incomplete:
        print(f"  {text}")
    return int(bool(tally.incomplete))


if __name__ == "__main__":
    sys.exit(main())
