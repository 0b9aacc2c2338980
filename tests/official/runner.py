"""Runs the official MCP conformance suites against a server of its own, and judges them by scenario.

    python -m tests.official.runner --suite 0.1.16|2025-11-25|2026-07-28|all [--mode dual|stateless] [-o DIR]

A count of checks flatters: a server that does not answer at all passes dozens. So a scenario counts as a whole: it is
clean without a failure, and strict where it has no warning either and at least one success.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.http_client import Client
from tests.official.proxy import running_proxy
from tests.running import running_server
from tests.tools import npm_package

EXPECTED_FAILURES = Path(__file__).with_name("expected_failures.yml")
PACKAGE = "@modelcontextprotocol/conformance"
NEWEST = "0.2.0-alpha.12"
# A token lives ten minutes; the runner may not meet one that ends in the middle of a scenario.
TOKEN_AGE_MAX_S = 300
RUN_MAX_S = 900

# The runner imports a function that Node has from 22 on, for a command that we do not use.
SHIM = """\
import fs from "node:fs";
import { register } from "node:module";
const inline = (source) => `data:text/javascript,${encodeURIComponent(source)}`;
const patched = inline('export * from "node:fs"; export { default } from "node:fs"; export const globSync = () => [];');
const hook = `export const resolve = (name, context, next) =>
  name === "fs" ? { url: ${JSON.stringify(patched)}, shortCircuit: true } : next(name, context);`;
if (!fs.globSync) register(inline(hook));
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One way to run one version of the official runner."""

    version: str
    arguments: tuple[str, ...]
    requirements: str | None = None
    """The revision whose frozen set of requirements says what is scored; None where everything is."""


SUITES = {
    "0.1.16": Suite(version="0.1.16", arguments=("--suite", "all")),
    **{
        revision: Suite(version=NEWEST, arguments=("--requirements", revision), requirements=revision)
        for revision in ("2025-11-25", "2026-07-28")
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one scenario ended."""

    scenario: str
    scored: bool
    successes: int
    problems: tuple[str, ...]
    """`FAILURE` or `WARNING`, the check's id, and what the runner says of it."""

    @property
    def clean(self) -> bool:
        """Whether nothing failed."""
        return not any(problem.startswith("FAILURE") for problem in self.problems)

    @property
    def strict(self) -> bool:
        """Whether there is no warning either, and something was shown."""
        return not self.problems and self.successes > 0


# --- the runner's package


def missing_tools() -> list[str]:
    """The programs that the runner needs and this machine lacks."""
    return [name for name in ("node", "npm") if shutil.which(name) is None]


def install(version: str) -> Path:
    """Install one exact version of the runner; give the package's directory."""
    package = npm_package(PACKAGE, version)
    _shim(package).write_text(SHIM)
    return package


def _shim(package: Path) -> Path:
    return package.parents[2] / "shim.mjs"


def command(package: Path) -> list[str]:
    """What starts the runner."""
    return ["node", "--import", str(_shim(package)), str(package / "dist" / "index.js")]


def required(package: Path, revision: str) -> list[str]:
    """The scored server scenarios of a revision's frozen set."""
    text = (package / "requirements" / f"{revision}.yaml").read_text()
    section = re.search(r"^server:\n((?:  .*\n)+)", text, re.MULTILINE)
    return re.findall(r"^  - (\S+)$", section[1], re.MULTILINE) if section else []


# --- a server, and a way to it


@contextmanager
def signed_in(mode: str, data: Path) -> Iterator[str]:
    """Start the demo with its fixtures, sign in as their user, and give the URL at which requests need no token."""
    with running_server(data, "--conformance", "--mode", mode) as server:
        client = Client.register(server.issuer)
        first = client.sign_in(user="tester")
        with running_proxy(f"localhost:{server.port}", _renewed(client, first)) as url:
            yield url


def _renewed(client: Client, tokens: dict[str, str]) -> Callable[[], str]:
    lock = threading.Lock()
    since = time.monotonic()

    def token() -> str:
        nonlocal tokens, since
        with lock:
            if time.monotonic() - since > TOKEN_AGE_MAX_S:
                answer = client.token(client.refresh_form(tokens["refresh_token"]))
                assert answer.status == 200, answer
                tokens, since = answer.json, time.monotonic()
            return tokens["access_token"]

    return token


# --- running and judging


def run(suite: Suite, mode: str, out: Path) -> list[Verdict]:
    """Run a suite against a fresh server; what the runner wrote stays in `out`."""
    package = install(suite.version)
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        signed_in(mode, Path(data)) as url,
        (out / "output.txt").open("w") as log,
    ):
        subprocess.run(
            [*command(package), "server", "--url", url, *suite.arguments, "-o", str(out)],
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=RUN_MAX_S,
            check=False,  # its exit status counts warnings and extensions; `judge` says what counts here
        )
    return judge(out, None if suite.requirements is None else required(package, suite.requirements))


def judge(out: Path, scored: list[str] | None, *, leg: str = "server") -> list[Verdict]:
    """Read what the runner wrote; a scored scenario of which there is nothing has failed."""
    found = {}
    for path in sorted(out.glob(f"{leg}-*/checks.json")):
        # The directory is named after the scenario and the time of the run.
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*$", "", path.parent.name.removeprefix(f"{leg}-"))
        found[scenario] = _verdict(scenario, json.loads(path.read_text()), scored=scored is None or scenario in scored)
    for scenario in scored or []:
        if scenario not in found:
            problems = ("FAILURE: the runner wrote nothing",)
            found[scenario] = Verdict(scenario=scenario, scored=True, successes=0, problems=problems)
    return list(found.values())


def _verdict(scenario: str, checks: list[dict[str, str]], *, scored: bool) -> Verdict:
    problems = tuple(
        f"{check['status']} {check['id']}: {check.get('errorMessage', '')}"
        for check in checks
        if check["status"] in ("FAILURE", "WARNING")
    )
    successes = sum(check["status"] == "SUCCESS" for check in checks)
    return Verdict(scenario=scenario, scored=scored, successes=successes, problems=problems)


def expected_failures() -> list[str]:
    """The scenarios that are known to fail."""
    return re.findall(r"^\s*- ([\w-]+)\s+#.+$", EXPECTED_FAILURES.read_text(), re.MULTILINE)


def table(title: str, verdicts: list[Verdict]) -> str:
    """Say how each scenario ended, and what was wrong where something was."""
    lines = [title]
    for verdict in sorted(verdicts, key=lambda verdict: (not verdict.scored, verdict.scenario)):
        grade = "strict" if verdict.strict else "clean" if verdict.clean else "FAILED"
        lines.append(f"  {grade:7}{'' if verdict.scored else '(unscored) '}{verdict.scenario}")
        lines += [f"           {problem}" for problem in verdict.problems]
    for name, group in (
        ("scored", [verdict for verdict in verdicts if verdict.scored]),
        ("unscored", [verdict for verdict in verdicts if not verdict.scored]),
    ):
        clean, strict = sum(verdict.clean for verdict in group), sum(verdict.strict for verdict in group)
        lines.append(f"  {name}: {clean} clean, {strict} strict, {len(group)} in all")
    return "\n".join(lines)


def main() -> int:
    """Run what the command line says; 1 where a scored scenario failed that is not expected to."""
    parser = argparse.ArgumentParser(description="Run the official MCP conformance suites.")
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--mode", choices=["dual", "stateless"], default="dual")
    parser.add_argument("-o", "--out", type=Path, help="keep what the runner writes in this directory")
    flags = parser.parse_args()
    if missing := missing_tools():
        parser.error(f"{' and '.join(missing)} must be on the PATH")
    failed = False
    with tempfile.TemporaryDirectory() as passing:
        for name in SUITES if flags.suite == "all" else [flags.suite]:
            verdicts = run(SUITES[name], flags.mode, (flags.out or Path(passing)) / f"{name}-{flags.mode}")
            print(table(f"{name}, {flags.mode}", verdicts), flush=True)
            known = expected_failures()
            failed |= any(v.scored and not v.clean and v.scenario not in known for v in verdicts)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
