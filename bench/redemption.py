"""What the atomic redemption of a code costs: alone, 64 codes at once, and 64 redeemers of one code.

`python -m bench.redemption [--rounds 10]` prints the figures and writes results/redemption.json. A redemption is one
POST to the token endpoint; every request of a race is at the server but for its last byte before the first goes on.
"""

import argparse
import base64
import hashlib
import http.client
import json
import secrets
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from conformance.login import Browser, agree

from bench.neighbour import p
from bench.rounds import RESULTS, configured, flush_ms, ratio, save, serve, started, surroundings

REDEEMERS = 64
REDIRECT = "http://127.0.0.1/callback"


@dataclass(slots=True)
class Client:
    """A registered client whose person stays logged in."""

    issuer: str
    id: str
    browser: Browser

    @classmethod
    def register(cls, issuer: str) -> "Client":
        """Register at the server."""
        metadata = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
        answer = Browser().ask(
            f"{issuer}/register", json.dumps(metadata).encode(), {"content-type": "application/json"}
        )
        return cls(issuer, answer.json["client_id"], Browser())

    def code_form(self) -> str:
        """Get a code by the pages, and give the form that redeems it."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self.id,
                "redirect_uri": REDIRECT,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                "scope": "tools:call",
                "resource": f"{self.issuer}/mcp",
            }
        )
        back = agree(self.browser, f"{self.issuer}/authorize?{query}", REDIRECT, user="alice", password="demo")
        form = {"grant_type": "authorization_code", "code": parse_qs(urlsplit(back).query)["code"][0]}
        form |= {"code_verifier": verifier, "redirect_uri": REDIRECT, "client_id": self.id}
        return urlencode({**form, "resource": f"{self.issuer}/mcp"})


def race(issuer: str, forms: list[str]) -> tuple[list[float], list[int]]:
    """Redeem all at once; give milliseconds from the last byte to each answer, and the statuses."""
    parts = urlsplit(issuer)
    socks = [socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) for _ in forms]
    for sock, form in zip(socks, forms, strict=True):
        head = f"POST /token HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
        sock.sendall(f"{head}content-length: {len(form)}\r\nconnection: close\r\n\r\n{form[:-1]}".encode())
    time.sleep(0.1)
    began = time.perf_counter()
    for sock, form in zip(socks, forms, strict=True):
        sock.sendall(form[-1:].encode())
    taken, statuses = [], []
    for sock in socks:
        with sock:
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            answer.read()
        taken.append(1000 * (time.perf_counter() - began))
        statuses.append(answer.status)
    return taken, statuses


def main() -> int:
    """Race and print; exit status 1 where a code had not exactly one winner."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "rounds": options.rounds, "redeemers": REDEEMERS}
    alone: list[list[float]] = []
    distinct: list[list[float]] = []
    same: list[list[float]] = []
    winners: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        results["flush_ms"] = flush_ms(place)
        with started(serve(configured(place), place / "data", workers=options.workers)) as server:
            issuer = server.url.removesuffix("/mcp")
            client = Client.register(issuer)
            for _ in range(options.rounds):
                alone.append([race(issuer, [client.code_form()])[0][0] for _ in range(5)])
                times, statuses = race(issuer, [client.code_form() for _ in range(REDEEMERS)])
                if set(statuses) != {200}:
                    raise RuntimeError(f"a redemption failed: {statuses}")
                distinct.append(times)
                times, statuses = race(issuer, [client.code_form()] * REDEEMERS)
                same.append(times)
                winners.append(statuses.count(200))
    results["winners"] = winners
    for name, taken in (("alone", alone), ("64 codes", distinct), ("one code", same)):
        p50s, lasts = [p(0.5, each) for each in taken], [max(each) for each in taken]
        results[name] = {
            "p50_ms": statistics.median(p50s),
            "last_ms": statistics.median(lasts),
            "last_ms_by_round": lasts,
        }
        print(f"{name:<9} p50 {results[name]['p50_ms']:.2f} ms, the last after {results[name]['last_ms']:.2f} ms")
    results["ratio"] = ratio([max(each) for each in same], [max(each) for each in distinct])
    middle, least, greatest = results["ratio"]
    print(
        f"one code / 64 codes, until the last: {middle:.2f} ({least:.2f}-{greatest:.2f});"
        f" winners a code: {set(winners)}"
    )
    print(save("redemption", results, options.results))
    return 0 if set(winners) == {1} else 1


if __name__ == "__main__":
    sys.exit(main())
