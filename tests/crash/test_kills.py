import re
import subprocess
import sys


def test_every_answered_call_stands_in_the_log_once_however_often_the_server_is_killed():
    # A process of its own, because it forks.
    command = (sys.executable, "-m", "tests.crash.kills", "--kills", "4", "--callers", "16")
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    kills, recorded = re.findall(r"(\d+) (?:kills,|calls recorded)", run.stdout)[:2]
    assert kills == "4"
    assert int(recorded) >= 20
    assert "refused {}" in run.stdout
    assert re.search(r"planted early acknowledgement: [1-9]", run.stdout)
