import json

from tenantry.audit import denials, record
from tenantry.audit.denials import KINDS_MAX, WINDOW_S, Counted, Denial, DenialWindows, counted


def test_the_first_of_a_kind_in_each_window_are_records():
    windows = DenialWindows(most=3)
    assert [windows.admits("a", 5.0) for _ in range(5)] == [True, True, True, False, False]
    assert windows.admits("b", 5.0)
    assert not windows.admits("a", 5.0 + WINDOW_S - 0.1)
    assert [windows.admits("a", 5.0 + WINDOW_S) for _ in range(4)] == [True, True, True, False]


def test_kinds_without_end_are_counted_and_take_no_memory():
    windows = DenialWindows(most=1)
    assert all(windows.admits(str(number), 0.0) for number in range(KINDS_MAX))
    assert not windows.admits("one more", 0.0)
    assert len(windows._windows) == KINDS_MAX
    assert windows.admits("one more", WINDOW_S)
    assert len(windows._windows) == 1


def test_denials_are_counted_by_their_kind_with_the_first_and_the_last():
    found = counted([Denial("a", 5), Denial("b", 7), Denial("a", 3), Denial("a", 9)])
    assert found == [Counted("a", 3, 3, 9), Counted("b", 1, 7, 7)]


def test_a_summary_is_a_record_that_says_what_was_counted():
    about = denials.about(tenant="t", subject="s", tool="x", prompt=None, reason="foreign")
    assert json.loads(about) == {"tenant": "t", "subject": "s", "tool": "x", "reason": "foreign"}
    assert record.decode(Counted(about, 3, 5, 9).summary()) == {
        "kind": "denials_summarised",
        "time": 9,
        "count": 3,
        "first": 5,
        "last": 9,
        "tenant": "t",
        "subject": "s",
        "tool": "x",
        "reason": "foreign",
    }
