"""Groups whose ranks have whole experts and attend for whole sequences, over one copy of the KV."""

from __future__ import annotations

import random

import pytest

NOBODY = "127.0.0.1:9"
MORE_PREFILL = [NOBODY]
FLAGS = {
    "prefill": {"tp": 2, "expert_parallel": True},
    "decode": {"tp": 4, "expert_parallel": True, "dp_attention": True},
}
NUM_TOKENS = 24
pytestmark = pytest.mark.parametrize("transport", ["default"], indirect=True)


def test_sequences_together_have_the_tokens_that_each_has_alone_whoever_attends_for_them(
    workers, decode_client, reference
):
    draw = random.Random(47)
    prompts = [[draw.randrange(1280) for _ in range(length)] for length in (1, 17, 64, 65, 200, 450, 700)]
    submitted = [
        decode_client.submit(prompt, NUM_TOKENS, [workers.address("prefill")])[1] for prompt in prompts
    ]
    for prompt, outcome in zip(prompts, submitted, strict=True):
        assert outcome.done.wait(120)
        assert outcome.error is None
        assert outcome.tokens[0] == reference.greedy(prompt, NUM_TOKENS)


def test_a_prompt_whose_prefill_worker_cannot_be_reached_is_computed_by_the_group(
    workers, decode_client, reference
):
    draw = random.Random(48)
    prompt = [draw.randrange(1280) for _ in range(200)]
    for address in (NOBODY, workers.address("prefill")):
        outcome = decode_client.generate(prompt, NUM_TOKENS, [address])
        assert outcome.error is None
        assert outcome.tokens[0] == reference.greedy(prompt, NUM_TOKENS)
