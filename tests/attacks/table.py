"""The table of attacks: what is tried, what must come of it, and how each defence is switched off."""

import ast
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

PATH = Path(__file__).with_name("table.toml")
SOURCE = Path(__file__).parents[2] / "src" / "tenantry"
MODES = ("dual", "sessionful", "stateless")
# What attacks are called that no list named.
OWN = "KIN-"

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """One place of the source, which must be there exactly once, and what stands there instead."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One row; each of `mutants` is a build with the defence switched off, by one replacement or several."""

    id: str
    attack: str
    expects: str
    mutants: tuple[tuple[Replacement, ...], ...] = ()
    not_applicable: str = ""
    slow: bool = False


def _mutant(row: Mapping[str, Any]) -> tuple[Replacement, ...]:
    first = Replacement(**{name: row[name] for name in ("file", "old", "new")})
    return (first, *(Replacement(**more) for more in row.get("also", [])))


@cache
def attacks() -> dict[str, Attack]:
    """Every row by its id, in the file's order."""
    rows = tomllib.loads(PATH.read_text())["attack"]
    made = [Attack(**{**row, "mutants": tuple(map(_mutant, row.get("mutants", [])))}) for row in rows]
    assert len({row.id for row in made}) == len(made), "an id stands twice"
    return {row.id: row for row in made}


def open_ids() -> list[str]:
    """What is listed and has no row yet."""
    text: str = tomllib.loads(PATH.read_text()).get("open", "")
    return text.split()


def marked(source: str) -> list[str]:
    """The ids in the `@attack(...)` decorators of a module."""
    return [
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "attack"
        for argument in decorator.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]


@cache
def modules() -> dict[Path, list[str]]:
    """The ids that each module of tests names, as often as it does."""
    return {path: marked(path.read_text()) for path in sorted(PATH.parent.glob("test_*.py"))}


def attack(*ids: str, modes: tuple[str, ...] = MODES) -> Callable[[Test], Test]:
    """Say which rows a test shows, and in which modes: `modes=()` where the test has no server of a mode."""

    def mark(test: Test) -> Test:
        if modes:
            test = pytest.mark.parametrize("mode", modes)(test)
        return pytest.mark.attack(*ids)(test)  # type: ignore[no-any-return]

    return mark
