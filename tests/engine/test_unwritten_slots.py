"""What nobody has written in a page reaches no logit, whichever way the model computes."""

from __future__ import annotations

import random

import pytest
import torch

from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from tests.engine.text_models import TINY, generate, pages_for, random_weights

# In fast mode chunks from 17 tokens on are expanded, for these widths.
LENGTHS = (1, 40, 70, 130)


def runner_over(model: TextModel, filling: float) -> ModelRunner:
    shape = (4, TINY.num_hidden_layers, 64, TINY.kv_width)
    return ModelRunner(model, torch.full(shape, filling, dtype=model.dtype), 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_pool_of_nan_gives_the_bits_of_a_pool_of_zeros(dtype, deterministic):
    weights = {name: tensor.to(dtype) for name, tensor in random_weights(TINY).items()}
    model = TextModel(TINY, weights, deterministic)
    draw = random.Random(1)
    for length in LENGTHS:
        prompt = [draw.randrange(TINY.vocab_size) for _ in range(length)]
        found = [
            generate(runner_over(model, filling), prompt, pages_for(length + 3), 3)
            for filling in (0.0, float("nan"))
        ]
        assert found[0][0] == found[1][0]
        assert (found[0][1] == found[1][1]).all(), length
