from tests.faults.soak import soak


def test_every_answer_of_a_mixed_load_has_its_record(tmp_path):
    tally = soak(tmp_path / "data", seconds=3, callers=6, every_s=0.3, seed=1)
    assert tally.problems == []
    assert {"tool_call", "tool_denied", "token_issued", "client_registered"} <= set(tally.kinds)
    assert {"succeeded", "tool_error", "invalid_arguments", "denied"} <= set(tally.outcomes)
    assert not tally.refused
    assert all(sample.tasks > 10 for sample in tally.samples[-3:])
