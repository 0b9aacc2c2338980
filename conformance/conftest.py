"""The suite against one server: its columns, the server or servers, and what comes of every test."""

import contextlib
import json
import os
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conformance import matrix
from conformance.authority import Authority
from conformance.broken.faults import EVERYTHING, runs, watched
from conformance.broken.proxy import HONEST, Proxy, spoilt_server
from conformance.clauses import MODES, Use, inventory, use_of
from conformance.client import NotApplicable
from conformance.peer import COLUMNS, Column, Peer, Site, columns_of
from conformance.schemas import REVISIONS
from conformance.serving import PASSWORD, demo, free_port

NOT_APPLICABLE = "not applicable: "
MAX_REASON = 300
NEVER_SKIPPED = "a test is never skipped; what the server does not offer is NotApplicable"
RESULTS = pytest.StashKey[list[matrix.Outcome]]()
COLUMNS_KEY = pytest.StashKey[tuple[Column, ...]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what names the server and narrows the run."""
    group = parser.getgroup("conformance")
    group.addoption("--url", help="the MCP endpoint of a running server; without it, servers are started")
    group.addoption("--token", default=os.environ.get("CONFORMANCE_TOKEN"), help="an access token for --url")
    group.addoption("--user", help="who signs in at --url; the password is taken from CONFORMANCE_PASSWORD")
    group.addoption("--service", help="a client at --url that acts for itself; secret in CONFORMANCE_SERVICE_SECRET")
    group.addoption("--mode", choices=MODES, help="only the columns of this mode")
    group.addoption("--revision", action="append", choices=REVISIONS, help="only this revision; may be repeated")
    group.addoption("--clause", action="append", help="only tests of this clause; may be repeated")
    group.addoption("--broken", metavar="FILE", help="run against every server of broken/ and write the states there")
    group.addoption("--matrix", metavar="DIR", help="write matrix.md and matrix.json there")


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what comes of the tests."""
    config.stash[RESULTS] = list[matrix.Outcome]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ask a running server what it offers before anything is collected: where it can't be asked nothing is tested."""
    columns(session.config)


def columns(config: pytest.Config) -> tuple[Column, ...]:
    """Give the columns of this run; a running server is asked for its own, once."""
    if COLUMNS_KEY not in config.stash:
        config.stash[COLUMNS_KEY] = tuple(_columns(config))
    return config.stash[COLUMNS_KEY]


def _columns(config: pytest.Config) -> list[Column]:
    if config.getoption("--broken"):
        return [Column(*each) for each in runs()]
    url, mode = config.getoption("--url"), config.getoption("--mode")
    revisions = config.getoption("--revision") or REVISIONS
    if url is None or (mode and config.getoption("--revision")):
        # Both said: the columns exist, whatever the server answers. A spoilt server must not talk its way out.
        return [each for each in COLUMNS if each.revision in revisions and mode in {None, each.mode, each.server_mode}]
    try:
        found = columns_of(url, config.getoption("--token"), revisions, mode)
    except (OSError, PermissionError) as error:
        raise pytest.UsageError(f"{url}: {error}") from None
    if not found:
        raise pytest.UsageError(f"{url} speaks none of {', '.join(revisions)}" + (f" in mode {mode}" if mode else ""))
    return found


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Don't even read the modules that name none of the clauses of --clause."""
    wanted = config.getoption("--clause")
    if not wanted or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(each in text for each in wanted) else True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each column (with `peer`) or server (with `site`) that its clauses allow."""
    use = use_of(metafunc.definition.iter_markers("clause"))
    if not use.ids:
        return
    allowed = [each for each in columns(metafunc.config) if fits(each, use)]
    if "peer" in metafunc.fixturenames:
        metafunc.parametrize("peer", allowed, indirect=True, ids=[each.id for each in allowed])
    elif "site" in metafunc.fixturenames:
        servers = list({server_of(each): each for each in allowed}.values())
        metafunc.parametrize("site", servers, indirect=True, ids=["-".join(server_of(each)) for each in servers])


def fits(column: Column, use: Use) -> bool:
    """Whether a test runs in a column."""
    if not use.runs(column.revision, column.mode):
        return False
    if column.fault is None:
        return True
    return not watched(column.fault, column.revision, column.mode).isdisjoint(use.ids)


def server_of(column: Column) -> tuple[str, ...]:
    """What tells the servers of a run from one another; several columns share one."""
    return (column.server_mode,) if column.fault is None else (column.server_mode, column.fault)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what --clause does not name and what no column asks for; expect a declared divergence to show."""
    wanted = set(config.getoption("--clause") or ())
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        use = use_of(item.iter_markers("clause"))
        empty = any("got empty parameter set" in str(mark) for mark in item.iter_markers("skip"))
        (dropped if empty or (wanted and wanted.isdisjoint(use.ids)) else kept).append(item)
        ours = use.ids and config.getoption("--url") is None
        reasons = [row.diverges for each in use.ids if (row := inventory().get(each)) and row.diverges]
        if ours and reasons:
            item.add_marker(pytest.mark.xfail(reason=f"diverges: {reasons[0]}", strict=True))
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


@pytest.fixture(scope="session")
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Sites"]:
    """The servers of this run."""
    with contextlib.ExitStack() as stack:
        yield Sites(request.config, tmp_path_factory, stack)


class Sites:
    """Gives the server for a mode; one that the suite must start is started at its first use and shared."""

    def __init__(self, config: pytest.Config, paths: pytest.TempPathFactory, stack: contextlib.ExitStack) -> None:
        """Start nothing yet."""
        self._config, self._paths, self._stack = config, paths, stack
        self._running: dict[tuple[str, ...], Site] = {}
        self._proxies: dict[str, tuple[Proxy, Site]] = {}

    def get(self, column: Column) -> Site:
        """Give the server for a column."""
        key = server_of(column)
        if column.fault is not None:
            self._proxy(column.server_mode)[0].fault = EVERYTHING.get(column.fault, HONEST)
        if key not in self._running:
            self._running[key] = self._sound(column.server_mode) if column.fault is None else self._spoilt(column)
        return self._running[key]

    def _sound(self, mode: str) -> Site:
        return self._given(mode) or self._started(mode)

    def _spoilt(self, column: Column) -> Site:
        _, sound = self._proxy(column.server_mode)
        return replace(sound, server=None, _probed={})

    def _proxy(self, mode: str) -> tuple[Proxy, Site]:
        """Give the one proxy of a mode, and the server behind it, which takes the proxy's address for its own."""
        if mode not in self._proxies:
            port = free_port()
            proxy = self._stack.enter_context(spoilt_server(f"http://localhost:{port}/mcp", HONEST))
            public_url = proxy.url.removesuffix("/mcp")
            self._proxies[mode] = proxy, self._started(mode, "--port", str(port), "--public-url", public_url)
        return self._proxies[mode]

    def _given(self, mode: str) -> Site | None:
        option = self._config.getoption
        if not (url := option("--url")):
            return None
        account = (option("--user"), os.environ.get("CONFORMANCE_PASSWORD", "")) if option("--user") else None
        service = (option("--service"), os.environ.get("CONFORMANCE_SERVICE_SECRET", ""))
        known = (lambda: service) if option("--service") else None
        return Site(url, option("--token"), mode, account=account, service=known)

    def _started(self, mode: str, *flags: str) -> Site:
        server = self._stack.enter_context(demo(self._paths.mktemp(mode) / "data", mode, *flags))
        account = (server.user, PASSWORD)
        return Site(server.url, server.sign_in().access_token, mode, server, server, account, server.add_service)


@pytest.fixture
def site(request: pytest.FixtureRequest, sites: Sites) -> Site:
    """One server, for tests that no MCP revision has a part in."""
    return sites.get(request.param)


@pytest.fixture
def authority(site: Site) -> Authority:
    """The authorization server of `site`."""
    return site.authority


@pytest.fixture
def peer(request: pytest.FixtureRequest, sites: Sites) -> Iterator[Peer]:
    """The server under test in one column: `url`, `token`, `revision`, `mode`, and clients on request."""
    column: Column = request.param
    site = sites.get(column)
    probed = site.probed(column.revision)
    made = Peer(site, column.revision, column.mode, probed and probed[1])
    clauses = use_of(request.node.iter_markers("clause")).clauses()
    missing = sorted({row.feature for row in clauses if row.feature and not made.has(row.feature)})
    if missing:
        raise NotApplicable(f"the server does not advertise {', '.join(missing)}")
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Report a fixture that found the test not applicable as just that."""
    try:
        return (yield)
    except NotApplicable as reason:
        pytest.skip(NOT_APPLICABLE + str(reason))
    except pytest.skip.Exception as error:
        pytest.fail(f"{NEVER_SKIPPED}: {error.msg}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test in which any message of the server broke the schema of its revision."""
    try:
        result = yield
    except NotApplicable as reason:
        pytest.skip(NOT_APPLICABLE + str(reason))
    except pytest.skip.Exception as error:
        pytest.fail(f"{NEVER_SKIPPED}: {error.msg}", pytrace=False)
    except Exception as error:
        for fault in _violations(item):
            error.add_note(f"schema: {fault}")
        raise
    if faults := _violations(item):
        pytest.fail("the server broke the schema of its revision:\n" + "\n".join(faults), pytrace=False)
    return result


def _violations(item: pytest.Item) -> list[str]:
    made = getattr(item, "funcargs", {}).get("peer")
    return made.recorder.violations if isinstance(made, Peer) else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what came of each test for the matrix."""
    report = yield
    use = use_of(item.iter_markers("clause"))
    if use.ids and (report.when == "call" or report.outcome != "passed"):
        item.config.stash[RESULTS] += [
            matrix.Outcome(item.nodeid, each, column.revision, column.mode, *_state(report, call), column.fault)
            for column in _columns_of(item, use)
            for each in use.ids
        ]
    return report


def _columns_of(item: pytest.Item, use: Use) -> list[Column]:
    """The columns that a run of a test speaks for."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if isinstance(column := parameters.get("peer"), Column):
        return [column]
    one = parameters.get("site")
    fitting = [each for each in columns(item.config) if fits(each, use)]
    return fitting if one is None else [each for each in fitting if server_of(each) == server_of(one)]


def _state(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str]:
    """Give the state that a report stands for, and why."""
    if hasattr(report, "wasxfail"):
        # A divergence that no longer shows is reported as a failure, for then the row says what is not so.
        return (matrix.DIVERGES, report.wasxfail.removeprefix("diverges: ")) if report.skipped else (matrix.FAILS, "")
    if report.skipped and isinstance(report.longrepr, tuple):
        return matrix.NOT_APPLICABLE, report.longrepr[2].removeprefix("Skipped: ").removeprefix(NOT_APPLICABLE)
    if report.passed:
        return matrix.SHOWN, ""
    said = call.excinfo.exconly(tryshort=True) if call.excinfo else report.longreprtext
    return matrix.FAILS, said[:MAX_REASON]


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Name what is not applicable by its name."""
    if report.skipped and isinstance(report.longrepr, tuple) and NOT_APPLICABLE in report.longrepr[2]:
        return "not applicable", "n", "NOT APPLICABLE"
    return None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was asked for: the matrix, or what came of the faults."""
    outcomes = session.config.stash[RESULTS]
    if (file := session.config.getoption("--broken")) is not None:
        Path(file).write_text(json.dumps(_by_fault(outcomes), indent=1), encoding="utf-8")
    folder = session.config.getoption("--matrix")
    if folder is not None and not session.config.getoption("--collect-only"):
        matrix.write(matrix.build(inventory().values(), columns(session.config), outcomes), Path(folder))


def _by_fault(outcomes: list[matrix.Outcome]) -> dict[str, dict[str, list[str]]]:
    """Give fault -> clause that must catch it -> states of its tests."""
    found: dict[str, dict[str, list[str]]] = {}
    for each in outcomes:
        if each.fault is not None and each.clause in watched(each.fault, each.revision, each.mode):
            found.setdefault(each.fault, {}).setdefault(each.clause, []).append(each.state)
    return found
