"""Attacks against builds with the defence switched off: `python -m tests.attacks.mutants [--only ID ...] [--sample N]`.

For each mutant of each row the source is copied, the defence taken out of the copy, and the row's tests are run on
it in one mode. A test that fails has shown the defence; where none fails the row has proven nothing. A server that
does not start, or that no longer serves an honest client, is no mutant at all.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.attacks.table import OWN, SOURCE, Attack, Replacement, attacks, modules

ROOT = SOURCE.parents[1]
RESULTS = Path(__file__).with_name("results.json")
# For the tests of one row, and of all.
PATIENCE_S, PATIENCE_FOR_ALL_S = 300, 7200
PROVEN = "proven"
NOT_APPLICABLE = "not applicable"


def mutate(source: Path, replacements: Iterable[Replacement]) -> None:
    """Take the defence out of a copy of the source; raises ValueError where a place is not there exactly once."""
    for replacement in replacements:
        path = source / "tenantry" / replacement.file
        text = path.read_text()
        if text.count(replacement.old) != 1:
            raise ValueError(f"{replacement.file} has {text.count(replacement.old)} times: {replacement.old}")
        path.write_text(text.replace(replacement.old, replacement.new))


def judge(ids: list[str], source: Path, *, patience_s: float = PATIENCE_S) -> str:
    """Run the rows' tests on a source: `passed`, `failed`, or why neither can be said."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-x" if source != SOURCE.parent else "-q", "--one-mode"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}", f"--basetemp={folder}/tmp"]
        command += [f"--attack={id_}" for id_ in ids]
        command += ["tests/attacks/test_honest.py"]
        command += [str(path) for path, named in modules().items() if set(named) & set(ids)]
        paths = os.pathsep.join([str(source), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        said = Path(folder) / "said"
        with said.open("w") as output:
            run = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                run.wait(patience_s)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)  # its servers too
                run.wait()
                return "did not end"
        if not report.exists():
            return f"could not run: {said.read_text()[-500:]}"
        return _verdict(ET.parse(report).getroot())


def _verdict(report: ET.Element) -> str:
    verdict = "passed"
    attacked = 0
    for case in report.iter("testcase"):
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        honest = "test_honest" in case.get("classname", "")
        attacked += not honest
        if problem is None:
            continue
        if honest or (problem.tag == "error" and "teardown" not in problem.get("message", "")):
            return f"broken: {problem.get('message', '')[:200]}"
        verdict = "failed"
    return verdict if attacked else "no test"


def survivors(row: Attack, folder: Path) -> list[str]:
    """What each mutant that was not caught came to."""
    left = []
    for number, mutant in enumerate(row.mutants, start=1):
        source = folder / f"{row.id}-{number}"
        shutil.copytree(SOURCE.parent, source, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            mutate(source, mutant)
            verdict = judge([row.id], source)
        except ValueError as error:
            verdict = str(error)
        if verdict != "failed":
            left.append(f"mutant {number} survived ({verdict})")
        shutil.rmtree(source)
    return left


def status_of(row: Attack, folder: Path) -> str:
    """How one row stands."""
    if row.not_applicable:
        return NOT_APPLICABLE
    return "; ".join(survivors(row, folder)) or PROVEN


def run(rows: Iterable[Attack]) -> dict[str, str]:
    """Judge each row by its mutants; tells of each on stderr."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in rows:
            found[row.id] = status_of(row, Path(folder))
            print(f"{row.id}: {found[row.id]}", file=sys.stderr, flush=True)
    return found


def choose(*, only: list[str], sample: int | None) -> list[Attack]:
    """The rows of a run; a sample is the same each time and leaves out what takes long."""
    rows = [row for row in attacks().values() if not only or row.id in only]
    if sample is None:
        return rows
    return random.Random(sample).sample([row for row in rows if row.mutants and not row.slow], sample)


def summary(found: dict[str, str], *, verdict: str) -> str:
    """The table's counts as Markdown."""
    lines = ["| area | rows | proven by mutant | not applicable | open |", "|---|---|---|---|---|"]
    areas = {id_: "kin that no list named" if id_.startswith(OWN) else id_.rpartition("-")[0] for id_ in found}
    for area in dict.fromkeys([*areas.values(), "all"]):
        counts = Counter(_class(status) for id_, status in found.items() if area in (areas[id_], "all"))
        lines.append(f"| {area} | {counts.total()} | {counts[PROVEN]} | {counts[NOT_APPLICABLE]} | {counts['open']} |")
    lines.append(f"\nThe tests of all rows on the build as it is: {verdict}.")
    return "\n".join(lines)


def _keep(found: dict[str, str]) -> None:
    """Note what this run found; of rows that it left out what an earlier one found stays, in the table's order."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({id_: (known | found).get(id_, "not run") for id_ in attacks()}, indent=1) + "\n")


def _class(status: str) -> str:
    return status if status in (PROVEN, NOT_APPLICABLE) else "open"


def main() -> int:
    """Run from the command line; the exit status is 0 only if every row is proven or does not apply."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="ID")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--mutants-alone", action="store_true", help="leave out the run on the build as it is")
    arguments = parser.parse_args()
    rows = choose(only=arguments.only, sample=arguments.sample)
    tested = [row.id for row in rows if not row.not_applicable]
    alone = arguments.mutants_alone
    verdict = "not run" if alone else judge(tested, SOURCE.parent, patience_s=PATIENCE_FOR_ALL_S)
    print(f"without a mutant: {verdict}", file=sys.stderr)
    found = run(rows)
    print(summary(found, verdict=verdict))
    _keep(found)
    good = (alone or verdict == "passed") and all(_class(status) != "open" for status in found.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
