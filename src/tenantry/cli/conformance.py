"""`tenantry conformance`."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

# pytest's exit statuses: all passed, some failed. Anything else is no result, so there is no matrix to print.
JUDGED = (0, 1)
NEEDED = ("conformance", "pytest", "jsonschema")


def conformance(
    *,
    url: str,
    token: Annotated[str | None, Parameter(env_var="CONFORMANCE_TOKEN")] = None,
    user: str | None = None,
    service: str | None = None,
    mode: Literal["sessionful", "stateless", "dual"] | None = None,
    revision: Annotated[list[str] | None, Parameter(negative="")] = None,
    clause: Annotated[list[str] | None, Parameter(negative="")] = None,
    output: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Test any MCP server clause by clause and print the matrix: clause x revision x mode.

    The matrix goes to stdout, the progress to stderr. Exit status 0 if nothing fails, 1 if something does, 2 if the
    server could not be tested. Needs the extra `conformance`.

    Parameters
    ----------
    url
        The MCP endpoint.
    token
        An access token for it, if it wants one.
    user
        Who may sign in there, for the clauses of OAuth that need somebody to; the password is read from
        CONFORMANCE_PASSWORD.
    service
        The id of a client that acts for itself, for the clauses of client credentials; its secret is read from
        CONFORMANCE_SERVICE_SECRET.
    mode
        Test only what the server offers in this mode; without it, all that it offers.
    revision
        Test only this protocol revision; may be repeated.
    clause
        Test only this clause; may be repeated.
    output
        Keep matrix.md and matrix.json in this directory.
    as_json
        Print JSON instead of Markdown.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"tenantry: {', '.join(missing)} missing: install tenantry[conformance]", file=sys.stderr)
        return 2
    narrowed = [*(["--mode", mode] if mode else []), *(f"--revision={each}" for each in revision or ())]
    narrowed += [f"--clause={each}" for each in clause or ()]
    narrowed += [f"--user={user}"] if user else []
    narrowed += [f"--service={service}"] if service else []
    with tempfile.TemporaryDirectory() as scratch:
        folder = output or Path(scratch)
        status = _run(["--url", url, *narrowed, "--matrix", str(folder.absolute())], token)
        if status not in JUDGED:
            return 2
        print((folder / ("matrix.json" if as_json else "matrix.md")).read_text(encoding="utf-8"), end="")
    return status


def _run(words: list[str], token: str | None) -> int:
    """Run the suite and give pytest's exit status."""
    spec = importlib.util.find_spec("conformance")
    assert spec is not None, "looked up before"  # noqa: S101
    assert spec.origin is not None, "a package with an __init__"  # noqa: S101
    suite = Path(spec.origin).parent
    command = [sys.executable, "-m", "pytest", "-c", str(suite / "standalone.ini"), "--rootdir", str(suite.parent)]
    # What else is installed has no say in the result.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if token is not None:  # not on the command line, where other users of the machine could read it
        environment["CONFORMANCE_TOKEN"] = token
    done = subprocess.run(  # noqa: S603
        [*command, *words, str(suite)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env=environment,
        check=False,
    )
    return done.returncode
