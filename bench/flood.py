"""What a loud neighbour does: calls, calls that are denied, logins, registrations or streams, as fast as they go.

`python -m bench.flood KIND --url URL`, in a process of its own, with an access token on stdin; prints figures as JSON.
Every answer counts, whatever it says: the neighbour does not mind being refused.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from bench.load import MODERN, figures, request_builder, run
from bench.login_timing import LoginForm

KINDS = ("calls", "denials", "logins", "registrations", "streams")
Build = Callable[[int], bytes]


def builder(kind: str, url: str, token: str) -> Build:
    """Give the function that writes the neighbour's request number N."""
    if kind == "calls":
        return request_builder(url, token, era="legacy", session=None)
    if kind == "denials":  # a tool of another tenant
        return request_builder(
            url, token, era="legacy", session=None, tool="export_report", arguments={"reportId": "r1"}
        )
    return {"logins": _logins, "registrations": _registrations, "streams": _streams}[kind](url, token)


def post(url: str, path: str, headers: dict[str, str], body: str) -> bytes:
    """Write a POST request."""
    netloc = urlsplit(url).netloc
    fields = {"host": netloc, **headers, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n{body}".encode()


def _logins(url: str, _token: str) -> Build:
    form = LoginForm(url.removesuffix("/mcp"))
    headers = {**form.headers, "content-type": "application/x-www-form-urlencoded"}

    def build(number: int) -> bytes:
        return post(url, "/login", headers, urlencode(form.fields(f"nobody-{number}")))

    return build


def _registrations(url: str, _token: str) -> Build:
    def build(number: int) -> bytes:
        metadata = {"client_name": f"client {number}", "redirect_uris": ["http://127.0.0.1/callback"]}
        body = json.dumps({**metadata, "token_endpoint_auth_method": "none"})
        return post(url, "/register", {"content-type": "application/json"}, body)

    return build


def _streams(url: str, token: str) -> Build:
    headers = {
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": "subscriptions/listen",
    }
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"notifications": {"toolsListChanged": True}, "_meta": meta}

    def build(number: int) -> bytes:
        message = {"jsonrpc": "2.0", "id": number, "method": "subscriptions/listen", "params": params}
        return post(url, "/mcp", headers, json.dumps(message))

    return build


def main() -> int:
    """Flood, and print how fast that went and how it was answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    build = builder(options.kind, options.url, sys.stdin.readline().strip())
    statuses: Counter[int] = Counter()

    def count(status: int, _body: bytes, _number: int) -> bool:
        statuses[status] += 1
        return True

    os.nice(19)
    print("begun", flush=True)
    began = time.perf_counter()
    tally = run(
        options.url,
        build,
        count,
        callers=options.callers,
        seconds=options.seconds,
        reconnect=True,
        churn=options.kind == "streams",
    )
    print(json.dumps({**figures(tally, time.perf_counter() - began), "statuses": statuses}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
