"""Who waits for others before a commit, and who does not."""

from itertools import count

from tenantry.server.company import EMPTY_ROUNDS, GATHER_S, HURRY_S, MISSING_S, SELDOM_S, Company


def test_who_calls_seldom_is_in_a_hurry_and_who_calls_without_a_break_is_not():
    company = Company()
    found = [company.is_urgent("a", now, first=False) for now in (0.0, 0.001, 0.001 + SELDOM_S)]
    assert found == [True, False, True]


def test_no_two_are_in_a_hurry_at_once():
    company = Company()
    found = [company.is_urgent(tenant, now, first=False) for tenant, now in (("a", 0.0), ("b", 0.0), ("c", HURRY_S))]
    assert found == [True, False, True]


def test_who_is_alone_waits_for_nobody_and_others_are_looked_for_ever_more_seldom():
    company = Company()
    clock = count(step=0.001)
    company.is_urgent("a", next(clock), first=False)
    waited = []
    for number in range(100):
        if not company.is_urgent("a", next(clock), first=True):
            waited.append(number)
            company.learn(1)
    assert waited == [0, 2, 5, 10, 19, 36, 69]
    while company.is_urgent("a", next(clock), first=True):
        pass
    company.learn(2)
    assert not company.is_urgent("a", next(clock), first=True)


def rounds_waited(company: Company, comes: list[int], *, round_s: float = 0.00001) -> int:
    """How many rounds are waited for others, where so many come in each; in vain behind the last."""
    wait, now, there = company.wait(0.0), 0.0, 1
    for number in count():
        if wait.is_over(there, now):
            return number
        there += comes[number] if number < len(comes) else 0
        now += round_s
    raise AssertionError


def test_where_as_many_came_as_of_late_two_rounds_in_vain_are_the_end():
    company = Company()
    company.learn(3)
    assert rounds_waited(company, [1, 1]) == 2 + EMPTY_ROUNDS
    assert rounds_waited(company, [0, 1, 1]) == 3 + EMPTY_ROUNDS, "one round in vain is none"


def test_who_is_missing_is_waited_for_a_moment_longer():
    company = Company()
    company.learn(3)
    assert rounds_waited(company, [1]) == 1 + round(MISSING_S / 0.00001)
    assert rounds_waited(company, [1, *[0] * 20, 1]) == 22 + EMPTY_ROUNDS
    assert rounds_waited(company, [1], round_s=0.01) == EMPTY_ROUNDS, "but no longer than anybody is"


def test_those_who_stay_away_are_forgotten():
    company = Company()
    company.learn(64)
    for _ in range(6):
        company.learn(2)
    assert rounds_waited(company, [1]) == 1 + EMPTY_ROUNDS


def test_nobody_waits_longer_than_that_however_many_come():
    assert rounds_waited(Company(), [1] * 100, round_s=GATHER_S / 10) == 10
