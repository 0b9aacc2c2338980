"""Each fault of `conformance/broken` is caught by the tests of its clauses, which pass without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conformance.broken.faults import FAULTS, GENERAL, NONE

from conformance import matrix

SUITE = Path(matrix.__file__).parent
pytestmark = pytest.mark.timeout(600)  # the first of them waits for the one run that serves them all


@pytest.fixture(scope="module")
def states(tmp_path_factory) -> dict[str, dict[str, list[str]]]:
    """Run the suite against every fault, in one go: fault -> clause -> what came of its tests."""
    file = tmp_path_factory.mktemp("broken") / "broken.json"
    command = [sys.executable, "-m", "pytest", "-c", str(SUITE / "standalone.ini"), "--tb=no", "--broken", str(file)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, str(SUITE)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[str, dict[str, list[str]]] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_the_clauses_catch_the_fault(states, name):
    missed = [each for each in FAULTS[name].clauses if matrix.FAILS not in states.get(name, {}).get(each, [])]
    assert not missed


@pytest.mark.parametrize("name", FAULTS)
def test_they_pass_through_the_same_proxy_without_it(states, name):
    without = {each: set(states[NONE].get(each, [])) for each in FAULTS[name].clauses}
    assert not {each: found for each, found in without.items() if matrix.SHOWN not in found or matrix.FAILS in found}


def test_no_clause_is_content_with_every_gross_fault(states):
    """However a test reads, it must not be content with a server that is of no use."""
    met = {each for name in GENERAL for each in states[name]}
    assert len(met) > 100, "nothing was looked at"
    found = {each: {state for name in GENERAL for state in states[name].get(each, ())} for each in met}
    assert not sorted(each for each, came in found.items() if matrix.SHOWN in came and matrix.FAILS not in came)


def test_the_servers_can_be_listed_and_started_by_hand():
    command = [sys.executable, "-m", "conformance.broken"]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True).stdout
    assert all(f"{name}: {fault.does}" in listed for name, fault in FAULTS.items())
    started = [*command, "ids-as-text", "--upstream", "http://127.0.0.1:1/mcp"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()
