"""When tenants compete."""

from __future__ import annotations

from services.common.fairness.competition import Competition
from tests.support.manual_clock import ManualClock


def test_tenants_compete_while_more_than_one_comes_and_ten_seconds_after():
    clock = ManualClock()
    competition = Competition(clock)
    assert not competition.goes_on
    competition.note(1)
    assert not competition.goes_on
    competition.note(2)
    assert competition.goes_on
    clock.now += 6.0
    competition.note(1)
    assert competition.goes_on
    clock.now += 5.0
    assert not competition.goes_on, "the other one has not come for 11 s"
    competition.note(2)
    assert competition.goes_on


def test_one_tenant_alone_does_not_compete_however_often_it_comes():
    for tenant in (0, 1):
        competition = Competition(ManualClock())
        for _ in range(5):
            competition.note(tenant)
        assert not competition.goes_on


def test_of_three_tenants_the_two_that_came_last_count():
    clock = ManualClock()
    competition = Competition(clock)
    for tenant in (1, 2, 3):
        competition.note(tenant)
        clock.now += 4.0
    competition.note(3)
    assert competition.goes_on
    clock.now += 5.0
    assert not competition.goes_on
