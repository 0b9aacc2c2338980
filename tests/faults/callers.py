"""Clients that do everything at once, each with a history of its own, and outlive the server's restarts."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.histories import Event, History
from tests.http_client import Client, call_headers, call_message, legacy_headers, send_initialize

CONFIG = Path(__file__).parent / "shop" / "shop.toml"
BROKEN = (OSError, http.client.HTTPException)
USERS = ("alice", "bob")
# A tool, whether its arguments fit, and how often it is chosen.
TOOLS = (
    ("quick", True, 8),
    ("wrong", True, 2),
    ("talk", True, 3),
    ("quick", False, 1),
    ("high", True, 1),
    ("far", True, 1),
)


class Refused(Exception):
    """The server said no where it should not have."""


@dataclass
class Caller:
    """One client: registered, signed in, with or without a session."""

    origin: str
    name: str
    rng: random.Random
    history: History = field(default_factory=History)
    refused: Counter[str] = field(default_factory=Counter)
    """Answers that are none: the server could not, or the client may come again."""
    watch: Callable[[float, int], None] | None = None
    """Is told of each call how long its answer took, in seconds, and its status."""
    _numbers: Iterator[int] = field(default_factory=count)
    _client: Client | None = None
    _access_token: str = ""
    _refresh_token: str = ""
    _refreshing: bool = False
    """Whether an answer was lost: the token may be rotated, and counts only for a while longer."""
    _session: str | None = None
    _connection: http.client.HTTPConnection | None = None

    @property
    def user(self) -> str:
        """Who sits before it."""
        return USERS[sum(map(ord, self.name)) % len(USERS)]

    # --- tokens

    def sign_in(self) -> None:
        """Register as a new client and sign in; raises where the connection breaks."""
        self.close()
        self._session = None
        client = Client.register(self.origin)
        registered = Event("client_registered", client.client_id)
        self.history.ask(registered)
        self.history.answer(registered)
        code = client.authorize(user=self.user)
        self._take(client, "token_issued", client.code_form(code))
        self._client = client

    def refresh(self) -> None:
        """Rotate the refresh token; raises where the connection breaks."""
        if self._client is not None:
            self._refreshing = True
            self._take(self._client, "token_refreshed", self._client.refresh_form(self._refresh_token))
            self._refreshing = False

    def _take(self, client: Client, kind: str, form: str) -> None:
        event = Event(kind, client.client_id)
        self.history.ask(event)
        answer = client.token(form)
        if answer.status != 200:
            raise Refused(f"{kind}: {answer.status} {answer.body!r}")
        self.history.answer(event)
        self._access_token, self._refresh_token = answer.json["access_token"], answer.json["refresh_token"]

    # --- calls

    def step(self, *, logins: float) -> None:
        """Do something; `logins` of all steps are a new login. Raises `BROKEN` where the connection breaks."""
        choice = self.rng.random()
        if self._client is None or choice < logins:
            self.sign_in()
        elif self._refreshing or choice < logins + 0.01:
            self.refresh()
        elif choice < logins + 0.02:
            self._stand_by()
        elif choice < logins + 0.03:
            self._end_session()
        else:
            tool, fits, _ = self.rng.choices(TOOLS, [weight for _, _, weight in TOOLS])[0]
            self.call(tool, fits=fits, legacy=self.rng.random() < 0.4)

    def call(self, tool: str, *, fits: bool = True, legacy: bool = False) -> None:
        """Call a tool in either era, and note what came."""
        if legacy and self._session is None and not self.try_new_session():
            return
        id_ = f"{self.name}-{next(self._numbers)}"
        event = Event("call", id_)
        arguments: dict[str, object] = {"text": id_} if fits else {"text": 1}
        self.history.ask(event)
        began = time.monotonic()
        status, body = self._send(id_, tool, arguments, legacy=legacy)
        if self.watch is not None:
            self.watch(time.monotonic() - began, status)
        outcome = outcome_of(status, body)
        if outcome is not None:
            self.history.answer(event, outcome=outcome, tool=tool, era="legacy" if legacy else "modern")
            return
        self.refused[f"{status}"] += 1
        if status == 401:
            self.refresh()
        if status == 404:
            self._session = None

    def try_new_session(self) -> bool:
        """Begin a session in place of the one it has; where the server can't, keep that one and give False."""
        began = time.monotonic()
        answer = send_initialize(self._known.browser, self._access_token)
        if self.watch is not None and answer.status != 200:  # a session has no record: it says nothing of the log
            self.watch(time.monotonic() - began, answer.status)
        if answer.status == 401:
            self.refresh()
        self._session = answer.headers.get("mcp-session-id", self._session)
        return answer.status == 200

    def _send(self, id_: str, tool: str, arguments: dict[str, object], *, legacy: bool) -> tuple[int, bytes]:
        if legacy:
            params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": id_}}
            message = json.dumps({"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}).encode()
            headers = legacy_headers(self._access_token, self._session)
        else:
            message, headers = call_message(id_, tool, **arguments), call_headers(self._access_token, tool)
        if self._connection is None:
            self._connection = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=30)
        self._connection.request("POST", "/mcp", body=message, headers=headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _stand_by(self) -> None:
        """Open the session's standalone stream, and leave."""
        if self._session is not None:
            connection = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=30)
            try:
                connection.request("GET", "/mcp", headers=legacy_headers(self._access_token, self._session))
                connection.getresponse()
            finally:
                connection.close()

    def _end_session(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            headers = legacy_headers(self._access_token, session)
            self._known.browser.ask("DELETE", "/mcp", **headers)

    @property
    def _known(self) -> Client:
        if self._client is None:
            raise Refused("not signed in")
        return self._client

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def outcome_of(status: int, body: bytes) -> str | None:
    """How a call ended, as its answer says; None for an answer that says nothing of the call."""
    if status == 403:
        return "denied"
    if status not in (200, 400):
        return None
    message: dict[str, Any] = json.loads(body if body.startswith(b"{") else _last_event(body))
    if "error" in message:
        return "denied" if message["error"]["message"].startswith("Unknown tool") else None
    result = message["result"]
    if not result["isError"]:
        return "succeeded"
    text = result["content"][0]["text"]
    return "invalid_arguments" if text.startswith("Invalid arguments") else "tool_error"


def _last_event(body: bytes) -> bytes:
    return [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")][-1]


@contextmanager
def calling(callers: list[Caller], step: Callable[[Caller], None], *, breaks: bool) -> Iterator[None]:
    """Let each caller take steps, in a thread of its own, until the block ends; with `breaks`, a break ends its turn.

    Raises what went wrong in any of them.
    """
    stop = threading.Event()
    faults: list[BaseException] = []

    def act(caller: Caller) -> None:
        try:
            while not stop.is_set():
                step(caller)
        except BROKEN as error:
            if not breaks:
                faults.append(error)
        except BaseException as error:  # noqa: BLE001  # raised below, in the thread that can show it
            faults.append(error)
        finally:
            caller.close()

    threads = [threading.Thread(target=act, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]


def every(callers: list[Caller], act: Callable[[Caller], None]) -> None:
    """Let each caller do one thing, one after the other."""
    for caller in callers:
        act(caller)
