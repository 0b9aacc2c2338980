"""Draws the state machines out of their tables: `python -m tests.machines` writes spec/machines/."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from tenantry.mcp import session, stream, task

DIRECTORY = Path(__file__).parent.parent / "spec" / "machines"
MACHINES: dict[str, tuple[str, Mapping[Any, Mapping[Any, Any]]]] = {
    "session": ("The MCP session of a legacy client", session.TRANSITIONS),
    "stream": ("The answer to one POST", stream.TRANSITIONS),
    "task": ("A task", task.TRANSITIONS),
}


def draw(title: str, table: Mapping[Enum, Mapping[Enum, Enum]]) -> str:
    """Give a page with the table's diagram; the first state is where it begins, one without events is an end."""
    lines = [f"# {title}", "", "Generated from its table by `python -m tests.machines`.", "", "```mermaid"]
    lines += ["stateDiagram-v2", f"    [*] --> {next(iter(table)).value}"]
    for state, events in table.items():
        targets: dict[str, list[str]] = {}
        for event, target in events.items():
            targets.setdefault(target.value, []).append(event.value)
        lines += [f"    {state.value} --> {target}: {', '.join(names)}" for target, names in targets.items()]
        if not events:
            lines.append(f"    {state.value} --> [*]")
    return "\n".join([*lines, "```", ""])


def main() -> None:
    """Write all pages."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, (title, table) in MACHINES.items():
        (DIRECTORY / f"{name}.md").write_text(draw(title, table))


if __name__ == "__main__":
    main()
