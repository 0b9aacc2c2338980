import shutil

import pytest


def needed(tool: str) -> None:
    """Skip where a tool of a Linux machine is missing; in CI that is a failure."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: apt install {tool}")


@pytest.fixture(scope="session")
def strace() -> None:
    needed("strace")


@pytest.fixture(scope="session")
def gcc() -> None:
    needed("gcc")
