import pytest

from tests.histories import Event, History, differences

CALL = Event("call", "c1")
RECORD = {"kind": "tool_call", "jsonrpc_id": "c1", "outcome": "succeeded"}
OTHER = {"kind": "token_issued", "client": "x"}


def summary(count: int, tool: str = "far") -> dict[str, object]:
    return {"kind": "denials_summarised", "tool": tool, "count": count}


def denied(**more: int) -> History:
    return history(outcome="denied", tool="far", **more)


def history(*, asked: int = 1, answered: int = 1, **said: object) -> History:
    kept = History()
    for _ in range(asked):
        kept.ask(CALL)
    for _ in range(answered):
        kept.answer(CALL, **said)
    return kept


@pytest.mark.parametrize(
    ("kept", "entries"),
    [
        ([history(outcome="succeeded")], [RECORD]),
        ([history(answered=0)], []),
        ([history(answered=0)], [RECORD]),
        ([history(asked=2)], [RECORD]),
        ([history(asked=2), History()], [RECORD, RECORD]),
        ([], [{"kind": "login", "subject": "alice"}]),
        ([denied()], [summary(1)]),
        ([denied(), history(answered=0)], [summary(2)]),
    ],
)
def test_what_agrees_is_no_difference(kept, entries):
    assert differences(kept, entries) == []


@pytest.mark.parametrize(
    ("kept", "entries", "says"),
    [
        ([history()], [], "answered 1, recorded 0"),
        ([history()], [RECORD, RECORD], "asked 1, answered 1, recorded 2"),
        ([history(answered=0)], [RECORD, RECORD], "recorded 2"),
        ([], [RECORD], "asked 0"),
        ([history(outcome="tool_error")], [RECORD], "answered as outcome 'tool_error', recorded as 'succeeded'"),
        ([history()], [RECORD, OTHER], "token_issued x"),
        ([denied()], [], "denials of far: 1 answered without a record, summaries count 0"),
        ([denied()], [summary(2)], "summaries count 2"),
        ([denied()], [summary(1), summary(1, "near")], "denials of near"),
    ],
)
def test_what_differs_is_said(kept, entries, says):
    (found,) = differences(kept, entries)
    assert says in found
