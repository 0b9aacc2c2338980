"""The program that the harnesses cut, kill and starve: it appends by the product's writer and says what is durable.

Each record has a number. Once its append has returned, the line `durable NUMBER` is written to stdout, which is the
acknowledgement that must hold; a refused one writes `refused NUMBER`. The controls are planted here and not in the
product: each is a bug that a harness must catch, else the harness can't be believed.
"""

import argparse
import math
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trio

from tenantry.audit import record
from tenantry.server import audit_writer
from tenantry.server.audit_log import FILE_NAME, AuditLog
from tenantry.server.audit_writer import AuditUnavailable, AuditWriter, Ticket

QUEUE_MAX = 64
# The writer tries again after a time that is for operators; a harness has no time.
RETRY_S = 0.005
# Rounds of the event loop.
HEAD_START = 20
COMMAND = (sys.executable, "-m", "tests.faults.subject")


def entry(number: int) -> bytes:
    """The record of a number: long enough that some of them lie over more than one page of the file."""
    return record.encode(
        record.Kind.TOOL_CALL,
        time_us=1_800_000_000_000_000 + number,
        tenant="tenant-a",
        tool="echo" * 50,
        session="s" * (number % 200),
        jsonrpc_id=number,
    )


def acknowledged(output: bytes) -> list[int]:
    """The numbers that the subject has called durable in what it wrote."""
    return [int(number) for number in re.findall(rb"^durable (\d+)$", output, re.MULTILINE)]


def number_of(body: bytes) -> int | None:
    """The number of a record that `entry` made, None for any other."""
    number = record.decode(body).get("jsonrpc_id")
    return number if isinstance(number, int) else None


async def append_all(data: Path, *, sessions: int, callers: int, records: int) -> None:
    """Open, let `callers` append `records` each at once, and close, `sessions` times."""
    number = 0
    for _ in range(sessions):
        # All in the thread that also commits: a tracer counts calls by thread.
        log = await trio.to_thread.run_sync(AuditLog, data / FILE_NAME)
        writer = AuditWriter(log, queue_max=QUEUE_MAX)
        async with trio.open_nursery() as nursery:
            await nursery.start(_write, writer)
            async with trio.open_nursery() as appending:
                for _ in range(callers):
                    appending.start_soon(_append, writer, range(number, number + records))
                    number += records
            writer.close()
        await trio.to_thread.run_sync(log.close)


async def _write(writer: AuditWriter, *, task_status: trio.TaskStatus[None]) -> None:
    try:
        await writer.run(task_status=task_status)
    except (OSError, sqlite3.Error) as error:
        print(f"the writer ended: {error!r}", file=sys.stderr)


async def _append(writer: AuditWriter, numbers: range) -> None:
    for number in numbers:
        try:
            await writer.append(entry(number))
        except AuditUnavailable:
            os.write(1, b"refused %d\n" % number)
            await trio.sleep(3 * RETRY_S)  # the log may have recovered by then
        else:
            os.write(1, b"durable %d\n" % number)


@contextmanager
def lying_disk(level: str) -> Iterator[None]:
    """Plant a connection that flushes less than it is told to."""
    connect = sqlite3.connect
    lied = []

    class Lying(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if "synchronous" in sql:
                lied.append(sql)
                sql = f"PRAGMA synchronous={level}"
            return super().execute(sql, *rest)

    with patch("sqlite3.connect", partial(connect, factory=Lying)):
        yield
    assert lied, "nothing was planted: the log does not say how it is flushed"


def promised(entry: bytes) -> Ticket:
    """Give a ticket that says of an entry that it is durable, though it is not."""
    ticket = Ticket(entry, math.inf)
    ticket.is_durable = True
    ticket.settle()
    return ticket


@contextmanager
def early_acknowledgement() -> Iterator[None]:
    """Plant a writer that says a record is durable while it is still on the way."""
    hand_in = AuditWriter.hand_in

    def promise(writer: AuditWriter, body: bytes, **_: str) -> Ticket:
        trio.lowlevel.spawn_system_task(_silent, hand_in, writer, body)
        return promised(body)

    with patch.object(AuditWriter, "hand_in", promise):
        yield


async def _silent(hand_in: Callable[..., Ticket], *arguments: object) -> None:
    for _ in range(HEAD_START):  # a quick commit would have written the record before the answer has left
        await trio.lowlevel.checkpoint()
    try:
        await hand_in(*arguments).durable()
    except AuditUnavailable:
        return


@contextmanager
def deaf_commit() -> Iterator[None]:
    """Plant a commit that takes a failure for a success."""
    commit = AuditLog.commit

    def pretend(*arguments: Any, **more: Any) -> None:
        try:
            commit(*arguments, **more)
        except (OSError, sqlite3.Error):
            return

    with patch.object(AuditLog, "commit", pretend):
        yield


@contextmanager
def early_and_slow() -> Iterator[None]:
    """Plant an early acknowledgement over a disk that takes its time, so that few kills are enough to show it."""
    commit = AuditLog.commit

    def slow(*arguments: Any, **more: Any) -> None:
        time.sleep(0.03)
        commit(*arguments, **more)

    with early_acknowledgement(), patch.object(AuditLog, "commit", slow):
        yield


@contextmanager
def nothing() -> Iterator[None]:
    """Plant nothing: the product as it is."""
    yield


PLANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "none": nothing,
    "normal": partial(lying_disk, "NORMAL"),
    "off": partial(lying_disk, "OFF"),
    "early": early_acknowledgement,
    "deaf": deaf_commit,
}


def run(plant: str, data: Path, *, sessions: int, callers: int, records: int) -> None:
    """Append with a bug or without."""
    work = partial(append_all, data, sessions=sessions, callers=callers, records=records)
    with PLANTS[plant](), patch.object(audit_writer, "RETRY_S", RETRY_S):
        trio.run(work)


def main() -> None:
    """Append, and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--plant", choices=PLANTS, default="none")
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--records", type=int, default=10)
    options = parser.parse_args()
    run(
        options.plant,
        options.data,
        sessions=options.sessions,
        callers=options.callers,
        records=options.records,
    )


if __name__ == "__main__":
    main()
