"""What the OpenAPI description promises is what comes, as schemathesis sees it; the long form is a command."""

import pytest

from tests.fuzz import openapi


@pytest.mark.timeout(600)
def test_what_is_answered_is_what_is_described(tmp_path):
    report = openapi.run(tmp_path, examples=10, seed=1)
    assert report.passed, report.text
    assert report.cases > 300, report.text
