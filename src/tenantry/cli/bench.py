"""`tenantry bench`."""

import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def bench(
    name: str = "",
    *options: Annotated[str, Parameter(allow_leading_hyphen=True)],
) -> int:
    """Measure over HTTP, in alternating rounds; without a name, say what can be measured.

    Exit status 2 where there is no such benchmark; else the benchmark's own. The benchmarks are in the source tree
    alone, and start servers of their own.

    Parameters
    ----------
    name
        What to measure.
    options
        What is passed on to it: `--help` says what it takes.
    """
    spec = importlib.util.find_spec("bench")
    if spec is None or not spec.submodule_search_locations:
        print("tenantry: the benchmarks are in the source tree alone: run this from there", file=sys.stderr)
        return 2
    known = _benchmarks(Path(spec.submodule_search_locations[0]))
    if name not in known:
        told = f"tenantry: there is no benchmark {name!r}\n" if name else ""
        print(f"{told}benchmarks: {', '.join(known)}", file=sys.stderr if name else sys.stdout)
        return 2 if name else 0
    place = Path(spec.submodule_search_locations[0]).parent  # where the benchmarks' own modules are found from
    return subprocess.run([sys.executable, "-m", f"bench.{name}", *options], cwd=place, check=False).returncode  # noqa: S603


def _benchmarks(package: Path) -> list[str]:
    """Every module that measures: one that can be run, and writes results."""
    names = (module.name for module in pkgutil.iter_modules([str(package)]) if not module.ispkg)
    return [name for name in names if "--results" in (package / f"{name}.py").read_text(encoding="utf-8")]
