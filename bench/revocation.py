"""From a revocation to the first refused call, and to the end of an open stream, while the token's calls go on.

`python -m bench.revocation [--samples 200]` prints the distributions and writes results/revocation.json. Each sample
signs in anew, lets callers call without a pause on connections of their own, opens a stream, and revokes.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from conformance.login import SignedIn, sign_in

from bench.rounds import Server, flush_ms, running, save, surroundings

DEMO = Path(__file__).parents[1] / "src" / "tenantry" / "demo" / "demo.toml"
# Every sample registers a client and signs in.
LIMITS = "\n[limits]\nregistrations_per_minute = 1000000\nregistrations_per_minute_in_all = 1000000\n"
VARIANTS = {"one process": 1, "two workers": 2}
CALLERS = 2
GIVE_UP_S = 10.0
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(slots=True)
class Sample:
    """What one revocation brought; times in seconds."""

    refused_after: float
    """From sending the revocation to the first refusal that came back."""
    stream_ended_after: float
    """From the answer to the revocation to the end of the stream."""
    allowed_behind: int
    """Calls that began after the answer to the revocation and were allowed all the same."""


@dataclass
class Watched:
    """A token whose calls go on, and whose stream is open."""

    server: Server
    signed_in: SignedIn
    calls: list[tuple[float, float, int]] = field(default_factory=list)
    stream_ended_at: float = 0.0
    _listening: threading.Event = field(default_factory=threading.Event)

    def sample(self) -> Sample:
        """Revoke in the middle of it; raises RuntimeError where nothing comes of it."""
        threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        threads.append(threading.Thread(target=self._listen))
        for thread in threads:
            thread.start()
        self._listening.wait(GIVE_UP_S)
        while len(self.calls) < 3 * CALLERS:
            time.sleep(0.001)
        sent, answered = self._revoke()
        for thread in threads:
            thread.join(GIVE_UP_S)
        refused = [ended for _, ended, status in self.calls if status == 401]
        if not refused or not self.stream_ended_at:
            raise RuntimeError("the revocation had no effect")
        return Sample(
            refused_after=min(refused) - sent,
            stream_ended_after=max(0.0, self.stream_ended_at - answered),
            allowed_behind=sum(began > answered and status == 200 for began, _, status in self.calls),
        )

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=GIVE_UP_S)

    def _ask(self, connection: http.client.HTTPConnection, method: str, **params: object) -> http.client.HTTPResponse:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}})
        headers = {
            "authorization": f"Bearer {self.signed_in.access_token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": method,
        }
        connection.request(
            "POST", "/mcp", body, headers | ({"mcp-name": str(params["name"])} if "name" in params else {})
        )
        return connection.getresponse()

    def _call(self) -> None:
        connection = self._connection()
        status = 200
        while status == 200:
            began = time.perf_counter()
            answer = self._ask(connection, "tools/call", name="echo", arguments={"message": "hi"})
            answer.read()
            status = answer.status
            self.calls.append((began, time.perf_counter(), status))
        connection.close()

    def _listen(self) -> None:
        answer = self._ask(self._connection(), "subscriptions/listen", notifications={"toolsListChanged": True})
        answer.readline()
        self._listening.set()
        answer.read()
        self.stream_ended_at = time.perf_counter()

    def _revoke(self) -> tuple[float, float]:
        connection = self._connection()
        form = urlencode({"token": self.signed_in.refresh_token, "client_id": self.signed_in.client_id})
        connection.connect()
        sent = time.perf_counter()
        connection.request("POST", "/revoke", form, {"content-type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        answered = time.perf_counter()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"the revocation was answered {answer.status}")
        return sent, answered


def quantiles(values: list[float]) -> dict[str, float]:
    """Give p50, p99 and the greatest in milliseconds."""
    ordered = sorted(values)
    return {
        "p50_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "max_ms": 1000 * ordered[-1],
    }


def measure(server: Server, samples: int) -> dict[str, Any]:
    """Take the samples one after the other and give their distributions."""
    taken = [Watched(server, sign_in(server.url, user="alice", password="demo")).sample() for _ in range(samples)]
    return {
        "samples": samples,
        "first_refusal": quantiles([sample.refused_after for sample in taken]),
        "stream_end": quantiles([sample.stream_ended_after for sample in taken]),
        "allowed_behind": sum(sample.allowed_behind for sample in taken),
    }


def main() -> int:
    """Measure and print; exit status 1 where a call that began after a revocation was allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    results: dict[str, Any] = {**surroundings(), "callers": CALLERS, "variants": {}}
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        results["flush_ms"] = flush_ms(data)
        config = data / "tenantry.toml"
        config.write_text(DEMO.read_text() + LIMITS)
        for name, workers in VARIANTS.items():
            command = [sys.executable, "-m", "tenantry", "serve", "--config", str(config), "--port", "0"]
            with running([*command, "--data", str(data / name), "--workers", str(workers)]) as server:
                found = results["variants"][name] = measure(server, options.samples)
            print(f"{name}, {found['samples']} revocations:")
            for what in ("first_refusal", "stream_end"):
                times = found[what]
                print(
                    f"  {what:<14} p50 {times['p50_ms']:.1f}  p99 {times['p99_ms']:.1f}  max {times['max_ms']:.1f} ms"
                )
            print(f"  calls begun behind the answer and allowed: {found['allowed_behind']}", flush=True)
    print(save("revocation", results, options.results))
    return 1 if any(found["allowed_behind"] for found in results["variants"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
