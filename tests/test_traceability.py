"""Every row of spec/clauses has a test or a reason, and every conformance test has a row."""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from conformance.broken.faults import FAULTS
from conformance.clauses import Clause, RowError

from conformance import clauses

SUITE = Path(clauses.__file__).parent


@dataclass(frozen=True)
class Named:
    """A test and the rows that it names."""

    test: str
    ids: tuple[str, ...]


def marks(node: ast.AST) -> list[ast.expr]:
    """The arguments of every `clause(...)` under a node."""
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    return [argument for call in calls if getattr(call.func, "id", "") == "clause" for argument in call.args]


def written(source: str, where: str) -> list[Named]:
    """Read the rows that each test of a module names, those of the whole module included."""
    tree = ast.parse(source)
    shared = [each for each in tree.body if isinstance(each, ast.Assign) and "pytestmark" in ast.unparse(each.targets)]
    common = [argument for each in shared for argument in marks(each)]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            arguments = common + [argument for each in node.decorator_list for argument in marks(each)]
            assert all(isinstance(each, ast.Constant) for each in arguments), f"{where}:{node.lineno}: write ids out"
            found.append(Named(f"{where}::{node.name}", tuple(ast.literal_eval(each) for each in arguments)))
    return found


def faults(rows: list[Clause], tests: list[Named]) -> list[str]:
    """Say what has no counterpart on the other side."""
    known = {row.id for row in rows}
    tested = {each for test in tests for each in test.ids}
    doubled = [each for each, times in Counter(row.id for row in rows).items() if times > 1]
    return [
        *(f"{each}: two rows" for each in doubled),
        *(f"{test.test}: names no row" for test in tests if not test.ids),
        *(f"{test.test}: no row has the id {each}" for test in tests for each in test.ids if each not in known),
        *(f"{row.id}: no test, and no reason" for row in rows if row.id not in tested and not row.untested),
        *(f"{row.id}: a test, and a reason why there is none" for row in rows if row.id in tested and row.untested),
    ]


def all_tests() -> list[Named]:
    return [each for path in sorted(SUITE.glob("test_*.py")) for each in written(path.read_text(), path.name)]


def test_rows_and_tests_answer_each_other():
    assert all_tests(), "the walk found nothing to check"
    assert not faults(clauses.rows(), all_tests())


def test_no_two_tests_of_a_module_have_one_name():
    assert not [each for each, times in Counter(test.test for test in all_tests()).items() if times > 1]


def test_every_fault_names_rows_that_have_tests():
    tested = {each for test in all_tests() for each in test.ids}
    assert not {name: missing for name, fault in FAULTS.items() if (missing := set(fault.clauses) - tested)}
    assert all(fault.clauses for fault in FAULTS.values())


def named_elsewhere(text: str) -> list[str]:
    """The tests outside of the suite that a reason points to."""
    return re.findall(r"tests/[a-z_/]+\.py(?:::\w+)?", text)


def test_every_test_that_a_reason_points_to_exists():
    pointed = {each for row in clauses.rows() for each in named_elsewhere(f"{row.untested} {row.diverges}")}
    assert len(pointed) > 20, "the walk found nothing to check"
    assert not [each for each in pointed if not exists(each)]


def exists(pointer: str) -> bool:
    path, _, name = pointer.partition("::")
    file = Path(__file__).parent.parent / path
    return file.is_file() and (not name or f"def {name}(" in file.read_text())


@pytest.mark.parametrize(
    "pointer", ["tests/test_nothing.py::test_a", "tests/test_nothing.py", "tests/test_traceability.py::test_no"]
)
def test_a_pointer_that_leads_nowhere_is_found(pointer):
    assert named_elsewhere(f"seen from inside alone: {pointer}") == [pointer]
    assert not exists(pointer)


def row(identifier: str, **more: str) -> Clause:
    return Clause(id=identifier, level="MUST", binds="server", says="Something.", **more)


ROW = row("doc:1:a")
TEST = '@clause("doc:1:a")\ndef test_a(): pass'


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([ROW, ROW], TEST),
        ([ROW], TEST + "\ndef test_b(): pass"),
        ([ROW], TEST + '\n@clause("doc:1:b")\ndef test_b(): pass'),
        ([ROW, row("doc:1:b")], TEST),
        ([row("doc:1:a", untested="binds the client")], TEST),
    ],
)
def test_a_planted_gap_is_found(rows, source):
    assert faults(rows, written(source, "planted"))


def test_a_row_with_a_test_and_one_with_a_reason_are_fine():
    module = 'pytestmark = [clause("doc:1:a")]\ndef test_a(): pass\nclass TestB:\n    def test_b(self): pass'
    assert not faults([ROW, row("doc:1:b", untested="binds the client")], written(module, "planted"))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "doc:a"},
        {"level": "must"},
        {"binds": "everybody"},
        {"says": " "},
        {"revisions": ["2026"]},
        {"modes": ["fast"]},
        {"test": "test_a"},
    ],
)
def test_a_row_of_another_form_is_refused(change):
    good = {"id": "doc:1:a", "level": "MUST", "binds": "server", "says": "Something."}
    clauses.parse_row(good, "here")
    with pytest.raises(RowError, match="here"):
        clauses.parse_row({**good, **change}, "here")
