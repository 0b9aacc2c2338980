"""Rotations of the signing key beside a server under load: no access token that was given may stop working.

`python -m tests.races.key_rotations --rotations 100`; a short form runs with the other tests.
"""

import argparse
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import trio

from tenantry.audit.record import Kind
from tenantry.server.administration import administration
from tenantry.server.keys import new_key
from tests.http_client import Client
from tests.races.token_races import may_call
from tests.running import running_server

CALLERS = 4
# Each caller calls by a token of its past as well, so that old keys are asked for too.
REMEMBERED = 50


def rotate(data: Path) -> None:
    """What `tenantry keys rotate --now` does, without the start of a process for each."""
    with administration(data) as admin:

        async def add() -> None:
            key = new_key(signs_from=admin.now)
            with admin.recording(Kind.KEY_ROTATED, key=key.kid):
                await admin.store.signing_keys.add(key, now=admin.now)

        trio.run(add)


class Caller:
    """A client that calls, refreshes, and calls again by old tokens, until it is told to stop."""

    def __init__(self, origin: str) -> None:
        self._client = Client.register(origin)
        self._tokens = self._client.sign_in()
        self._past = [self._tokens["access_token"]]
        self.outcomes: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        """Call until `stop`."""
        number = 0
        while not stop.is_set():
            number += 1
            answer = self._client.token(self._client.refresh_form(self._tokens["refresh_token"]))
            self.outcomes[f"refresh {answer.status}"] += 1
            self._tokens = answer.json
            self._past.append(self._tokens["access_token"])
            for token in (self._past[-1], self._past[number % len(self._past)]):
                self.outcomes["call" if may_call(self._client, token) else "refused call"] += 1
            del self._past[1 : -REMEMBERED or None]


def rotations_under_load(data: Path, rotations: int, *flags: str) -> tuple[Counter[str], int]:
    """Rotate that often beside `CALLERS` callers: what became of their requests, and how many keys are published."""
    with running_server(data, *flags) as server:
        callers = [Caller(server.issuer) for _ in range(CALLERS)]
        stop = threading.Event()
        threads = [threading.Thread(target=caller.run, args=(stop,)) for caller in callers]
        for thread in threads:
            thread.start()
        for _ in range(rotations):
            rotate(data)
            # More refreshes than were under way are answered in between, so that each key signs.
            enough = sum(caller.outcomes["refresh 200"] for caller in callers) + 2 * CALLERS
            while sum(caller.outcomes["refresh 200"] for caller in callers) < enough and all(
                thread.is_alive() for thread in threads
            ):
                stop.wait(0.005)
        stop.set()
        for thread in threads:
            thread.join()
        published = len(callers[0]._client.browser.ask("GET", "/jwks").json["keys"])
    return sum((caller.outcomes for caller in callers), Counter()), published


def main() -> int:
    """Run it and say what came of it; exit status 1 where a valid request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rotations", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        outcomes, published = rotations_under_load(Path(directory), options.rotations)
    print(f"{options.rotations} rotations: {dict(outcomes)}, {published} keys published")
    return 0 if set(outcomes) == {"call", "refresh 200"} else 1


if __name__ == "__main__":
    sys.exit(main())
