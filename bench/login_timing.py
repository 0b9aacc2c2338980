"""Does the time of a refused login tell whether the name exists? Wrong passwords and unknown names, in turn.

`python -m bench.login_timing [--tries 10000] [--memory-kib 1024] [--passes 1]` starts a server whose throttle does not
get in the way, sends logins over HTTP one after the other, in pairs of random order, and prints medians, the
difference, and two statistics: Mann-Whitney on the ranks, Welch on the means of what remains within the fastest 95 %
of both. It writes results/login_timing.json. With the cost of a real password the noise is greater and the run longer.
"""

import argparse
import html
import http.client
import math
import random
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from argon2 import PasswordHasher

from bench.rounds import START_TIMEOUT_S, save, surroundings

NAMES = 20
KEPT = 0.95
CONFIGURATION = """
[scopes]
"s" = "Do something"
[tenants.t]
[limits]
failed_logins = 1000000
failed_logins_window_s = 1
"""
USER = """
[users.{name}]
tenant = "t"
scopes = ["s"]
password_hash = "{password_hash}"
"""


def names() -> list[str]:
    """Random names, all of one length."""
    return [f"user{secrets.token_hex(4)}" for _ in range(NAMES)]


def configuration(users: Sequence[str], hasher: PasswordHasher) -> str:
    """A server's configuration with these users, each with a random password."""
    hashes = {name: hasher.hash(secrets.token_urlsafe(16)) for name in users}
    return CONFIGURATION + "".join(
        USER.format(name=name, password_hash=password_hash) for name, password_hash in hashes.items()
    )


@contextmanager
def serving(directory: Path, text: str) -> Iterator[str]:
    """Serve that configuration and give the issuer; stop it by SIGTERM in the end."""
    path = directory / "tenantry.toml"
    path.write_text(text)
    command = [sys.executable, "-m", "tenantry", "serve", "--config", str(path), "--port", "0"]
    command += ["--data", str(directory / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        urls = [word for word in line.split() if word.startswith("http")]
        if not urls:
            raise RuntimeError(f"the server did not become ready: {line!r}")
        yield urls[0].removesuffix("/mcp")
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


class LoginForm:
    """The login page in front of the account page, opened once and sent over one connection."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._connection = http.client.HTTPConnection(urlsplit(issuer).netloc, timeout=60)
        self._connection.request("GET", "/account")
        answer = self._connection.getresponse()
        self._cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        sealed = re.search(r'name="sealed" value="([^"]+)"', answer.read().decode())
        if sealed is None:
            raise RuntimeError("the server shows no login form")
        self._sealed = html.unescape(sealed[1])

    @property
    def headers(self) -> dict[str, str]:
        """What the browser that shows the form sends along."""
        return {"cookie": self._cookie, "origin": self._issuer}

    def fields(self, name: str) -> dict[str, str]:
        """The form filled in with a name and a wrong password."""
        return {"sealed": self._sealed, "username": name, "password": "not the password"}

    def refused_s(self, name: str) -> float:
        """Seconds until a wrong password for the name is refused; raises RuntimeError for any other answer."""
        body = urlencode(self.fields(name))
        headers = {"content-type": "application/x-www-form-urlencoded", **self.headers}
        started = time.perf_counter()
        self._connection.request("POST", "/login", body, headers)
        answer = self._connection.getresponse()
        answer.read()
        took = time.perf_counter() - started
        if answer.status != 403:
            raise RuntimeError(f"a wrong login is answered {answer.status}")
        return took


@dataclass(frozen=True, slots=True)
class Statistic:
    """A test's statistic as a standard normal one, its two-sided p, and the size of the effect."""

    z: float
    p: float
    effect: float


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> Statistic:
    """Whether one of the samples tends to be greater; the effect is Cliff's delta, 0 for none and 1 for always."""
    ordered = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    rank_sum = sum(rank for rank, (_, sample) in enumerate(ordered, start=1) if sample == 0)
    n, m = len(first), len(second)
    u = rank_sum - n * (n + 1) / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return Statistic(z, math.erfc(abs(z) / math.sqrt(2)), 2 * u / (n * m) - 1)


def welch(first: Sequence[float], second: Sequence[float]) -> Statistic:
    """Whether the means differ; the effect is Cohen's d. Samples are large, so t counts as normal."""
    one, other = statistics.variance(first), statistics.variance(second)
    difference = statistics.fmean(first) - statistics.fmean(second)
    z = difference / math.sqrt(one / len(first) + other / len(second))
    return Statistic(z, math.erfc(abs(z) / math.sqrt(2)), difference / math.sqrt((one + other) / 2))


def compare(issuer: str, known: Sequence[str], unknown: Sequence[str], *, tries: int) -> dict[str, list[float]]:
    """Milliseconds of each refused login."""
    form, chance = LoginForm(issuer), random.Random(0)
    for name in (*known, *unknown):
        form.refused_s(name)
    taken: dict[str, list[float]] = {"wrong password": [], "unknown name": []}
    for number in range(tries // 2):
        pair = [("wrong password", known[number % NAMES]), ("unknown name", unknown[number % NAMES])]
        for kind, name in chance.sample(pair, k=2):
            taken[kind].append(1000 * form.refused_s(name))
    return taken


def verdict(taken: dict[str, list[float]]) -> dict[str, Any]:
    """What the two samples say."""
    wrong, unknown = taken["wrong password"], taken["unknown name"]
    bound = statistics.quantiles([*wrong, *unknown], n=100)[round(KEPT * 100) - 1]
    fast = [[value for value in sample if value <= bound] for sample in (wrong, unknown)]
    ranks, means = mann_whitney(wrong, unknown), welch(*fast)
    return {
        "median_ms": {kind: statistics.median(sample) for kind, sample in taken.items()},
        "difference_of_medians_us": 1000 * (statistics.median(wrong) - statistics.median(unknown)),
        "quartiles_ms": {kind: statistics.quantiles(sample) for kind, sample in taken.items()},
        "mann_whitney": {"z": ranks.z, "p": ranks.p, "cliffs_delta": ranks.effect},
        "welch_fastest_95": {"z": means.z, "p": means.p, "cohens_d": means.effect},
    }


def main() -> int:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=10_000, help="logins in all, half of each kind")
    parser.add_argument("--memory-kib", type=int, default=1024, help="argon2's memory; a real password has 65536")
    parser.add_argument("--passes", type=int, default=1, help="argon2's passes; a real password has 3")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    hasher = PasswordHasher(time_cost=options.passes, memory_cost=options.memory_kib, parallelism=1)
    known, unknown = names(), names()
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(Path(directory), configuration(known, hasher)) as issuer,
    ):
        taken = compare(issuer, known, unknown, tries=options.tries)
    found = verdict(taken)
    for kind, median in found["median_ms"].items():
        print(f"{kind:<15} {len(taken[kind]):>6} logins, median {median:.3f} ms")
    ranks, means = found["mann_whitney"], found["welch_fastest_95"]
    print(f"medians differ by {found['difference_of_medians_us']:+.1f} us")
    print(f"Mann-Whitney: z {ranks['z']:+.2f}, p {ranks['p']:.3f}, Cliff's delta {ranks['cliffs_delta']:+.4f}")
    print(f"Welch, fastest 95 %: z {means['z']:+.2f}, p {means['p']:.3f}, Cohen's d {means['cohens_d']:+.4f}")
    cost = {"memory_kib": options.memory_kib, "passes": options.passes}
    print(save("login_timing", {**surroundings(), "tries": options.tries, "argon2": cost, **found}, options.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
