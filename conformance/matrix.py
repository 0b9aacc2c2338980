"""Clause x revision x mode: what was shown, what fails, what does not apply and what nothing tests."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.clauses import Clause
from conformance.peer import Column

SHOWN, FAILS, DIVERGES = "shown", "fails", "diverges"
NOT_APPLICABLE, UNTESTED, NOT_RUN = "not applicable", "untested", "not run"
STATES = (SHOWN, FAILS, DIVERGES, NOT_APPLICABLE, UNTESTED, NOT_RUN)
MAX_REASON = 200
# Of several tests of one clause the gravest speaks; one that passed outweighs one that does not apply.
GRAVITY = (FAILS, DIVERGES, SHOWN, NOT_APPLICABLE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one test for one clause in one column."""

    test: str
    clause: str
    revision: str
    mode: str
    state: str
    reason: str = ""
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One clause in one column."""

    revision: str
    mode: str
    state: str
    reason: str = ""
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One clause in every column where it holds."""

    clause: Clause
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The matrix of one run."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def counts(self, column: Column | None = None) -> dict[str, int]:
        """How many cells are in each state, in one column or in all."""
        cells = [cell for row in self.rows for cell in row.cells]
        if column is not None:
            cells = [cell for cell in cells if (cell.revision, cell.mode) == (column.revision, column.mode)]
        found = Counter(cell.state for cell in cells)
        return {state: found[state] for state in STATES}


def build(clauses: Iterable[Clause], columns: Sequence[Column], outcomes: Iterable[Outcome]) -> Table:
    """Put the outcomes of a run in their places."""
    placed: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        placed.setdefault((outcome.clause, outcome.revision, outcome.mode), []).append(outcome)
    rows = []
    for clause in clauses:
        held = [column for column in columns if clause.holds(column.revision, column.mode)]
        cells = [_cell(clause, column, placed.get((clause.id, column.revision, column.mode), [])) for column in held]
        if cells:
            rows.append(Row(clause, tuple(cells)))
    return Table(tuple(columns), tuple(rows))


def _cell(clause: Clause, column: Column, outcomes: list[Outcome]) -> Cell:
    place = (column.revision, column.mode)
    if clause.untested is not None:
        return Cell(*place, UNTESTED, clause.untested)
    if not outcomes:
        return Cell(*place, NOT_RUN)
    gravest = min(outcomes, key=lambda outcome: GRAVITY.index(outcome.state))
    return Cell(*place, gravest.state, gravest.reason, tuple(sorted({outcome.test for outcome in outcomes})))


def as_json(table: Table) -> dict[str, Any]:
    """Give the matrix as JSON."""
    return {
        "counts": table.counts(),
        "columns": [{**asdict(column), "counts": table.counts(column)} for column in table.columns],
        "clauses": [
            {
                **{name: value for name, value in asdict(row.clause).items() if value not in (None, ())},
                "cells": [asdict(cell) for cell in row.cells],
            }
            for row in table.rows
        ],
    }


def as_markdown(table: Table) -> str:
    """Give the matrix as Markdown: the counts, what fails and why, then a table a document."""
    names = [f"{column.revision} {column.mode}" for column in table.columns]
    lines = ["# Conformance", "", *_table(["", *names, "all"], _count_lines(table))]
    lines += _noted(table, FAILS, "Fails") + _noted(table, DIVERGES, "Diverges") + _not_applicable(table)
    for document in dict.fromkeys(row.clause.document for row in table.rows):
        rows = [row for row in table.rows if row.clause.document == document]
        body = [[f"`{row.clause.id}`", row.clause.level, *_states(row, table.columns)] for row in rows]
        lines += ["", f"## {document}", "", *_table(["clause", "level", *names], body)]
    untested: dict[str, list[str]] = {}
    for row in table.rows:
        if row.clause.untested:
            untested.setdefault(row.clause.untested, []).append(f"`{row.clause.id}`")
    if untested:
        lines += ["", "## Why untested", ""]
        lines += [f"- {reason}: {', '.join(ids)}" for reason, ids in sorted(untested.items())]
    return "\n".join(lines) + "\n"


def _count_lines(table: Table) -> list[list[str]]:
    columns = [*(table.counts(column) for column in table.columns), table.counts()]
    return [[state, *(str(counts[state]) for counts in columns)] for state in STATES]


def _noted(table: Table, state: str, title: str) -> list[str]:
    lines = []
    for row in table.rows:
        cells = [cell for cell in row.cells if cell.state == state]
        if cells:
            where = ", ".join(f"{cell.revision} {cell.mode}" for cell in cells)
            lines += [f"- `{row.clause.id}` ({row.clause.level}): {row.clause.says}", f"  In {where}."]
            lines += [f"  {reason}" for reason in dict.fromkeys(_short(cell.reason) for cell in cells) if reason]
    return ["", f"## {title}", "", *lines] if lines else []


def _short(text: str) -> str:
    plain = _plain(text)
    return plain if len(plain) <= MAX_REASON else plain[:MAX_REASON] + " ..."


def _not_applicable(table: Table) -> list[str]:
    counted = Counter(cell.reason for row in table.rows for cell in row.cells if cell.state == NOT_APPLICABLE)
    if not counted:
        return []
    return ["", "## Not applicable", ""] + [f"- {_plain(reason)}: {count}" for reason, count in counted.most_common()]


def _states(row: Row, columns: Iterable[Column]) -> list[str]:
    states = {(cell.revision, cell.mode): cell.state for cell in row.cells}
    return [states.get((column.revision, column.mode), "") for column in columns]


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


def write(table: Table, folder: Path) -> None:
    """Write matrix.md and matrix.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.md").write_text(as_markdown(table), encoding="utf-8")
    (folder / "matrix.json").write_text(json.dumps(as_json(table), indent=1) + "\n", encoding="utf-8")
