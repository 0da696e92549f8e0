"""Every state of a choice survives its move to another worker: `make resume` tries many more."""

from __future__ import annotations

import random

from tests.decode.resume import FORMATS, Trial, compare, differences, random_case


async def test_choices_moved_after_every_token_are_answered_as_if_left_in_peace():
    seen = await compare(choices=30, seed=1)
    assert seen["moves"] > 10 * seen["requests"]
    assert seen["closed in haste"] > 0, "the case that once was lost is not among them"


async def test_a_worker_that_gives_five_tokens_a_step_is_answered_with_the_same_text_and_usage():
    async with Trial() as trial:
        for number in range(18):
            kind = tuple(FORMATS)[number % len(FORMATS)]
            case = random_case(random.Random(f"burst-{number}"), trial.tokenizer, kind)
            single, bursts = [await trial.answer(case, worker=worker) for worker in (0, 2)]
            assert differences(single, bursts) == [], case
