"""How many tokens of prompts a pass may have."""

from __future__ import annotations

from services.common.fairness.competition import Competition
from services.engine.scheduler.pass_budget import PassBudget
from tests.support.manual_clock import ManualClock


def contested(most):
    competition = Competition(ManualClock())
    competition.note(1)
    competition.note(2)
    return PassBudget(most, competition)


def test_passes_are_a_quarter_as_long_while_tenants_compete():
    assert contested(512).tokens() == 128
    assert PassBudget(512, Competition(ManualClock())).tokens() == 512


def test_a_pass_has_whole_pages_and_two_at_least_if_it_ever_has():
    for most, least in ((64, 64), (128, 128), (256, 128), (1088, 256)):
        assert contested(most).tokens() == least
