"""What decides is plain functions and values; what waits is in `server/`: checked over the syntax trees.

Each check is a function of a module's name and source, so that a planted snippet can show that it is able to fail.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
ROWS = {
    **dict.fromkeys(("json_text", "version"), 0),
    **dict.fromkeys(("fairness", "forwarded", "identity", "jsonrpc", "machine", "sse", "web"), 1),
    **dict.fromkeys(("mcp", "oauth", "policy", "audit"), 2),
    "config": 3,
    "": 3,  # the package itself, which gives the authors of tools what they need
    "server": 4,
    **dict.fromkeys(("cli", "demo", "__main__"), 5),
}
PURE = 3  # the last row that neither waits nor touches the outside
CLOCK_AND_CHANCE = frozenset({"random", "secrets", "time"})
FILES_AND_SOCKETS = frozenset({"h11", "h2", "hypercorn", "os", "pathlib", "socket", "sqlite3", "ssl", "tempfile"})
LOGS = frozenset({"logging", "structlog"})
CONCURRENCY = frozenset({"asyncio", "subprocess", "threading", "trio"})
IMPURE_MODULES = CLOCK_AND_CHANCE | FILES_AND_SOCKETS | LOGS | CONCURRENCY
IMPURE_CALLS = frozenset({"input", "now", "open", "print", "today", "utcnow", "uuid1", "uuid4"})
OWNERS = {
    "h2": ("tenantry.server.host",),
    "hypercorn": ("tenantry.server.host",),
    "sqlite3": ("tenantry.server.store", "tenantry.server.audit_log"),
}
REVISIONS = "tenantry.mcp.revisions"
REVISION = re.compile(r"20\d\d-\d\d-\d\d")
AWAITING = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def imports(tree: ast.AST) -> Iterator[str]:
    """Give the dotted name of everything imported, also inside of functions and `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ("." * node.level + f"{node.module or ''}.{alias.name}" for alias in node.names)


def unit_of(name: str) -> str:
    """Give the unit of a dotted name under `tenantry`; what is no unit is a name that the package itself gives."""
    unit = name.partition(".")[2].partition(".")[0]
    return unit if unit in ROWS else ""


def unknown_units(module: str, _tree: ast.AST) -> Iterator[str]:
    """Report a unit that the table lacks: where it stands is to be decided, not to be found out."""
    if module != "tenantry" and not unit_of(module):
        yield f"{module} has no row in the table"


def direction(module: str, tree: ast.AST) -> Iterator[str]:
    """Report imports upwards, across rows 1 and 2, and of anything but the standard library in row 1."""
    unit, row = unit_of(module), ROWS[unit_of(module)]
    for name in imports(tree):
        top, target = name.split(".")[0], unit_of(name)
        if top != "tenantry":
            wrong = row <= 1 and top not in sys.stdlib_module_names
        else:
            wrong = ROWS[target] > row or (ROWS[target] == row <= 2 and target != unit)
        if wrong:
            yield f"{module} imports {name}"


def purity(module: str, tree: ast.AST) -> Iterator[str]:
    """Report what waits or touches the outside in rows 1 to 3."""
    if ROWS[unit_of(module)] > PURE:
        return
    for name in imports(tree):
        if name.split(".")[0] in IMPURE_MODULES or name == "urllib.request":
            yield f"{module}, a pure row, imports {name}"
    for node in ast.walk(tree):
        if isinstance(node, AWAITING) or (isinstance(node, ast.comprehension) and node.is_async):
            yield f"{module}:{getattr(node, 'lineno', 0)}, a pure row, waits: {type(node).__name__}"
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in IMPURE_CALLS:
                yield f"{module}:{node.lineno}, a pure row, calls {called}()"


def ownership(module: str, tree: ast.AST) -> Iterator[str]:
    """Report a library that another file has for itself, and a revision spelled outside of the one table."""
    for name in imports(tree):
        owners = OWNERS.get(name.split(".")[0], (module,))
        if not any(module == owner or module.startswith(f"{owner}.") for owner in owners):
            yield f"{module} imports {name}"
    for node in ast.walk(tree):
        if module != REVISIONS and isinstance(node, ast.Constant) and REVISION.fullmatch(str(node.value)):
            yield f"{module}:{node.lineno} spells the revision {node.value!r}"


def outside(module: str, tree: ast.AST) -> Iterator[str]:
    """Report an import of the project in what must run against any server."""
    yield from (f"{module} imports {name}" for name in imports(tree) if name.split(".")[0] == "tenantry")


Check = Callable[[str, ast.AST], Iterator[str]]
CHECKS: tuple[Check, ...] = (unknown_units, direction, purity, ownership)


def module_name(path: Path, base: Path) -> str:
    """Give the dotted name under which `path` is imported from `base`."""
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def test_the_source_keeps_to_the_layers():
    modules = {module_name(path, SOURCE): ast.parse(path.read_bytes()) for path in SOURCE.rglob("*.py")}
    assert "tenantry.web" in modules, "the walk found nothing to check"
    assert not [fault for check in CHECKS for name, tree in modules.items() for fault in check(name, tree)]


def test_conformance_and_bench_import_nothing_of_the_source():
    paths = [path for folder in ("conformance", "bench") for path in (ROOT / folder).rglob("*.py")]
    trees = {module_name(path, ROOT): ast.parse(path.read_bytes()) for path in paths}
    assert not [fault for name, tree in trees.items() for fault in outside(name, tree)]


@pytest.mark.parametrize(
    ("check", "module", "source"),
    [
        (unknown_units, "tenantry.utils", ""),
        (unknown_units, "tenantry.helpers.text", ""),
        (direction, "tenantry.web", "import pydantic"),
        (direction, "tenantry.web", "from tenantry.identity import Principal"),
        (direction, "tenantry.web", "from tenantry import policy"),
        (direction, "tenantry.web", "from tenantry import tool"),
        (direction, "tenantry.mcp.route", "import tenantry"),
        (direction, "tenantry", "from tenantry.server import app"),
        (direction, "tenantry.mcp.route", "from tenantry.oauth import bearer"),
        (direction, "tenantry.policy", "import tenantry.audit.record"),
        (direction, "tenantry.oauth.token", "from tenantry.config import Config"),
        (direction, "tenantry.config", "def f():\n    from tenantry.server import store"),
        (direction, "tenantry.server.app", "from tenantry.cli import main"),
        (purity, "tenantry.sse", "async def f(): pass"),
        (purity, "tenantry.sse", "def f(x): return [y async for y in x]"),
        (purity, "tenantry.audit.record", "if TYPE_CHECKING:\n    import trio"),
        (purity, "tenantry.oauth.pkce", "from secrets import token_urlsafe"),
        (purity, "tenantry.oauth.pkce", "import os.path"),
        (purity, "tenantry.config", "config = open('tenantry.toml')"),
        (purity, "tenantry.audit.record", "from datetime import datetime\nstarted = datetime.now()"),
        (ownership, "tenantry.server.app", "import hypercorn.trio"),
        (ownership, "tenantry.cli", "from hypercorn.config import Config"),
        (ownership, "tenantry.server.hostess", "import h2.connection"),
        (ownership, "tenantry.server.sessions", "import sqlite3"),
        (ownership, "tenantry.mcp.route", "legacy = revision <= '2025-11-25'"),
        (outside, "bench.load", "from tenantry.sse import Decoder"),
    ],
)
def test_a_planted_fault_is_found(check, module, source):
    assert list(check(module, ast.parse(source)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tenantry", "from tenantry.mcp.tools import tool\nfrom tenantry.version import __version__"),
        ("tenantry.web", "import re\nfrom urllib.parse import urlsplit"),
        ("tenantry.mcp.route", "import pydantic\nfrom tenantry import jsonrpc\nfrom tenantry.mcp import revisions"),
        ("tenantry.config", "from tenantry.oauth.clients import Client\nfrom tenantry import policy"),
        ("tenantry.server.host.http2", "import hypercorn, h2, trio\nasync def serve(): await trio.sleep(0)"),
        ("tenantry.server.store", "import sqlite3, time\nfrom tenantry.oauth import token"),
        ("tenantry.cli", "from tenantry.server import runtime\nfrom tenantry import demo, tool"),
        ("tenantry.mcp.revisions", "LATEST = '2026-07-28'"),
        ("tenantry.mcp.results", '"""Results before 2025-11-25 lack it."""'),
    ],
)
def test_what_the_table_allows_is_let_through(module, source):
    assert not [fault for check in CHECKS for fault in check(module, ast.parse(source))]


# Put together from parts, so that this file does not hold what it looks for.
HOSTS = ("py" + "pi.org", "pythonho" + "sted.org", "npm" + "js.org", "npm" + "js.com", "crates" + ".io")
PATHS = rb"(?<![\w.~-])/(?:" + b"|".join((b"work", b"root", b"home", b"Users")) + rb")/[\w.]"
UNWANTED = re.compile(b"|".join([*(re.escape(host.encode()) for host in HOSTS), PATHS]))


def files_of_the_tree() -> list[Path]:
    """Give every file that is, or would be, committed; outside of a git work tree, all but the ignored names."""
    git = ("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard")
    try:
        listing = subprocess.run(git, check=True, capture_output=True, text=True).stdout
        paths = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        ignored = [".git", *(line.strip("/") for line in (ROOT / ".gitignore").read_text().split())]
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(fnmatch(part, name) for part in path.relative_to(ROOT).parts for name in ignored)
        ]
    return [path for path in paths if path.is_file()]


def test_no_file_names_a_package_registry_or_a_place_on_one_machine():
    paths = files_of_the_tree()
    assert Path(__file__) in paths, "the listing found nothing to check"
    found = {str(path.relative_to(ROOT)): UNWANTED.search(path.read_bytes()) for path in paths}
    assert not {name: match[0] for name, match in found.items() if match}


@pytest.mark.parametrize("text", [*HOSTS, "/ro" + "ot/x", "open('/wo" + "rk/main')", "file:///ho" + "me/ann"])
def test_an_unwanted_name_is_found(text):
    assert UNWANTED.search(text.encode())
