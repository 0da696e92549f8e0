"""Which tokens a rank attends for, where each attends for some sequences."""

from __future__ import annotations

import random

import pytest

from services.engine.batch import SequenceSlice
from services.engine.model.attention.attention_share import deal, part_of
from tests.support.batches import batch_of


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_sequence_is_dealt_once_and_nobody_has_more_than_the_dearest_above_another(ranks):
    dice = random.Random(ranks)
    sequences = [
        SequenceSlice(count, count + dice.randrange(2000), range(100))
        for count in (dice.choice([1, 1, 1, 64, 256]) for _ in range(20))
    ]
    dealt = deal(sequences, ranks)
    assert sorted(index for mine in dealt for index in mine) == list(range(20))
    costs = [sequence.num_tokens * sequence.context_len for sequence in sequences]
    loads = [sum(costs[index] for index in mine) for mine in dealt]
    assert max(loads) - min(loads) <= max(costs)


def test_a_part_of_a_batch_is_the_batch_of_those_sequences():
    items = [
        ([3, 4, 5], 62, [7, 8], True),
        ([6], 0, [9], True),
        ([1, 2], 10, [4], True),
    ]
    rows, part = part_of(batch_of(items), [0, 2])
    whole = batch_of([items[0], items[2]])
    assert rows.tolist() == [0, 1, 2, 4, 5]
    for name in ("token_ids", "positions", "slot_mapping"):
        assert getattr(part, name).tolist() == getattr(whole, name).tolist()
    assert part.sequences == whole.sequences
    assert len(part.logits_rows) == 0


def test_a_rank_without_sequences_has_no_rows():
    rows, part = part_of(batch_of([([6], 0, [9], True)]), [])
    assert (len(rows), part.sequences) == (0, ())
