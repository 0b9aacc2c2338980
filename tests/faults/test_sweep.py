import re
import subprocess
import sys

import pytest


@pytest.mark.usefixtures("strace", "gcc")
def test_no_fault_of_one_call_loses_what_was_acknowledged_and_each_planted_bug_does():
    # A process of its own: it has the shim in it, and it forks.
    command = (sys.executable, "-m", "tests.faults.sweep", "--every", "9")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    bad = {plant: int(count) for plant, count in re.findall(r"^(\w+): (\d+) bad", run.stdout, re.MULTILINE)}
    assert bad.pop("none") == 0
    assert set(bad) == {"early", "deaf"}
    assert all(bad.values())
