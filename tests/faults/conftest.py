import shutil

import pytest


@pytest.fixture(scope="module")
def strace():
    """Skip where there is no strace; in CI that is a failure."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt install strace")
