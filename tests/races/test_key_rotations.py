from tests.races.key_rotations import rotations_under_load


def test_ten_rotations_under_load_fail_no_valid_request(tmp_path):
    outcomes, published = rotations_under_load(tmp_path, 10)

    assert set(outcomes) == {"call", "refresh 200"}
    assert published == 11
