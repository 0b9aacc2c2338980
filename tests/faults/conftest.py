import pytest

from tests.needed import needed


@pytest.fixture(scope="session")
def strace() -> None:
    needed("strace")


@pytest.fixture(scope="session")
def gcc() -> None:
    needed("gcc")
