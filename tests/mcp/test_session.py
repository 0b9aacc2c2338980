import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tenantry.machine import LocalProtocolError, step
from tenantry.mcp.session import TRANSITIONS, Event, State


@pytest.mark.parametrize("event", list(Event))
def test_an_ended_session_takes_no_event(event):
    with pytest.raises(LocalProtocolError, match=f"ended.*{event.value}"):
        step(TRANSITIONS, State.ENDED, event)


def test_every_state_is_in_the_table():
    assert set(TRANSITIONS) == set(State)


class SessionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = State.INITIALIZING
        self.initialized = False

    @precondition(lambda self: self.state is not State.ENDED)
    @rule()
    def initialized_notification(self) -> None:
        self.state = step(TRANSITIONS, self.state, Event.INITIALIZED)
        self.initialized = True

    @precondition(lambda self: self.state is not State.ENDED)
    @rule()
    def delete(self) -> None:
        self.state = step(TRANSITIONS, self.state, Event.DELETE)
        assert self.state is State.ENDED

    @precondition(lambda self: self.state is State.ENDED)
    @rule(event=st.sampled_from(Event))
    def nothing_more(self, event: Event) -> None:
        with pytest.raises(LocalProtocolError):
            step(TRANSITIONS, self.state, event)

    @invariant()
    def open_means_initialized(self) -> None:
        assert self.state is State.ENDED or (self.state is State.OPEN) == self.initialized


TestSessionMachine = SessionMachine.TestCase
