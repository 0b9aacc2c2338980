from tests.faults.stalled_tail import run


def test_consumers_that_stall_come_back_over_real_sockets_without_a_hole(tmp_path):
    tally = run(tmp_path / "data", records=20_000, consumers=4, stall_s=0.5)
    assert tally.incomplete == []
    # What 4 consumers could take if all were read for them is some 40 MiB.
    assert max(tally.stalled) - tally.before < 20_000
