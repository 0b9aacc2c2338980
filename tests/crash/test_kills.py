from tests.crash.kills import kill_under_load


def test_every_answered_call_stands_in_the_log_once_however_often_the_server_is_killed(tmp_path):
    history, logged = kill_under_load(tmp_path / "data", kills=4, callers=16, seed=1)

    assert len(history.answered) > 20
    assert history.refused == []
    assert [number for number in history.answered if logged[number] != 1] == []
