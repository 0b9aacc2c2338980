"""Kill the server with -9 under load, again and again: what was answered must stand in the log.

`python -m tests.crash.kills --kills 50`; a short form runs with the other tests. A kill does not test the flush
(the page cache survives it); it tests recovery, torn batches and answers that overtake their records.
"""

import argparse
import http.client
import itertools
import random
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tenantry.audit import record
from tenantry.server import audit_log
from tests.http_client import Client, call_headers, call_message
from tests.running import free_port, running_server


@dataclass
class History:
    """What the clients saw, in their own words."""

    answered: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def call_until_it_breaks(origin: str, token: str, ids: "itertools.count[int]", history: History) -> None:
    """Be one caller: call until the connection dies."""
    connection = http.client.HTTPConnection(urlsplit(origin).netloc, timeout=10)
    try:
        while True:
            number = next(ids)
            connection.request("POST", "/mcp", body=call_message(number), headers=call_headers(token))
            response = connection.getresponse()
            body = response.read()
            if response.status == 200 and b'"isError":false' in body:
                history.answered.append(number)
            else:
                history.refused.append(f"{response.status} {body[:200]!r}")
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()


def kill_under_load(data: Path, *, kills: int, callers: int, seed: int) -> tuple[History, Counter[int]]:
    """Serve, load, kill, and again; give what the clients saw and how often each id stands in the log."""
    rng = random.Random(seed)
    port = free_port()
    ids = itertools.count(1)
    history = History()
    token = ""
    for _ in range(kills):
        with running_server(data, "--port", str(port), exit_status=-9) as server:
            if not token:
                token = Client.register(server.issuer).sign_in()["access_token"]
            threads = [
                threading.Thread(target=call_until_it_breaks, args=(server.issuer, token, ids, history))
                for _ in range(callers)
            ]
            before = len(history.answered)
            for thread in threads:
                thread.start()
            threading.Event().wait(rng.uniform(0.05, 0.4))
            server.process.kill()
            for thread in threads:
                thread.join()
            if len(history.answered) == before:
                continue
        count, problem = audit_log.verify(data / audit_log.FILE_NAME)
        assert problem is None, (count, problem)
    logged = Counter(
        entry["jsonrpc_id"]
        for _, body in audit_log.read(data / audit_log.FILE_NAME)
        if "jsonrpc_id" in (entry := record.decode(body))
    )
    return history, logged


def main() -> int:
    """Run and say what came of it; exit status 1 where an answered call has no record, or two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        history, logged = kill_under_load(
            Path(directory), kills=options.kills, callers=options.callers, seed=options.seed
        )
    lost = [number for number in history.answered if logged[number] != 1]
    print(
        f"{options.kills} kills, {len(history.answered)} calls answered, {sum(logged.values())} recorded, "
        f"{len(lost)} answered without exactly one record, {len(history.refused)} refused"
    )
    return 1 if lost or history.refused else 0


if __name__ == "__main__":
    sys.exit(main())
