"""What a long log costs: being ready with it, verifying it, proving out of it, and appending while it is verified.

`python -m tests.crash.million [--records 1000000] [--rounds 5]`. The records lie in commits of eight, as under load.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tenantry.audit import record
from tenantry.audit.record import Kind, Outcome
from tenantry.server import audit_log
from tenantry.server.audit_key import read_verifier
from tenantry.server.audit_log import AuditLog
from tests.running import TENANTRY, running_server

COMMIT = 8
ROUND_S = 3.0


def entry(number: int) -> bytes:
    """A record as a call leaves it."""
    return record.encode(
        Kind.TOOL_CALL,
        time_us=1_800_000_000_000_000 + number,
        tenant=f"tenant-{number % 7}",
        subject="alice",
        client="http-client-of-somebody",
        tool="search_documents",
        arguments_sha256=record.digest({"query": number})[0],
        arguments_bytes=20,
        decision="allowed",
        outcome=Outcome.SUCCEEDED,
        duration_us=800,
        jsonrpc_id=number,
        era="modern",
        revision="current",
        mode="dual",
    )


def build(path: Path, records: int) -> None:
    """Write the log, without waiting for each flush: it is thrown away after a crash."""
    log = AuditLog(path)
    log._connection.execute("PRAGMA synchronous=OFF")
    for first in range(0, records, COMMIT):
        log.commit([entry(number) for number in range(first, min(first + COMMIT, records))])
    log.commit([], sign=True)
    log.close()


def verified(data: Path) -> tuple[float, float, float]:
    """Verify by the command; give seconds, those of the processor, and the peak of resident memory in MiB."""
    began = time.perf_counter()
    process = subprocess.Popen([*TENANTRY, "audit", "verify", "--data", str(data)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def ready(data: Path) -> float:
    """Start a server; give the seconds until it says that it is ready."""
    began = time.perf_counter()
    with running_server(data):
        return time.perf_counter() - began


def rate(log: AuditLog) -> float:
    """Append for a while, each commit flushed; give records a second."""
    number, began = 0, time.perf_counter()
    while time.perf_counter() - began < ROUND_S:
        log.commit([entry(number + offset) for offset in range(COMMIT)])
        number += COMMIT
    return number / (time.perf_counter() - began)


def rate_beside_verify(data: Path, log: AuditLog) -> float:
    """Append while the log is verified."""
    command = [*TENANTRY, "audit", "verify", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(1.0)  # the interpreter's own start is no verification
        found = rate(log)
        assert process.poll() is None, "it was through before the round was over: give it more records"
        process.kill()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        path = data / audit_log.FILE_NAME
        began = time.perf_counter()
        build(path, options.records)
        print(
            f"{options.records} records built in {time.perf_counter() - began:.1f} s, {path.stat().st_size >> 20} MiB"
        )
        began = time.perf_counter()
        log = AuditLog(path)
        print(f"opened and its tree rebuilt in {time.perf_counter() - began:.3f} s")
        log.close()
        began = time.perf_counter()
        proof = audit_log.prove_record(path, options.records // 3)
        proof.check(read_verifier(path))
        print(f"a record proven and checked in {time.perf_counter() - began:.3f} s")
        starts = [(ready(data), ready(Path(directory) / "empty")) for _ in range(options.rounds)]
        with_it, without = (statistics.median(found) for found in zip(*starts, strict=True))
        print(f"server ready in {with_it:.2f} s from the start of its process, with an empty log in {without:.2f} s")
        seconds, processor, peak = verified(data)
        print(f"verified in {seconds:.1f} s, {processor:.1f} s of the processor, {peak:.0f} MiB at the most")
        log = AuditLog(path)
        ratios, flush = [], []
        for _ in range(options.rounds):
            alone, beside = rate(log), rate_beside_verify(data, log)
            ratios.append(beside / alone)
            flush.append(COMMIT / alone * 1000)
        log.close()
        print(
            f"append rate beside verify / alone: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}),"
            f" one commit of {COMMIT} alone {statistics.median(flush):.2f} ms"
        )
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at the most in this process")
    return 0


if __name__ == "__main__":
    sys.exit(main())
