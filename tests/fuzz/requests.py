"""Generated requests at every endpoint of a whole server over real sockets.

`python -m tests.fuzz.requests --requests 100000`; a short form runs with the other tests. Each request is an example
that hypothesis draws. Whatever comes, the answer is no 5xx, the server goes on, and its tasks and descriptors come
back to where they were.
"""

import argparse
import html
import http.client
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import hypothesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tenantry.server.runtime import serve
from tenantry.server.settings import Settings
from tests.fuzz.generator import REDIRECT, Generator, Known
from tests.http_client import Browser, Client, initialize
from tests.server.in_process import demo_config

# Sessions end, forms are used up and tokens grow old: by then what is real is looked up anew.
FRESH_EVERY = 1000


@dataclass
class Serving:
    """A server in a thread, and a look inside."""

    origin: str
    tasks: Callable[[], int]


@contextmanager
def serving(data: Path) -> Iterator[Serving]:
    """Serve the demo in a thread of this process, with no limit on registrations in the way."""
    config = demo_config()
    endless = {"registrations_per_minute": 1_000_000, "registrations_per_minute_in_all": 1_000_000}
    changes = {
        "public_url": "",
        "limits": config.limits.model_copy(update=endless),
        "clients": config.clients.model_copy(update={"client_id_metadata_documents": True}),
    }
    config = config.model_copy(update=changes)
    settings = Settings(config=config, source="fuzz", data=data, port=0)
    ready = threading.Event()
    inside: dict[str, Any] = {}

    async def run() -> None:
        inside["token"] = trio.lowlevel.current_trio_token()
        inside["stop"] = trio.Event()

        def on_ready(url: str) -> None:
            inside["url"] = url
            ready.set()

        await serve(settings, on_ready=on_ready, stop=inside["stop"])

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    assert ready.wait(20)

    def tasks() -> int:
        return trio.from_thread.run_sync(
            lambda: trio.lowlevel.current_statistics().tasks_living, trio_token=inside["token"]
        )

    try:
        yield Serving(inside["url"].removesuffix("/mcp"), tasks)
    finally:
        trio.from_thread.run_sync(inside["stop"].set, trio_token=inside["token"])
        thread.join(20)
        assert not thread.is_alive()


@dataclass
class Bombardment:
    """What was sent, what came back, and what went wrong."""

    server: Serving
    client: Client
    person: Browser
    """Somebody else in front of the pages, whose login may end at any time."""
    tokens: dict[str, Any]
    statuses: Counter[int] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection(self.server.origin.removeprefix("http://"), timeout=20)
        self.look_up()

    def look_up(self) -> None:
        """Find out anew what is real."""
        self.tokens = self.client.token(self.client.refresh_form(self.tokens["refresh_token"])).json
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.client.client_id,
                "redirect_uri": REDIRECT,
                "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
                "code_challenge_method": "S256",
            }
        )
        page = self.person.ask("GET", f"/authorize?{query}")
        pages = [page.body]
        if b'type="password"' in page.body:
            back = self.person.submit(page, username="bob", password="demo")
            if back.status == 303:  # else others tried too many wrong passwords for bob
                pages.append(self.person.ask("GET", back.headers["location"].removeprefix(self.server.origin)).body)
        pages.append(self.person.ask("GET", "/account").body)
        found = [
            html.unescape(value) for page in pages for value in re.findall(r'"sealed" value="(.*?)"', page.decode())
        ]
        self.known = Known(
            tokens=self.tokens,
            client_id=self.client.client_id,
            session=initialize(self.client.browser, self.tokens["access_token"]),
            resource=f"{self.server.origin}/mcp",
            cookie="; ".join(f"{name}={value}" for name, value in self.person.cookies.items()),
            sealed=found or ["x"],
        )

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        """Send one request and note what came of it."""
        request = f"{method} {target[:300]} {headers} {body[:300]!r}"
        try:
            status = self._status(method, target, headers, body)
        except (OSError, http.client.HTTPException) as error:
            self.faults.append(f"{request}: {error!r}")
            self.connection.close()
            return
        self.statuses[status] += 1
        self.paths[target.partition("?")[0]] += 1
        if status >= 500:
            self.faults.append(f"{request}: {status}")

    def _status(self, method: str, target: str, headers: dict[str, str], body: bytes) -> int:
        for fresh in (False, True):
            try:
                self.connection.request(method, target, body=body, headers=headers)
                response = self.connection.getresponse()
            except (ConnectionError, http.client.RemoteDisconnected):
                self.connection.close()  # it was idle for so long that the server had closed it
                if fresh:
                    raise
            else:
                response.read()
                return response.status
        raise AssertionError


def bombard(data: Path, *, requests: int, seed: int) -> Bombardment:
    """Send so many generated requests, one after the other."""
    with capture_logs() as logs, serving(data) as server:
        client, person = Client.register(server.origin), Browser(server.origin)
        tokens = client.sign_in()
        bombardment = Bombardment(server, client, person, tokens)
        # SQLite keeps the descriptor of a second reader of one file for the next: it is no leak, there is one for ever.
        person.ask("GET", "/audit/checkpoint")
        tasks, descriptors = server.tasks(), _descriptors()

        @hypothesis.seed(seed)
        @settings(
            max_examples=requests,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def one(data: st.DataObject) -> None:
            if sum(bombardment.statuses.values()) % FRESH_EVERY == FRESH_EVERY - 1:
                bombardment.look_up()
            bombardment.send(*Generator(data.draw, bombardment.known).request())

        one()
        bombardment.connection.close()
        bombardment.faults += _after(server, client, tasks, descriptors)
    bombardment.faults += [str(entry) for entry in logs if entry["log_level"] == "error"]
    return bombardment


def _after(server: Serving, client: Client, tasks: int, descriptors: Counter[str]) -> list[str]:
    for _ in range(200):
        if server.tasks() <= tasks and not _descriptors() - descriptors:
            break
        threading.Event().wait(0.05)
    found = []
    if server.tasks() > tasks:
        found.append(f"{server.tasks()} tasks, {tasks} before")
    if left := _descriptors() - descriptors:
        found.append(f"descriptors that were not there before: {dict(left)}")
    if client.browser.ask("GET", "/jwks").status != 200:
        found.append("the server does not answer any more")
    return found


def _descriptors() -> Counter[str]:
    """What this process has open, by kind of thing or path."""
    open_now: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            open_now[str(entry.readlink()).partition(":[")[0]] += 1
    return open_now


def main() -> int:
    """Run and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        done = bombard(Path(directory), requests=options.requests, seed=options.seed)
    print(f"{sum(done.statuses.values())} requests, {len(done.faults)} faults")
    print(f"statuses: {dict(sorted(done.statuses.items()))}")
    print(f"paths: {dict(done.paths.most_common())}")
    for fault in done.faults[:20]:
        print(fault)
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(main())
