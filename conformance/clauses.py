"""The clause rows of `spec/clauses`, and the `@clause` mark by which a test names the rows that it shows."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from conformance.schemas import REVISIONS

HERE = Path(__file__).parent
# In the source tree the rows lie beside this package; the wheel carries them inside of it.
FOLDERS = (HERE.parent / "spec" / "clauses", HERE / "rows")
LEVELS = frozenset({"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"})
BINDS = frozenset({"server", "client", "both", "authorization-server", "resource-server", "third-party"})
# Older than the suite goes: a row may say that something held there too.
KNOWN = ("2024-11-05", *REVISIONS)
SESSIONFUL, STATELESS, DUAL = "sessionful", "stateless", "dual"
MODES = (SESSIONFUL, STATELESS, DUAL)

Test = TypeVar("Test", bound=Callable[..., object])


class RowError(ValueError):
    """A row that is not of the form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One observable that a text demands."""

    id: str
    level: str
    binds: str
    says: str
    revisions: tuple[str, ...] = ()
    """The MCP revisions in which it holds; empty = all."""
    modes: tuple[str, ...] = ()
    feature: str | None = None
    untested: str | None = None
    diverges: str | None = None

    @property
    def document(self) -> str:
        """The text that it comes from."""
        return self.id.partition(":")[0]

    def holds(self, revision: str, mode: str) -> bool:
        """Whether it holds in a column of the matrix."""
        # A dual server keeps sessions for legacy clients, and serves modern ones beside them.
        modes = {SESSIONFUL, DUAL} if mode in {SESSIONFUL, DUAL} else {mode}
        return revision in (self.revisions or REVISIONS) and not modes.isdisjoint(self.modes or MODES)


def parse_row(row: dict[str, Any], source: str) -> Clause:
    """Read one row; raises RowError."""
    identifier = row.get("id", "?")
    unknown = row.keys() - {field.name for field in fields(Clause)}
    if unknown:
        raise RowError(f"{source}: {identifier}: unknown members {sorted(unknown)}")
    missing = {"id", "level", "binds", "says"} - row.keys()
    if missing:
        raise RowError(f"{source}: {identifier}: {sorted(missing)} missing")
    made = Clause(**{**row, "revisions": tuple(row.get("revisions", ())), "modes": tuple(row.get("modes", ()))})
    faults = (
        (made.id.count(":") < 2, "an id is document:section:what"),
        (made.level not in LEVELS, f"level {made.level!r}"),
        (made.binds not in BINDS, f"binds {made.binds!r}"),
        (not made.says.strip(), "says nothing"),
        (not set(made.revisions) <= set(KNOWN), f"revisions {made.revisions}"),
        (not set(made.modes) <= set(MODES), f"modes {made.modes}"),
    )
    for wrong, what in faults:
        if wrong:
            raise RowError(f"{source}: {made.id}: {what}")
    return made


def rows(folders: Sequence[Path] = FOLDERS) -> list[Clause]:
    """Read every row of the first folder that exists, doubled ones too; raises RowError."""
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise RowError(f"no clause rows in {[str(folder) for folder in folders]}")
    return [
        parse_row(row, path.name)
        for path in sorted(folder.glob("*.toml"))
        for row in tomllib.loads(path.read_text(encoding="utf-8")).get("clause", [])
    ]


@cache
def inventory() -> dict[str, Clause]:
    """Give every clause by its id."""
    return {row.id: row for row in rows()}


def clause(*ids: str, revisions: Iterable[str] = (), modes: Iterable[str] = ()) -> Callable[[Test], Test]:
    """Mark a test with the clauses that it shows.

    It runs in every column where one of them holds; `revisions` and `modes` narrow that down.
    """
    mark: Callable[[Test], Test] = pytest.mark.clause(*ids, revisions=tuple(revisions), modes=tuple(modes))
    return mark


@dataclass(frozen=True, slots=True)
class Use:
    """What the marks of one test come to."""

    ids: tuple[str, ...]
    revisions: frozenset[str]
    modes: frozenset[str]

    def clauses(self) -> list[Clause]:
        """The rows named; raises RowError on an id that no row has."""
        unknown = [each for each in self.ids if each not in inventory()]
        if unknown:
            raise RowError(f"no row has the ids {unknown}")
        return [inventory()[each] for each in self.ids]

    def runs(self, revision: str, mode: str) -> bool:
        """Whether the test runs in a column."""
        if (self.revisions and revision not in self.revisions) or (self.modes and mode not in self.modes):
            return False
        return any(row.holds(revision, mode) for row in self.clauses())


def use_of(marks: Iterable[pytest.Mark]) -> Use:
    """Put together the `clause` marks of a test."""
    ids: dict[str, None] = {}
    revisions: set[str] = set()
    modes: set[str] = set()
    for mark in marks:
        ids |= dict.fromkeys(mark.args)
        revisions |= set(mark.kwargs.get("revisions", ()))
        modes |= set(mark.kwargs.get("modes", ()))
    return Use(tuple(ids), frozenset(revisions), frozenset(modes))
