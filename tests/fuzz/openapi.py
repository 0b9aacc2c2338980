"""schemathesis over the server's own OpenAPI description: what is answered is what is described, and never a 5xx.

    python -m tests.fuzz.openapi [--examples 500] [--seed 0]

schemathesis is installed where the project keeps its tools, in an environment of its own.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.http_client import REDIRECT_URI, Client
from tests.running import RunningServer, demo_with, running_server
from tests.tools import python_package

VERSION = "4.32.5"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# So that the limits are not all that is tested.
ENDLESS = "[limits]\nregistrations_per_minute = 1000000\nregistrations_per_minute_in_all = 1000000"


def _real(server: RunningServer) -> dict[str, list[str]]:
    """Values by field with which a request can be a good one: made-up ids and tokens would reach the door alone."""
    client = Client.register(server.issuer)
    tokens = client.sign_in()
    metadata = {"redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "client_secret_post"}
    headers = {"content-type": "application/json"}
    confidential = client.browser.ask("POST", "/register", json.dumps(metadata), **headers).json
    return {
        "client_id": [client.client_id, confidential["client_id"]],
        "client_secret": [confidential["client_secret"]],
        "token": [tokens["access_token"], "unknown"],
        "refresh_token": [tokens["refresh_token"]],
        "redirect_uri": [REDIRECT_URI],
        "resource": [server.url],
        "code_challenge": ["E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"],
    }


def _configuration(values: dict[str, list[str]]) -> str:
    """Say to schemathesis which values to take, two times out of three."""
    dictionaries = [f"[dictionaries.{name}]\nvalues = {json.dumps(known)}" for name, known in values.items()]
    parameters = [
        f'"{place}.{name}" = {{ dictionary = "{name}", probability = 0.66 }}'
        for name in values
        for place in ("query", "body")
    ]
    return "\n".join([*dictionaries, "[parameters]", *parameters, ""])


@dataclass(frozen=True)
class Report:
    """What a run said."""

    text: str
    passed: bool
    cases: int


def run(data: Path, *, examples: int, seed: int) -> Report:
    """Start a server over `data` and let schemathesis send up to so many examples to each operation."""
    program = python_package("schemathesis", VERSION) / "schemathesis"
    data.mkdir(parents=True, exist_ok=True)
    with running_server(data / "data", "--config", str(demo_with(data, ENDLESS))) as server:
        (data / "schemathesis.toml").write_text(_configuration(_real(server)))
        ended = subprocess.run(
            [
                *(str(program), "--no-color", "run", f"{server.issuer}/openapi.json"),
                *("--checks", ",".join(CHECKS), "--continue-on-failure", "--suppress-health-check", "all"),
                *("--max-examples", str(examples), "--seed", str(seed), "--warnings", "off"),
            ],
            check=False,
            cwd=data,
            env={**os.environ, "NO_PROXY": "localhost,127.0.0.1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        faults = [line for line in server.logged().splitlines() if "level=error" in line]
    cases = re.search(r"([\d,]+) generated", ended.stdout)
    said = "\n".join([ended.stdout, *faults])
    return Report(said, ended.returncode == 0 and not faults, int(cases[1].replace(",", "")) if cases else 0)


def main() -> int:
    """Run, and show what schemathesis says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        report = run(Path(data), examples=flags.examples, seed=flags.seed)
    print(report.text)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
