"""The table holds together: every row has a test or a reason, and every defence can be found and switched off."""

import hashlib
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.attacks.table import OWN, SOURCE, Attack, Replacement, attacks, marked, modules, open_ids

LISTED = 142
# Over the ids of the list that the table began with, sorted: a row can't quietly go missing.
LISTED_DIGEST = "aac231d9ca5eb57da555e73e138431f8d243913307e1ff1e4b955c4f7854d8df"


def times_tested() -> Counter[str]:
    """How many tests each id has."""
    return Counter(id_ for ids in modules().values() for id_ in ids)


def faults(row: Attack, tests: int) -> list[str]:
    """What keeps a row from counting."""
    found = []
    if bool(row.not_applicable) == bool(tests):
        found.append(f"{row.id} needs either tests or a reason why it does not apply")
    if tests and not row.mutants:
        found.append(f"{row.id} has no mutant")
    for mutant in row.mutants:
        for replacement in mutant:
            times = (SOURCE / replacement.file).read_text().count(replacement.old)
            if times != 1:  # who changed that place says by a new mutant how the defence is switched off now
                found.append(
                    f"{row.id}: {replacement.file} has {times} times what a mutant replaces: {replacement.old}"
                )
        found += [f"{row.id}: {file} with a mutant is no Python any more" for file in unparsable(mutant)]
    return found


def unparsable(mutant: Iterable[Replacement]) -> list[str]:
    """The modules that a mutant leaves as no Python: nothing runs on them, so nothing is shown by them."""
    texts: dict[str, str] = {}
    for replacement in mutant:
        text = texts.get(replacement.file) or (SOURCE / replacement.file).read_text()
        texts[replacement.file] = text.replace(replacement.old, replacement.new)
    return [file for file, text in texts.items() if file.endswith(".py") and not parses(text)]


def parses(text: str) -> bool:
    """Whether it is Python."""
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def test_every_row_has_tests_and_mutants_or_a_reason():
    tests = times_tested()
    found = [fault for row in attacks().values() for fault in faults(row, tests[row.id])]
    assert not found, "\n".join(found)


def test_every_test_names_a_row():
    assert set(times_tested()) - set(attacks()) == set()


def test_no_listed_row_has_gone_missing():
    listed = sorted([*open_ids(), *(id_ for id_ in attacks() if not id_.startswith(OWN))])
    assert len(listed) == LISTED
    assert hashlib.sha256(" ".join(listed).encode()).hexdigest() == LISTED_DIGEST


@pytest.mark.parametrize(
    ("row", "tests"),
    [
        (Attack(id="X-1", attack="a", expects="b"), 0),
        (Attack(id="X-1", attack="a", expects="b"), 1),
        (Attack(id="X-1", attack="a", expects="b", not_applicable="c"), 1),
    ],
)
def test_a_row_without_what_it_needs_is_a_fault(row, tests):
    assert faults(row, tests)


def test_a_mutant_that_is_no_python_is_a_fault():
    broken = Replacement(file="policy.py", old="if not needed <= grantable:", new="if")
    assert unparsable([broken]) == ["policy.py"]
    row = Attack(id="X-1", attack="a", expects="b", mutants=((broken,),))
    assert faults(row, 1) == ["X-1: policy.py with a mutant is no Python any more"]


def test_a_mark_is_read_from_its_decorator():
    assert marked('@attack("A-1", "A-2", modes=())\ndef test_x(): ...') == ["A-1", "A-2"]
