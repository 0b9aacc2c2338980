"""What every foreign client goes through, and a person in front of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.foreign.clients import ForeignClient, Sdk
from tests.http_client import Browser, call_headers, call_message
from tests.running import running_server


@dataclass
class Person:
    """Somebody who signs in where a client sends them, and takes the ticks off what they don't want to grant."""

    browser: Browser
    refuses: set[str] = field(default_factory=set)
    asked: list[set[str]] = field(default_factory=list)
    """The scopes that a client asked for, each time."""

    def go(self, url: str) -> str:
        """Follow a link of a client, and give the URL that leads back to it."""
        parts = urlsplit(url)
        self.asked.append(set(parse_qs(parts.query)["scope"][0].split()))
        page = self.browser.ask("GET", f"{parts.path}?{parts.query}")
        if b'type="password"' in page.body:
            back = self.browser.submit(page, username="alice", password="demo")
            assert back.status == 303, back
            page = self.browser.ask("GET", back.headers["location"].removeprefix(self.browser.origin))
        ticks = {f"tick:{scope}": None for scope in self.refuses}
        answer = self.browser.submit(page, decision="allow", **ticks)
        assert answer.status == 303, answer
        return answer.headers["location"]


@contextmanager
def started(sdk: Sdk, url: str, person: Person) -> Iterator[ForeignClient]:
    """A client that is stopped at the end."""
    client = ForeignClient.start(sdk, url, person.go)
    try:
        yield client
    finally:
        client.stop()


def run(sdk: Sdk, data: Path, *, mode: str) -> Iterator[str]:
    """Give each step once it is done; an AssertionError says what went wrong."""
    with running_server(data, "--mode", mode) as server:
        person = Person(Browser(server.issuer), refuses={"admin"})
        with started(sdk, server.url, person) as client:
            assert "hello" in client.call("echo", message="hello")
            first = client.state
            assert len(person.asked) == 1
            assert first["tokens"]["scope"] == "tools:call"
            yield "registered, logged in, given a token and a call"

            assert "again" in client.call("echo", age=True, message="again")
            second = client.state
            assert len(person.asked) == 1, "a refresh must not need a person"
            assert second["tokens"]["refresh_token"] != first["tokens"]["refresh_token"]
            yield "refreshed an access token that was over, without a person"

            person.refuses.clear()
            assert client.call("admin_purge", confirm=True)
            third = client.state
            assert len(person.asked) == 2
            assert {"tools:call", "admin"} <= person.asked[1]
            assert set(third["tokens"]["scope"].split()) == {"tools:call", "admin"}
            yield "asked for more scope where a tool needed it, and called the tool"

            form = urlencode({"client_id": third["client_id"], "token": third["tokens"]["refresh_token"]})
            assert person.browser.ask("POST", "/revoke", form).status == 200
            old = third["tokens"]["access_token"]
            assert person.browser.ask("POST", "/mcp", call_message(1).decode(), **call_headers(old)).status == 401
            assert "back" in client.call("echo", message="back")
            assert len(person.asked) >= 3
            yield "was refused after a revocation, logged in again and called"

            assert len({state["client_id"] for state in (first, second, third, client.state)}) == 1
            yield "has had one client id all the time"
