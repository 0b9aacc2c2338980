"""The short form of `mutants`, in every run of the tests."""

import pytest

from tests.attacks.mutants import choose, mutate, run
from tests.attacks.table import Replacement


@pytest.mark.timeout(600)
def test_a_sample_of_attacks_succeeds_where_the_defence_is_off():
    found = run(choose(only=[], sample=3))
    assert set(found.values()) == {"proven"}, found


def test_a_place_that_is_not_there_once_is_no_mutant(tmp_path):
    (tmp_path / "tenantry").mkdir()
    (tmp_path / "tenantry" / "x.py").write_text("a a")
    with pytest.raises(ValueError, match="2 times"):
        mutate(tmp_path, [Replacement(file="x.py", old="a", new="b")])
