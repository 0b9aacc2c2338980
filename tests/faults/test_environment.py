import subprocess
import sys

import pytest

RECOVERED = ("EIO once", "a full disk", "a limit on file sizes")
FAULTS = (*RECOVERED, "flushes of 0.5 s", "a stopped process", "a clock an hour ahead", "a clock an hour back")


@pytest.mark.usefixtures("gcc")
def test_no_answer_is_without_its_record_while_the_disk_is_ill_and_the_server_comes_back_by_itself():
    # A process of its own: it has the shim in it, it forks, and it mounts.
    chosen = [part for name in FAULTS for part in ("--fault", name)]
    command = [sys.executable, "-m", "tests.faults.environment", "--hold=0.5", "--retry=0.1", "--callers=4", *chosen]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    for name in FAULTS:
        assert f"{name}: back after" in run.stdout
    assert run.stdout.count(" 1 recoveries, 0 problems") == len(RECOVERED)
    assert "planted deaf commit: 0 problems" not in run.stdout
