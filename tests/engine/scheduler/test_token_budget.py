"""Who computes how much in the next pass."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.scheduler.token_budget import share_budget


@dataclass
class Prompt:
    left: int
    granule: int = 1

    def next_chunk(self, budget: int) -> int:
        return self.left if self.left <= budget else budget // self.granule * self.granule


def test_earlier_prompts_take_what_they_can_use_and_later_ones_the_rest():
    first, second, third = Prompt(100), Prompt(300), Prompt(50)
    shares = share_budget([first, second, third], 256)
    assert [
        (share[0] is prompt, share[1]) for share, prompt in zip(shares, (first, second), strict=True)
    ] == [
        (True, 100),
        (True, 156),
    ]


def test_a_prompt_that_cannot_use_the_rest_lets_a_later_one_use_it():
    whole_pages_only, small = Prompt(200, granule=64), Prompt(30)
    assert [n for _, n in share_budget([Prompt(50), whole_pages_only, small], 100)] == [50, 30]


def test_nothing_is_shared_when_nothing_is_left():
    assert share_budget([Prompt(0)], 64) == []
    assert share_budget([], 64) == []
