import pytest

from tenantry.machine import LocalProtocolError, step
from tenantry.mcp import stream, task
from tests.machines import DIRECTORY, MACHINES, draw


@pytest.mark.parametrize("name", MACHINES)
def test_the_diagram_is_what_the_table_says(name):
    assert (DIRECTORY / f"{name}.md").read_text() == draw(*MACHINES[name])


@pytest.mark.parametrize("name", MACHINES)
def test_every_state_stands_in_its_table_and_can_be_reached(name):
    table = MACHINES[name][1]
    first = next(iter(table))
    reached, found = {first}, [first]
    while found:
        for target in table[found.pop()].values():
            if target not in reached:
                reached.add(target)
                found.append(target)

    assert set(table) == reached
    assert len(table) == len(type(first).__members__)


@pytest.mark.parametrize("status", [task.Status.COMPLETED, task.Status.FAILED, task.Status.CANCELLED])
@pytest.mark.parametrize("event", list(task.Event))
def test_a_task_that_has_ended_stays_as_it_ended(status, event):
    with pytest.raises(LocalProtocolError, match=f"{status.value} takes no {event.value}"):
        step(task.TRANSITIONS, status, event)


def test_nothing_follows_a_response():
    assert stream.TRANSITIONS[stream.State.FINISHED] == {}
    assert step(stream.TRANSITIONS, stream.State.RELEASED, stream.Event.RESPONSE) is stream.State.FINISHED
