from tests.fuzz.generator import PATHS
from tests.fuzz.requests import bombard
from tests.oauth.flow import World


def test_no_generated_request_is_answered_5xx_or_leaves_anything(tmp_path):
    done = bombard(tmp_path, requests=600, seed=7)

    assert done.faults == []
    assert done.statuses[200] > 10
    assert done.statuses[201] > 3
    assert done.statuses[400] > 100
    assert sum(done.statuses.values()) >= 600


def test_every_endpoint_is_among_the_targets(tmp_path):
    world = World(tmp_path / "state.db")
    assert set(world.app._routes) <= set(PATHS)
    world.store.close()
