"""What all tests share: async tests on trio, hypothesis profiles, no silent skips in CI.

Every `async def test_...` runs on trio, marked or not. Time is real unless the test asks for `autojump_clock`
(a test under `@given` asks by `@pytest.mark.usefixtures("autojump_clock")` and gets a fresh clock for each
example); that clock must not meet real sockets or threads, whose work it can't see and jumps over. An async test
under `@given` can use synchronous fixtures only.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial, wraps
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from trio.abc import Clock, Instrument
from trio.testing import MockClock

T = TypeVar("T")
IN_CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

settings.register_profile("default", deadline=None, max_examples=50)
# The same examples in every run of CI: a change is judged by what it changed. `long` is for finding.
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=200,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long", deadline=None, max_examples=5000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "default"))


def run(
    test: Callable[[], Awaitable[T]],
    *,
    clock: Clock | None = None,
    instruments: Sequence[Instrument] = (),
    jump: bool = False,
) -> T:
    """Run one async test as `trio.run` does, but raise an error that is alone in its groups by itself.

    pytest-trio's nurseries wrap every failure, which hides it from `xfail(raises=)` and from the reader.
    """
    __tracebackhide__ = True
    if clock is None and jump:
        clock = MockClock(autojump_threshold=0)
    try:
        return trio.run(test, clock=clock, instruments=instruments)
    except BaseExceptionGroup as group:
        error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    raise error  # outside of the handler, so that the group does not become the error's context


def synchronous(test: Callable[..., Awaitable[object]], runner: Callable[..., object]) -> Callable[..., object]:
    """Give the function that hypothesis calls for each example; pytest-trio would ignore `runner` here."""

    @wraps(test)
    def example(*args: object, **kwargs: object) -> object:
        __tracebackhide__ = True
        return runner(partial(test, *args, **kwargs), clock=kwargs.get("autojump_clock"))

    # pytest-trio leaves a function so marked as it is: an explicit `@pytest.mark.trio` is harmless.
    example.__dict__["_trio_test_runner_wrapped"] = True
    return example


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let whoever wants to look at the pages say where their pictures go."""
    parser.addoption(
        "--screenshots", type=Path, default=Path(__file__).parent / "artifacts", help="where pictures of the pages go"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every async test run on trio."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        runner = partial(run, jump="autojump_clock" in item.fixturenames)
        under_given = getattr(item.obj, "hypothesis", None)
        if under_given is None and iscoroutinefunction(item.obj):
            item.add_marker(pytest.mark.trio(run=runner))
        elif under_given is not None and iscoroutinefunction(under_given.inner_test):
            under_given.inner_test = synchronous(under_given.inner_test, runner)


def forbidden_skips(config: pytest.Config) -> int:
    """Count the skipped tests and modules of a run in CI; an expected failure is not a skip."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", [])) if IN_CI and reporter else 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI that skipped a test: what could not be tested was not shown."""
    if forbidden_skips(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a run without a failed test failed."""
    if skips := forbidden_skips(terminalreporter.config):
        terminalreporter.write_line(f"FAILED: {skips} skipped under CI, where every test must run", red=True)
