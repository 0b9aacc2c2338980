"""What a request leaves behind goes when it ends: a collection of cycles holds everybody up, for as long as all takes.

An exception that a frame of its own traceback still names is such a cycle, with everything that its frames hold.
"""

import gc
import json
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import pytest

from tests.server.in_process import Answered, InProcess, in_process, request

REQUESTS = 40
Ask = Callable[[InProcess, str], Awaitable[Answered]]


def call(name: str, **arguments: object) -> Ask:
    return lambda server, token: server.post(request("tools/call", 1, name=name, arguments=arguments), token)


def modern(method: str, **params: object) -> Ask:
    return lambda server, token: server.modern(method, token, **params)


def legacy(method: str, **params: object) -> Ask:
    return lambda server, token: server.post(request(method, 1, **params), token)


def form(path: str, **fields: str) -> Ask:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return lambda server, _: server.ask("POST", path, headers=headers, body=urlencode(fields).encode())


def registration(**metadata: object) -> Ask:
    headers = {"content-type": "application/json"}
    return lambda server, _: server.ask("POST", "/register", headers=headers, body=json.dumps(metadata).encode())


KINDS: dict[str, tuple[int, Ask]] = {
    "a call": (200, call("echo", message="hello")),
    "arguments that do not fit": (200, call("echo", message=1)),
    "another tenant's tool": (200, call("export_report", reportId="r1")),
    "a tool that there is not": (200, call("nothing")),
    "no such method": (200, legacy("no/such")),
    "a prompt that there is not": (200, legacy("prompts/get", name="nothing")),
    "a resource that there is not": (400, legacy("resources/read", uri="file:///nothing")),
    "a modern call": (200, modern("tools/call", name="echo", arguments={"message": "hello"})),
    "another tenant's tool, modern": (400, modern("tools/call", name="export_report", arguments={"reportId": "r1"})),
    "no such method, modern": (404, modern("no/such")),
    "a list": (200, legacy("tools/list")),
    "no JSON": (400, lambda server, token: server.post(b"{", token)),
    "no token": (401, lambda server, _: server.post(request("ping", 1))),
    "a token that is none": (401, lambda server, _: server.post(request("ping", 1), "nothing")),
    "an ended token": (401, lambda server, _: server.post(request("ping", 1), server.token(expires_at=1))),
    "a scope too few": (
        403,
        lambda server, _: server.post(
            request("tools/call", 1, name="admin_purge", arguments={}), server.token("alice", "tools:call")
        ),
    ),
    "no such path": (404, lambda server, _: server.ask("GET", "/nothing")),
    "no such verb": (405, lambda server, _: server.ask("PUT", "/token")),
    "a code that there is not": (401, form("/token", grant_type="authorization_code", code="x", client_id="y")),
    "a refresh token that there is not": (400, form("/token", grant_type="refresh_token", refresh_token="x")),
    "a registration refused": (400, registration(redirect_uris=["http://elsewhere.example/"])),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_no_collection_is_needed_behind_a_request(tmp_path, kind):
    status, ask = KINDS[kind]
    async with in_process(tmp_path, "stateless") as server:
        token = server.token()
        answered = await ask(server, token)  # what is made once stays
        await ask(server, token)
        gc.collect()
        gc.disable()
        try:
            for _ in range(REQUESTS):
                await ask(server, token)
            left = gc.collect()
        finally:
            gc.enable()
    assert answered.status == status
    assert left < REQUESTS
