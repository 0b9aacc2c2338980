"""Records with strace what a program does to the files of one directory, and what it acknowledges."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults import subject
from tests.faults.disk import Acknowledge, Create, Event, Flush, Remove, Truncate, Write

STRACE = ("strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000")
CALLS = "pwrite64,write,writev,pwritev,pwritev2,fallocate,ftruncate,fsync,fdatasync,openat,unlink,unlinkat,rename"
# The index of the WAL is memory that processes share; it is made anew by whoever opens the log first.
NO_DISK = "-shm"


def record(data: Path, plant: str, *, sessions: int, callers: int, records: int) -> list[Event]:
    """Run the subject under strace and give what its log's files and its acknowledgements went through, in order."""
    data.mkdir()
    trace = data.with_suffix(".trace")
    how = [f"--plant={plant}", f"--sessions={sessions}", f"--callers={callers}", f"--records={records}"]
    subprocess.run(
        [*STRACE, "-e", f"trace={CALLS}", "-o", str(trace), *subject.COMMAND, str(data), *how],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with trace.open() as lines:
        return list(events(lines, data))


def events(lines: Iterator[str], data: Path) -> Iterator[Event]:
    """Read strace's lines: a call counts when it has returned, an acknowledgement when it begins."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, text = line.strip().partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>").rstrip()
            if not text.startswith("write(1<"):
                continue
            text = begun.pop(thread) + ") = 1"
        elif text.startswith("<... "):
            if thread not in begun:
                continue
            text = begun.pop(thread) + text.partition(" resumed>")[2]
        call = _CALL.match(text)
        if call is not None and not call["result"].startswith("-1"):
            yield from _event(call["name"], call["arguments"], int(call["result"], 0), data)


_CALL = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\w+)")
_FILE = re.compile(r"\d+<([^>]*)>")


def _event(call: str, arguments: str, result: int, data: Path) -> Iterator[Event]:
    first, *rest = arguments.split(", ")
    if call == "write" and first.startswith("1<"):
        yield from map(Acknowledge, subject.acknowledged(_bytes(rest[0])))
        return
    named = rest[0] if call == "openat" else first
    name = _name(named, data)
    if name is None or name.endswith(NO_DISK):
        return
    if call == "pwrite64":
        yield Write(name, int(rest[2]), _bytes(rest[0])[:result])
    elif call in ("fsync", "fdatasync"):
        yield Flush(name)
    elif call == "ftruncate":
        yield Truncate(name, int(rest[0]))
    elif call == "unlink":
        yield Remove(name)
    elif call == "openat" and "O_TRUNC" not in arguments:
        if "O_CREAT" in arguments:
            yield Create(name)
    else:
        raise NotImplementedError(f"{call} on {name or 'the directory'}: this harness does not know what it leaves")


def _bytes(quoted: str) -> bytes:
    return bytes.fromhex(quoted.strip('"').replace("\\x", ""))


def _name(quoted: str, data: Path) -> str | None:
    found = _FILE.match(quoted)
    path = Path(_bytes(found[1] if found else quoted).decode(errors="replace"))
    if path == data:
        return ""
    return path.name if path.parent == data else None
