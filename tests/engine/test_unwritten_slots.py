"""What nobody has written in a page reaches no logit, whichever way the model computes."""

from __future__ import annotations

import random

import pytest
import torch

from services.engine.kv_cache.kv_format import BFLOAT16, FLOAT32, KvFormat
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from tests.engine.int8_rows import INT8_ROWS
from tests.engine.text_models import TINY, generate, pages_for, random_weights

# In fast mode chunks from 17 tokens on are expanded, for these widths.
LENGTHS = (1, 40, 70, 130)


def runner_over(model: TextModel, kv_format: KvFormat, filling: int) -> ModelRunner:
    """Over pages all of whose bytes are `filling`."""
    pages = allocate_kv_pages(4, TINY.num_hidden_layers, TINY.kv_width, kv_format)
    pages.view(torch.uint8).fill_(filling)
    return ModelRunner(model, pages, 1, kv_format=kv_format)


@pytest.mark.parametrize(
    ("dtype", "kv_format"),
    [
        (torch.float32, FLOAT32),
        (torch.bfloat16, BFLOAT16),
        (torch.float32, BFLOAT16),
        (torch.bfloat16, FLOAT32),
        (torch.float32, INT8_ROWS),
    ],
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_pool_of_nan_gives_the_bits_of_a_pool_of_zeros(dtype, kv_format, deterministic):
    weights = {name: tensor.to(dtype) for name, tensor in random_weights(TINY).items()}
    model = TextModel(TINY, weights, deterministic)
    draw = random.Random(1)
    for length in LENGTHS:
        prompt = [draw.randrange(TINY.vocab_size) for _ in range(length)]
        found = [
            generate(runner_over(model, kv_format, filling), prompt, pages_for(length + 3), 3)
            for filling in (0x00, 0xFF)  # these are NaN, in int8 rows their steps
        ]
        assert found[0][0] == found[1][0]
        assert (found[0][1] == found[1][1]).all(), length
