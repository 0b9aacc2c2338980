"""Who waits for others before a commit, and who does not."""

from itertools import count

from tenantry.server.company import HURRY_S, SELDOM_S, Company


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
            company.learn(came=False)
    assert waited == [0, 2, 5, 10, 19, 36, 69]
    while company.is_urgent("a", next(clock), first=True):
        pass
    company.learn(came=True)
    assert not company.is_urgent("a", next(clock), first=True)
