import pytest

from tests.http_client import Client, initialize, legacy_call
from tests.races.token_races import may_call, redeem_at_once, refresh_at_once
from tests.running import demo_with, running_server


@pytest.mark.parametrize("mode", ["sessionful", "stateless"])
def test_of_sixty_four_who_redeem_one_code_exactly_one_gets_tokens(tmp_path, mode):
    with running_server(tmp_path, "--mode", mode) as server:
        client = Client.register(server.issuer)
        for _ in range(3):
            won, errors = redeem_at_once(client)

            assert won == 1
            assert errors == {"400 invalid_grant": 63}


def test_sixty_four_who_refresh_at_once_get_one_successor_and_nobody_is_logged_out(tmp_path):
    with running_server(tmp_path) as server:
        client = Client.register(server.issuer)
        tokens = client.sign_in()
        successors, statuses = refresh_at_once(client, tokens["refresh_token"])
        (successor,) = successors
        again = client.token(client.refresh_form(successor))

        assert statuses == [200] * 64
        assert may_call(client, again.json["access_token"])


def test_a_refresh_token_used_again_after_the_grace_ends_its_family(tmp_path):
    config = demo_with(tmp_path, "[lifetimes]\nrefresh_grace_s = 0")
    with running_server(tmp_path / "data", "--config", str(config)) as server:
        client = Client.register(server.issuer)
        first = client.sign_in()
        second = client.token(client.refresh_form(first["refresh_token"])).json
        assert may_call(client, second["access_token"])
        reused = client.token(client.refresh_form(first["refresh_token"]))
        successor = client.token(client.refresh_form(second["refresh_token"]))

        assert (reused.status, reused.json["error"]) == (400, "invalid_grant")
        assert (successor.status, successor.json["error"]) == (400, "invalid_grant")
        assert not may_call(client, first["access_token"])
        assert not may_call(client, second["access_token"])


@pytest.mark.parametrize("mode", ["sessionful", "stateless"])
def test_a_restart_between_login_and_call_needs_no_new_login(tmp_path, mode):
    with running_server(tmp_path, "--mode", mode) as server:
        port = server.port
        client = Client.register(server.issuer)
        tokens = client.sign_in()
    with running_server(tmp_path, "--mode", mode, "--port", str(port)) as server:
        refreshed = client.token(client.refresh_form(tokens["refresh_token"]))

        assert refreshed.status == 200
        session = initialize(client.browser, tokens["access_token"])
        assert (session is None) == (mode == "stateless")
    with running_server(tmp_path, "--mode", mode, "--port", str(port)):
        assert legacy_call(client.browser, refreshed.json["access_token"], session).status == 200
