from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from services.families.kimi.tokenizer import KimiTokenizer
from training.data.batch import NO_TARGET, make_rows
from training.data.example import Example
from training.data.packing import pack
from training.data.stream import Stream, StreamPlan

PLAN = StreamPlan(seed=1, batch_tokens=1500, row_lengths=(256, 512), micro_tokens=512)


def example(size, start=1):
    return Example("x", tuple(range(100, 100 + size)), ((start, size),))


def test_only_the_answers_tokens_are_targets_each_one_step_ahead():
    rows = make_rows([[example(4, 2), example(3, 1)]], 8, media_pad=0)
    assert rows.targets.tolist() == [[-100, 102, 103, -100, 101, 102, -100, -100]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    assert rows.documents.tolist() == [[1, 1, 1, 1, 2, 2, 2, 0]]
    assert rows.num_targets == 4


def test_earlier_answers_are_targets_as_well():
    rows = make_rows([[replace(example(6), answers=((1, 3), (5, 6)))]], 8, media_pad=0)
    assert rows.targets.tolist() == [[101, 102, -100, -100, 105, -100, -100, -100]]


def test_an_example_goes_into_the_smallest_row_and_fills_up_what_is_open():
    packed = pack([example(5), example(3), example(9), example(5)], (8, 16))
    assert [[len(one.token_ids) for one in row] for row in packed[8]] == [[5, 3], [5]]
    assert [[len(one.token_ids) for one in row] for row in packed[16]] == [[9]]


def test_an_example_that_fits_nowhere_is_named():
    with pytest.raises(ValueError, match="an example of x has 17 tokens; rows have 16"):
        pack([example(17)], (8, 16))


@pytest.fixture(scope="module")
def stream(nano_dir):
    return Stream(PLAN, KimiTokenizer.from_dir(nano_dir))


def test_a_batch_depends_on_its_number_alone(stream, nano_dir):
    again = Stream(PLAN, KimiTokenizer.from_dir(nano_dir))
    first, second = again.batch(8), stream.batch(8)
    assert all(torch.equal(a.token_ids, b.token_ids) for a, b in zip(first, second, strict=True))
    assert not torch.equal(stream.batch(9)[0].token_ids, first[0].token_ids)


def test_a_batch_has_its_tokens_in_parts_of_bounded_size(stream):
    parts = stream.batch(3)
    assert all(rows.token_ids.numel() <= PLAN.micro_tokens for rows in parts)
    tokens = sum(int((rows.documents > 0).sum()) for rows in parts)
    assert PLAN.batch_tokens <= tokens < PLAN.batch_tokens + 512
    assert any((rows.targets == NO_TARGET).any() for rows in parts)
