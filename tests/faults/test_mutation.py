from tests.faults import mutation


def test_every_mutation_of_a_stored_log_is_found_and_blind_checks_miss_some(tmp_path):
    tally, blind = mutation.run(tmp_path, mutations=120, seed=2)
    assert tally.missed == []
    assert tally.mutations.total() == 120
    assert len(tally.mutations) >= len(mutation.MUTATIONS) - 3
    for name, missing in blind.items():
        assert missing.missed, name
