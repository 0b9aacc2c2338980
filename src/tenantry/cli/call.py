"""`tenantry call`."""

import json
import sys
import tomllib
from functools import partial
from importlib.resources import files
from typing import Any, Literal

import trio

from tenantry.cli import client
from tenantry.cli.client import Fault, Outcome, Person, Verdict

DENIED, TOOL_FAILED = 3, 4


class BadArguments(Exception):
    """The command line contradicts itself; the text says what to write."""


def call(
    *,
    tool: str,
    args: str = "{}",
    url: str = "http://localhost:3000/mcp",
    tenant: str | None = None,
    user: str | None = None,
    password: str = "demo",  # noqa: S107  # the demo's, for everybody to read
    scope: str = "tools:call",
    era: Literal["modern", "legacy"] | None = None,
) -> int:
    """Sign in at a running server by its real login pages and call one tool.

    The tool's text goes to stdout. Exit status 0, or 3 for a denied call, 4 for an error of the tool, 1 for any
    other fault, 2 for bad arguments.

    Parameters
    ----------
    tool
        The tool's name.
    args
        The tool's arguments: a JSON object.
    url
        The MCP endpoint, as the server says it when it starts.
    tenant
        Sign in as the demo's first user of this tenant.
    user
        Sign in as this user.
    password
        The user's password.
    scope
        The scopes to ask for, separated by spaces.
    era
        modern: each request stands for itself (2026-07-28). legacy: after an initialize. Without it modern, and
        legacy where the server serves nothing else.
    """
    try:
        arguments = parse_arguments(args)
        check_url(url)
        person = Person(user=user_of(tenant, user), password=password, scope=scope)
        return report(trio.run(partial(client.call_tool, url, person, tool, arguments, era)))
    except BadArguments as error:
        return _complain("tenantry", str(error), 2)
    except UnicodeEncodeError:
        return _complain("tenantry", "an argument holds what is no Unicode text", 2)
    except Fault as error:
        return _complain("tenantry", str(error), 1)


def parse_arguments(text: str) -> dict[str, Any]:
    """Read the value of `--args`; raises `BadArguments` unless it is a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"--args is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadArguments('--args must be a JSON object, such as {"message": "hi"}')
    return value


def check_url(url: str) -> None:
    """Raise `BadArguments` where a password must not be sent to `url`."""
    problem = client.problem_with_url(url)
    if problem is not None:
        raise BadArguments(f"--url {url}: {problem}")


def user_of(tenant: str | None, user: str | None) -> str:
    """Give the user to sign in as; raises `BadArguments` unless exactly one of both says it."""
    if (tenant is None) == (user is None):
        raise BadArguments("say either --tenant or --user")
    if user is not None:
        return user
    demo = tomllib.loads((files("tenantry.demo") / "demo.toml").read_text("utf-8"))
    for name, section in demo["users"].items():
        if section["tenant"] == tenant:
            return str(name)
    raise BadArguments(f"--tenant {tenant}: the demo has {' and '.join(demo['tenants'])}; elsewhere say --user")


def report(outcome: Outcome) -> int:
    """Print how the call ended, and give the exit status."""
    if outcome.verdict is Verdict.DENIED:
        return _complain("denied", outcome.text, DENIED)
    if outcome.verdict is Verdict.FAILED:
        return _complain("tool error", outcome.text, TOOL_FAILED)
    print(outcome.text.encode("utf-8", "replace").decode())
    return 0


def _complain(what: str, text: str, status: int) -> int:
    # The text comes from a server: one line, and nothing that a terminal would obey.
    line = " ".join(text.split())
    shown = "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in line)
    print(f"{what}: {shown}", file=sys.stderr)
    return status
