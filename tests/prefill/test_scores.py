"""A prefill worker scores the tokens that its reader asks for, as it computes the prompt."""

from __future__ import annotations

import pytest

from services.engine.sampling.scores import Scoring
from services.prefill.events import Done, Scored
from tests.support.decode_bench import prompt_of
from tests.support.fake_scores import expected_rows, rows_of
from tests.support.prefill_bench import PrefillBench


def scores(reader):
    return [event.scores for event in reader.all(Scored)]


@pytest.mark.parametrize("length", [1, 64, 128, 129, 300])
@pytest.mark.parametrize("top", [0, 1, 5])
def test_every_chunk_gives_its_scores_before_the_end(length, top):
    bench, scoring = PrefillBench(16), Scoring(1, top)
    prompt = [*prompt_of(length), 9]
    reader = bench.submit(prompt[:-1], scoring=scoring, next_token=9)
    bench.run()
    assert rows_of(scores(reader)) == expected_rows(prompt, scoring)
    assert reader.kinds()[-1] == "Done"
    assert reader.context() == prompt[:-1]


@pytest.mark.parametrize("first", [1, 65, 128, 129, 200, 300])
def test_cached_pages_are_used_as_far_as_they_leave_out_no_score(first):
    bench, scoring = PrefillBench(16), Scoring(first, 1)
    prompt = [*prompt_of(300), 9]
    bench.engine.release(bench_done(bench, prompt))
    reader = bench.submit(prompt[:-1], scoring=scoring, next_token=9)
    bench.run()
    assert rows_of(scores(reader)) == expected_rows(prompt, scoring)
    [done] = reader.all(Done)
    assert done.computed_tokens == 300 - (first - 1) // 64 * 64
    assert reader.context() == prompt[:-1]


def bench_done(bench, prompt):
    """A job that has left its pages in the cache."""
    reader = bench.submit(prompt[:-1])
    bench.run()
    return reader.job


def test_pages_of_a_source_are_read_only_before_the_first_score():
    bench, scoring = PrefillBench(16), Scoring(150, 0)
    prompt = [*prompt_of(300), 9]
    reader = bench.submit(prompt[:-1], cached_pages=2, source="decode:1", scoring=scoring, next_token=9)
    bench.run()
    bench.end_read(arrived=2)
    bench.run()
    assert rows_of(scores(reader)) == expected_rows(prompt, scoring)


def test_jobs_of_one_pass_are_scored_beside_others_that_are_not():
    bench = PrefillBench(16)
    prompts = [[*prompt_of(40, seed), 9] for seed in range(3)]
    scorings = [Scoring(1, 3), None, Scoring(30, 0)]
    readers = [
        bench.submit(prompt[:-1], scoring=scoring, next_token=9)
        for prompt, scoring in zip(prompts, scorings, strict=True)
    ]
    bench.run()
    for reader, prompt, scoring in zip(readers, prompts, scorings, strict=True):
        assert rows_of(scores(reader)) == ([] if scoring is None else expected_rows(prompt, scoring))


def test_no_message_is_larger_than_its_bound():
    bench = PrefillBench(64, chunk_tokens=4096)
    reader = bench.submit(prompt_of(3000), scoring=Scoring(1, 20), next_token=9)
    bench.run()
    sizes = [event.scores.to_proto().ByteSize() for event in reader.all(Scored)]
    assert len(sizes) > 1
    assert max(sizes) <= 128 << 10
