"""The official SDKs' own OAuth clients get through, as they are."""

import shutil

import pytest

from tests.foreign.clients import SDKS
from tests.foreign.scenario import run

STEPS = 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "mode"),
    [("python", "dual"), ("python", "sessionful"), ("typescript", "stateless"), ("typescript-1", "dual")],
)
def test_a_foreign_client_gets_through_unmodified(name, mode, tmp_path):
    sdk = SDKS[name]
    if sdk.modules and not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("the SDK needs node and npm")
    assert len(list(run(sdk, tmp_path / "data", mode=mode))) == STEPS
