"""One server a mode for all attacks, and the choice of rows by `--attack`."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.attacks.table import MODES
from tests.attacks.target import CONFIG, SERVED, Servers, Target, checked, started

Starter = Callable[..., Target]
# Some tests start several servers, which takes its time on a busy machine; whatever hangs has a shorter patience.
TIMEOUT_S = 600


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two choices for the run over mutants."""
    parser.addoption("--attack", action="append", default=[], help="run the tests of this row alone (again for more)")
    parser.addoption("--one-mode", action="store_true", help="run each test in its first mode alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the chosen rows, and the one that shows a server fit for honest clients."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
    chosen = set(config.getoption("--attack", default=[]))
    one_mode = config.getoption("--one-mode", default=False)
    kept = [item for item in items if _is_chosen(item, chosen) and not (one_mode and _in_later_mode(item))]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def _is_chosen(item: pytest.Item, chosen: set[str]) -> bool:
    mark = item.get_closest_marker("attack")
    return not chosen or item.path.name == "test_honest.py" or (mark is not None and bool(chosen & set(mark.args)))


def _in_later_mode(item: pytest.Item) -> bool:
    mode = getattr(item, "callspec", None) and item.callspec.params.get("mode")  # type: ignore[attr-defined]
    offered = [mark.args[1] for mark in item.iter_markers("parametrize") if mark.args[0] == "mode"]
    return mode in MODES and bool(offered) and mode != offered[0][0]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp)
    yield made
    made.close()


@pytest.fixture
def server(mode: str, servers: Servers) -> Iterator[Target]:
    """The server of the test's mode; the invariants are checked after the test."""
    with checked(servers.of(mode)) as target:
        yield target


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Starts servers of a test's own: `start(mode, *flags, edit=...)`; the invariants are checked for them too.

    `edit` is given the configuration's text and gives another.
    """
    numbers = itertools.count()
    with ExitStack() as stack:

        def begin(mode: str = "dual", *flags: str, edit: Callable[[str], str] = str) -> Target:
            folder = tmp_path / f"server-{next(numbers)}"
            shutil.copytree(SERVED, folder)
            config = folder / CONFIG.name
            config.write_text(edit(config.read_text()))
            made = stack.enter_context(started(folder / "data", mode, *flags, config=config))
            return stack.enter_context(checked(made))

        yield begin


@pytest.fixture
def longer() -> Callable[[int, int], int]:
    """How often a loop runs: the first number, or with `TENANTRY_LONG_ATTACKS` set the second, as the list wants it."""
    return lambda short, long: long if os.environ.get("TENANTRY_LONG_ATTACKS") else short
