"""`tenantry bench`."""

import importlib.util
import subprocess
import sys

from tenantry.cli.bench import bench

MEASURES = ("audit", "ceiling", "neighbour", "workers_down")


def test_what_can_be_measured_is_told(capsys):
    assert bench() == 0
    told = capsys.readouterr().out.removeprefix("benchmarks: ").strip().split(", ")
    assert set(MEASURES) <= set(told)
    assert not {"load", "rounds", "peers", "plot", "flood"} & set(told)


def test_a_benchmark_that_is_none_is_refused(capsys):
    assert bench("load") == 2
    assert "no benchmark 'load'" in capsys.readouterr().err


def test_the_options_go_to_the_benchmark():
    command = [sys.executable, "-m", "tenantry", "bench", "ceiling", "--base", "node", "--contenders", "audited"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--base node is no contender" in done.stderr) == (2, True)


def test_without_the_source_tree_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert bench("audit") == 2
    assert "source tree" in capsys.readouterr().err
