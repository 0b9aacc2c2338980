from tests.fuzz.requests import bombard


def test_no_generated_request_is_answered_5xx_or_leaves_anything(tmp_path):
    statuses, faults = bombard(tmp_path, requests=600, seed=7)

    assert faults == []
    assert statuses[200] > 10
    assert statuses[400] > 100
    assert sum(statuses.values()) == 600
