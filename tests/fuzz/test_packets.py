"""The short form of `packets`, in every run of the tests."""

import pytest

from tests.fuzz import packets


@pytest.mark.trio
@pytest.mark.parametrize("lean", [True, False], ids=["lean", "stock"])
async def test_mutated_packets_end_neither_the_server_nor_leave_tasks_or_descriptors_behind(lean):
    answers = await packets.run(packets=320, seed=20_260_728, lean=lean)

    assert answers.total() == 320
    assert answers[b"failed"] == 0
    assert answers[b"200"]
    assert answers[b"400"]


@pytest.mark.trio
async def test_mutated_frames_end_neither_the_server_nor_leave_tasks_or_descriptors_behind():
    answers = await packets.run(packets=320, seed=20_260_728, http2=True)

    assert answers.total() == 320
    assert answers[b"failed"] == 0
