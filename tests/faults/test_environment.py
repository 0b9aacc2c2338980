import subprocess
import sys

import pytest

FAULTS = ("EIO once", "a full disk", "a limit on file sizes", "flushes of 0.5 s")


@pytest.mark.usefixtures("gcc")
def test_no_answer_is_without_its_record_while_the_disk_is_ill_and_the_server_comes_back_by_itself():
    # A process of its own: it has the shim in it, it forks, and it mounts.
    chosen = [part for name in FAULTS for part in ("--fault", name)]
    command = [sys.executable, "-m", "tests.faults.environment", "--hold=0.5", "--retry=0.1", "--callers=4", *chosen]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for name in FAULTS:
        assert f"{name}: back after" in run.stdout
    assert run.stdout.count(" 1 recoveries, 0 problems") == len(FAULTS) - 1
    assert "planted deaf commit: 0 problems" not in run.stdout
