import pytest

from tests.faults import power


@pytest.fixture(scope="module")
def tallies(strace, tmp_path_factory):
    return power.run(tmp_path_factory.mktemp("power"), states=60, seed=1, sessions=2, callers=4, records=15)


def test_no_power_cut_loses_what_was_acknowledged(tallies):
    assert tallies["none"].bad == []
    assert tallies["none"].states == 60
    assert tallies["none"].acknowledged == 120


@pytest.mark.parametrize("control", power.CONTROLS)
def test_a_planted_bug_loses_something(control, tallies):
    assert len(tallies[control].bad) > 20
