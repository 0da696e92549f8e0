"""New tokens of sequences become flat rows."""

from __future__ import annotations

import pytest
import torch

from services.engine.batch import BatchBuilder
from tests.support.batches import batch_of


def test_sequences_lie_one_after_another_with_positions_and_slots_of_their_pages():
    builder = BatchBuilder()
    builder.add([7, 8, 9], start=62, pages=[5, 2], wants_logits=True)
    builder.add([4], start=0, pages=[3], wants_logits=False)
    batch = builder.build()
    assert batch.token_ids.tolist() == [7, 8, 9, 4]
    assert batch.positions.tolist() == [62, 63, 64, 0]
    assert batch.slot_mapping.tolist() == [5 * 64 + 62, 5 * 64 + 63, 2 * 64, 3 * 64]
    assert [(s.num_tokens, s.context_len) for s in batch.sequences] == [(3, 65), (1, 1)]


def test_logits_are_wanted_of_the_last_row_of_each_sequence_that_asks():
    batch = batch_of([([1, 2], 0, [0], True), ([3], 0, [1], False), ([4, 5], 0, [2], True)])
    assert batch.logits_rows.tolist() == [1, 4]


def test_scored_are_the_last_rows_of_each_sequence_in_slices_of_64():
    batch = batch_of(
        [([1] * 70, 0, [0, 1], False, (), 66), ([3], 0, [2], True), ([4, 5], 0, [3], False, (), 1)]
    )
    assert [rows.tolist() for rows in batch.scored_slices] == [list(range(4, 68)), [68, 69, 72]]
    assert [rows.tolist() for rows in batch.to(torch.device("cpu")).scored_slices][1] == [68, 69, 72]
    assert batch_of([([3], 0, [2], True)]).scored_slices == ()


def test_embeddings_are_addressed_by_their_row_in_the_batch():
    values = torch.ones(2, 8)
    embeds = batch_of([([1, 2], 0, [0], True), ([3, 4, 5], 0, [1], True, ((1, values),))]).embeds
    assert embeds is not None
    assert embeds.rows.tolist() == [3, 4]
    assert torch.equal(embeds.values, values)


def test_slots_beyond_32_bits_of_values_stay_exact():
    page = 2**40
    assert batch_of([([1], 0, [page], True)]).slot_mapping.tolist() == [page * 64]


@pytest.mark.parametrize(
    "new_tokens",
    [
        ([], 0, [0], True),
        ([1], 64, [0], True),
        ([1, 2], 0, [0], True, ((1, torch.ones(2, 8)),)),
    ],
)
def test_a_sequence_that_does_not_fit_its_pages_or_tokens_is_refused(new_tokens):
    with pytest.raises(ValueError, match=r"tokens"):
        BatchBuilder().add(*new_tokens)
