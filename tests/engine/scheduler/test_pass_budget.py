"""How many tokens of prompts a pass may have."""

from __future__ import annotations

from services.engine.scheduler.pass_budget import PassBudget
from tests.support.manual_clock import ManualClock


def test_passes_are_a_quarter_as_long_while_tenants_compete_and_ten_seconds_after():
    clock = ManualClock()
    budget = PassBudget(512, clock)
    assert budget.tokens() == 512
    budget.note(1)
    assert budget.tokens() == 512
    budget.note(2)
    assert budget.tokens() == 128
    clock.now += 6.0
    budget.note(1)
    assert budget.tokens() == 128
    clock.now += 5.0
    assert budget.tokens() == 512, "the other one has not come for 11 s"
    budget.note(2)
    assert budget.tokens() == 128


def test_one_tenant_alone_has_whole_passes_however_often_it_comes():
    budget = PassBudget(512, ManualClock())
    for _ in range(5):
        budget.note(0)
    assert budget.tokens() == 512


def test_a_pass_has_whole_pages_and_two_at_least_if_it_ever_has():
    for most, least in ((64, 64), (128, 128), (256, 128), (1088, 256)):
        budget = PassBudget(most, ManualClock())
        budget.note(1)
        budget.note(2)
        assert budget.tokens() == least
