from __future__ import annotations

import dataclasses
import multiprocessing

import torch

from training.data.picture import Picture
from training.data.stream import StreamPlan
from training.run.prefetch import batches, from_bytes, to_bytes

PLAN = StreamPlan(seed=1, batch_tokens=300, row_lengths=(512,), micro_tokens=512)


def test_workers_make_the_batches_that_are_made_here_and_end_with_the_run(nano_dir):
    before = multiprocessing.active_children()
    here = list(batches(PLAN, nano_dir, 3, 8, workers=0))
    assert len(here) == 5
    made = batches(PLAN, nano_dir, 3, 1_000_000, workers=2)
    for batch in here:
        there = next(made)
        assert [rows.token_ids.tolist() for rows in batch] == [rows.token_ids.tolist() for rows in there]
    made.close()
    assert set(multiprocessing.active_children()) <= set(before)


def test_a_batch_arrives_with_its_pictures_in_order(nano_dir):
    (rows, *_) = next(batches(PLAN, nano_dir, 3, 4, workers=0))
    pictures = tuple(
        Picture(torch.full((4, 3, 14, 14), level, dtype=torch.uint8), 2, 2) for level in range(12)
    )
    batch = [rows, dataclasses.replace(rows, pictures=pictures)]
    found = from_bytes(to_bytes(batch))
    assert len(found) == 2
    for there, here in zip(found, batch, strict=True):
        for name in ("token_ids", "positions", "documents", "targets", "is_picture"):
            assert getattr(there, name).dtype == getattr(here, name).dtype
            assert torch.equal(getattr(there, name), getattr(here, name))
    assert [int(picture.levels[0, 0, 0, 0]) for picture in found[1].pictures] == list(range(12))
    assert {(picture.rows, picture.columns) for picture in found[1].pictures} == {(2, 2)}
    assert found[0].pictures == ()
