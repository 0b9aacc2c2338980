"""Tools of a Linux machine that a test can't do without."""

import shutil

import pytest


def needed(tool: str) -> None:
    """Skip where a tool of a Linux machine is missing; in CI that is a failure."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: apt install {tool}")
