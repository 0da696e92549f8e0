"""Latent attention for decode."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch

from kernels import mla_decode
from kernels.mla_decode import MLADecode, even_splits
from kernels.reference import mla_decode as reference

LATENT, ROPE = 512, 64
WIDTH = LATENT + ROPE
SCALE = 0.1446796258


def make_inputs(lengths, heads, dtype=torch.float32, seed=0):
    """Query, pages with NaN wherever nothing was written, table (pages in no order), lengths."""
    generator = torch.Generator().manual_seed(seed)
    columns = max(-(-length // 64) for length in lengths)
    order = torch.randperm(len(lengths) * columns, generator=generator)
    table = order.view(len(lengths), columns).to(torch.int32)
    pages = torch.full((len(order), 64, WIDTH), float("nan"), dtype=dtype)
    for row, length in zip(table.tolist(), lengths, strict=True):
        for place in range(length):
            pages[row[place // 64], place % 64] = torch.randn(WIDTH, generator=generator).to(dtype)
    # Scores of a model's spread: a softmax of one key would hide every difference.
    query = (torch.randn(len(lengths), heads, WIDTH, generator=generator) * 0.4).to(dtype)
    return query, pages, table, torch.tensor(lengths, dtype=torch.int32)


def attend(inputs, max_splits, deterministic, split_tokens=64):
    return MLADecode(LATENT, ROPE, SCALE, max_splits, deterministic, split_tokens)(*inputs)


def attend_far(query, page, layers, keys):
    """One token's context lies in `page` of the last layer; hardly a page of the pool is touched."""
    pool = torch.empty(page + 1, layers, 64, WIDTH, dtype=torch.bfloat16)
    pool[page, -1] = keys
    table, lengths = torch.tensor([[page]], dtype=torch.int32), torch.tensor([64], dtype=torch.int32)
    return attend((query, pool[:, -1], table, lengths), 1, True), pool.numel()


def expected(inputs):
    query, pages, table, lengths = inputs
    return reference.mla_decode(query.double(), pages, table, lengths, SCALE, LATENT)


def check_near(out, inputs):
    torch.testing.assert_close(out.double(), expected(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("heads", "deterministic"), [(8, False), (16, True)])
def test_sequences_of_several_lengths_match_the_reference(interpreter, heads, deterministic):
    inputs = make_inputs([150, 1, 64], heads)
    check_near(interpreter(attend, inputs, 3, deterministic), inputs)


def test_64_heads_in_one_tile_match_the_reference(interpreter):
    inputs = make_inputs([130], 64)
    check_near(interpreter(attend, inputs, 3, True), inputs)


def test_more_splits_than_pages_change_nothing(interpreter):
    inputs = make_inputs([65, 3], 8)
    check_near(interpreter(attend, inputs, 5, False), inputs)


def test_heads_that_do_not_fill_a_tile_match_the_reference(interpreter):
    inputs = make_inputs([70], 20)
    check_near(interpreter(attend, inputs, 2, True), inputs)


def test_bfloat16_pages_match_the_reference(interpreter):
    inputs = make_inputs([100], 16, torch.bfloat16)
    out = interpreter(attend, inputs, 2, True)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected(inputs), rtol=2**-6, atol=2e-3)


def test_a_sequence_without_context_gives_zeros(interpreter):
    query, pages, table, lengths = make_inputs([64, 64], 8)
    lengths[1] = 0
    for deterministic in (False, True):
        out = interpreter(attend, (query, pages, table, lengths), 2, deterministic)
        assert torch.equal(out[1], torch.zeros(8, LATENT))
        check_near(out, (query, pages, table, lengths))


def test_in_deterministic_mode_a_sequences_bits_do_not_depend_on_the_batch(interpreter):
    query, pages, table, lengths = make_inputs([300, 70], 8)
    together = interpreter(attend, (query, pages, table, lengths), 2, True, 192)
    # Equal shares of 2 and of 5 splits would be cut at other places.
    alone = interpreter(attend, (query[:1], pages, table[:1], lengths[:1]), 5, True, 192)
    assert torch.equal(together[:1], alone)


def attend_few_at_a_time(inputs, max_splits, deterministic):
    few = 2 * max_splits * inputs[0].shape[1] * LATENT
    with patch.object(mla_decode, "MOST_PARTIAL", few):
        return attend(inputs, max_splits, deterministic)


def test_a_batch_whose_splits_would_take_much_memory_is_computed_in_pieces(interpreter):
    inputs = make_inputs([70, 1, 130, 64, 5], 8)
    check_near(interpreter(attend_few_at_a_time, inputs, 3, True), inputs)


def test_few_contexts_are_cut_into_as_many_parts_as_keep_the_processors_busy():
    parts = {batch: even_splits(batch, 64, 64, 132) for batch in (1, 16, 32, 64, 100, 128, 256)}
    assert parts == {1: 64, 16: 8, 32: 4, 64: 2, 100: 5, 128: 1, 256: 1}
    assert even_splits(1, 64, 3, 132) == 3


def test_offsets_beyond_page_1000_of_61_layers_are_64_bit(interpreter):
    query, pages, table, lengths = make_inputs([64], 8, torch.bfloat16)
    out, elements = interpreter(attend_far, query, 1001, 61, pages[0])
    assert elements > 2**31
    wanted = expected((query, pages, torch.zeros_like(table), lengths))
    torch.testing.assert_close(out.double(), wanted, rtol=2**-6, atol=2e-3)


def test_a_table_that_splits_cannot_reach_is_an_error():
    inputs = make_inputs([130], 8)
    with pytest.raises(ValueError, match="3 pages of a sequence exceed the 2 that splits can cover"):
        attend(inputs, 2, True)
