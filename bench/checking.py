"""Three ways for a resource server of one's own to check an access token: what each costs, and when it hears of an end.

`python -m bench.checking [--samples 20]` prints a table and writes results/checking.json. Locally: the signature and
the times, and nothing else until the token expires. With a cache: introspection (RFC 7662), believed for two seconds.
Each call: introspection, every time. This server's own endpoint is in bench.revocation.
"""

import argparse
import base64
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
from conformance.login import Browser, SignedIn, sign_in

from bench.held import quantiles
from bench.rounds import DEMO, RESULTS, flush_ms, save, serve, started, surroundings

TOKEN_S = 60  # the least that the configuration allows: who checks locally is waited for so long
SETTINGS = f"""
[lifetimes]
access_token_s = {TOKEN_S}

[limits]
registrations_per_minute = 1000000
registrations_per_minute_in_all = 1000000
"""
CACHE_S = 2.0
POLL_S = 0.002
CHECKS = 200
Check = Callable[[str], bool]


class Endpoints:
    """The server's endpoints as a gateway uses them, over one connection."""

    def __init__(self, issuer: str, client_id: str, secret: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(issuer).netloc, timeout=60)
        basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
        self._headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {basic}"}
        self._issuer = issuer
        keys = Browser().ask(f"{issuer}/jwks").json["keys"]
        self._keys = {key["kid"]: jwt.PyJWK(key) for key in keys}
        self._cache: dict[str, tuple[float, bool]] = {}

    def locally(self, token: str) -> bool:
        """Check the signature and the times."""
        key = self._keys[jwt.get_unverified_header(token)["kid"]]
        try:
            jwt.decode(token, key, algorithms=["EdDSA", "ES256"], issuer=self._issuer, audience=f"{self._issuer}/mcp")
        except jwt.InvalidTokenError:
            return False
        return True

    def each_call(self, token: str) -> bool:
        """Ask the server."""
        self._connection.request("POST", "/introspect", urlencode({"token": token}), self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"introspection is answered {answer.status}: {body[:200]!r}")
        return bool(json.loads(body)["active"])

    def cached(self, token: str) -> bool:
        """Ask the server unless it was asked lately."""
        now = time.perf_counter()
        until, active = self._cache.get(token, (0.0, False))
        if now >= until:
            active = self.each_call(token)
            self._cache[token] = now + CACHE_S, active
        return active


def service(data: Path) -> tuple[str, str]:
    """Make a service account that may introspect its tenant's tokens; give its id and secret."""
    command = [sys.executable, "-m", "tenantry", "clients", "add-service", "--tenant", "tenant-a", "--name", "gateway"]
    done = subprocess.run(
        [*command, "--scope", "tools:call", "--data", str(data)], check=True, capture_output=True, text=True
    )
    client_id, secret = (line.split(": ")[1] for line in done.stdout.splitlines()[:2])
    return client_id, secret


def revoke(signed_in: SignedIn, issuer: str) -> float:
    """Revoke a grant and give the moment of the answer."""
    form = urlencode({"token": signed_in.refresh_token, "client_id": signed_in.client_id})
    Browser().ask(f"{issuer}/revoke", form.encode())
    return time.perf_counter()


def refused_after(check: Check, token: str, since: float) -> float:
    """Check until it is refused; give milliseconds behind `since`."""
    while check(token):
        time.sleep(POLL_S)
    return 1000 * (time.perf_counter() - since)


def cost_us(check: Check, token: str) -> float:
    """Give the median microseconds of a check."""
    times = []
    for _ in range(CHECKS):
        began = time.perf_counter()
        check(token)
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "samples": options.samples, "cache_s": CACHE_S, "token_s": TOKEN_S}
    lags: dict[str, list[float]] = {"locally": [], "cached": [], "each call": []}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        results["flush_ms"] = flush_ms(place)
        config = place / "bench.toml"
        config.write_text(DEMO.read_text() + SETTINGS)
        with started(serve(config, place / "data")) as server:
            issuer = server.url.removesuffix("/mcp")
            asked = Endpoints(issuer, *service(place / "data"))
            ways: dict[str, Check] = {"locally": asked.locally, "cached": asked.cached, "each call": asked.each_call}
            token = sign_in(server.url, user="alice", password="demo").access_token
            results["cost_us"] = {name: cost_us(check, token) for name, check in ways.items()}
            waiting: list[tuple[str, float]] = []
            for _ in range(options.samples):
                signed_in = sign_in(server.url, user="alice", password="demo")
                if not all(check(signed_in.access_token) for check in ways.values()):
                    raise RuntimeError("a fresh token was refused")
                time.sleep(random.uniform(0, CACHE_S))  # somewhere in the life of what is cached
                asked.cached(signed_in.access_token)
                revoked = revoke(signed_in, issuer)
                for name in ("each call", "cached"):
                    lags[name].append(refused_after(ways[name], signed_in.access_token, revoked))
                waiting.append((signed_in.access_token, revoked))
            lags["locally"] = [refused_after(asked.locally, token, revoked) for token, revoked in waiting]
    results["lag"] = {name: quantiles(values) for name, values in lags.items()}
    for name, lag in results["lag"].items():
        told = f"p50 {lag['p50_ms']:.1f}, p99 {lag['p99_ms']:.1f}, at the most {lag['max_ms']:.1f} ms"
        print(f"{name:<10} {results['cost_us'][name]:>8.1f} us a check, refused after {told}")
    print(save("checking", results, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
