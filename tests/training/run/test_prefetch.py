from __future__ import annotations

import multiprocessing

from training.data.stream import StreamPlan
from training.run.prefetch import batches

PLAN = StreamPlan(seed=1, batch_tokens=300, row_lengths=(512,), micro_tokens=512)


def test_workers_make_the_batches_that_are_made_here_and_end_with_the_run(nano_dir):
    before = multiprocessing.active_children()
    here = list(batches(PLAN, nano_dir, 3, 8, workers=0))
    assert len(here) == 5
    made = batches(PLAN, nano_dir, 3, 1_000_000, workers=1)
    for batch in here:
        there = next(made)
        assert [rows.token_ids.tolist() for rows in batch] == [rows.token_ids.tolist() for rows in there]
    made.close()
    assert set(multiprocessing.active_children()) <= set(before)
