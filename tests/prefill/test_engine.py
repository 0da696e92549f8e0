"""Prompts to pages: what is computed, announced and leased."""

from __future__ import annotations

import pytest
import torch

from services.prefill.events import Admitted, Done, NeedsMedia, Ready
from tests.support.decode_bench import medium, prompt_of
from tests.support.fake_runner import HIDDEN, NUM_LAYERS
from tests.support.prefill_bench import PrefillBench


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 200, 300])
def test_every_page_of_every_layer_is_announced_once_it_is_written(length):
    bench = PrefillBench(8)
    reader = bench.submit(prompt_of(length))
    bench.run()
    assert reader.context() == prompt_of(length)
    assert reader.kinds()[0] == "Admitted"
    assert reader.kinds()[-1] == "Done"
    assert reader.all(Done)[0].computed_tokens == length
    assert all(ready.crc32 for ready in reader.all(Ready))
    bench.engine.release(reader.job)
    assert reader.kinds()[-1] == "Done"
    bench.check_free()


def test_a_page_is_announced_when_whole_and_the_last_one_at_the_end():
    bench = PrefillBench(8, chunk_tokens=64)
    reader = bench.submit(prompt_of(150))
    bench.engine.step()
    assert [ready.first_page for ready in reader.all(Ready)] == [0] * NUM_LAYERS
    bench.engine.step()
    bench.engine.step()
    assert [ready.first_page for ready in reader.all(Ready)] == [0, 0, 1, 1, 2, 2]


def test_prompts_share_the_chunk_first_come_first_served_in_whole_pages():
    bench = PrefillBench(16, chunk_tokens=128)
    readers = [bench.submit(prompt_of(100, seed)) for seed in (1, 2, 3)]
    bench.engine.step()
    assert [reader.job.computed for reader in readers] == [100, 0, 0]
    bench.run()
    assert [reader.context() for reader in readers] == [prompt_of(100, seed) for seed in (1, 2, 3)]


def test_a_higher_priority_is_computed_first():
    bench = PrefillBench(16, chunk_tokens=128)
    readers = [bench.submit(prompt_of(100, seed), priority=seed) for seed in (1, 3, 2)]
    bench.engine.step()
    assert [reader.job.computed for reader in readers] == [0, 100, 0]


def test_a_higher_priority_gets_pages_before_those_who_came_earlier():
    bench = PrefillBench(2)
    first = bench.submit(prompt_of(100, 1))
    bench.run()
    waiting = [bench.submit(prompt_of(100, 2 + rank), priority=rank) for rank in (0, 2, 1)]
    bench.run()
    bench.engine.release(first.job)
    bench.run()
    assert [bool(reader.all(Done)) for reader in waiting] == [False, True, False]


def test_cached_pages_are_announced_at_once_and_not_computed_again():
    bench = PrefillBench(8)
    first = bench.submit(prompt_of(200))
    bench.run()
    bench.engine.release(first.job)
    second = bench.submit(prompt_of(200))
    bench.run()
    assert second.all(Admitted)[0].cached_tokens == 192
    assert second.all(Ready)[0].page_count == 3
    assert second.all(Ready)[0].end_layer == NUM_LAYERS
    assert second.context() == prompt_of(200)
    assert second.all(Done)[0].computed_tokens == 8


def test_a_prompt_that_is_cached_as_a_whole_needs_no_pass():
    bench = PrefillBench(8)
    bench.submit(prompt_of(128))
    bench.run()
    passes = len(bench.runner.batches)
    second = bench.submit(prompt_of(128))
    bench.run()
    assert second.kinds() == ["Admitted", "Ready", "Done"]
    assert len(bench.runner.batches) == passes


@pytest.mark.parametrize("cached_pages", [1, 3, 4, 9])
def test_what_the_reader_has_is_neither_leased_nor_announced(cached_pages):
    bench = PrefillBench(8)
    reader = bench.submit(prompt_of(200), cached_pages=cached_pages)
    bench.run()
    assert len(reader.all(Admitted)[0].pages) == max(0, 4 - cached_pages)
    assert sorted(reader.ready) == list(range(cached_pages, 4))
    assert bench.engine.load.pages.leased == max(0, 4 - cached_pages)
    bench.engine.release(reader.job)
    bench.check_free()


def test_checksums_come_with_the_share_of_announcements_asked_for():
    for fraction, expected in ((0.0, 0), (0.25, 1), (1.0, 4)):
        bench = PrefillBench(8, chunk_tokens=64, checksums=fraction)
        reader = bench.submit(prompt_of(128))
        bench.run()
        assert sum(bool(ready.crc32) for ready in reader.all(Ready)) == expected


def test_a_prompt_waits_for_pages_and_those_behind_it_wait_too():
    bench = PrefillBench(4)
    first, large, small = (bench.submit(prompt_of(n, n)) for n in (150, 130, 10))
    bench.run()
    assert (large.events, small.events) == ([], [])
    assert (bench.engine.load.running, bench.engine.load.waiting) == (0, 2)
    bench.engine.renew(large.job)
    assert large.kinds() == ["Renewed"], "a sign of life while it waits"
    bench.engine.release(first.job)
    bench.run()
    assert large.context() == prompt_of(130, 130)
    assert small.context() == prompt_of(10, 10)


def test_serving_is_pinned_from_the_first_lease_to_the_last_settled_page():
    bench = PrefillBench(4)
    first, second = bench.submit(prompt_of(10)), bench.submit(prompt_of(20))
    bench.run()
    assert bench.serving == [True]
    bench.engine.release(first.job)
    bench.engine.abandon(second.job)
    bench.engine.step()
    assert bench.serving == [True]
    bench.engine.settled("decode-a", [second.job.lease_key])
    bench.engine.step()
    assert bench.serving == [True, False]


@pytest.mark.parametrize(("offset", "num_tokens"), [(0, 10), (60, 70), (149, 1)])
def test_embeddings_take_the_place_of_pads(offset, num_tokens):
    bench = PrefillBench(4, chunk_tokens=64)
    reader = bench.submit(prompt_of(150), media=[medium(offset, num_tokens)])
    bench.run()
    assert reader.kinds() == ["Admitted", "NeedsMedia"]
    assert bench.runner.batches == []
    bench.engine.media_arrived(reader.job, {0: torch.full((num_tokens, HIDDEN), 3.0)})
    bench.run()
    expected = [
        token + 3 if offset <= place < offset + num_tokens else token
        for place, token in enumerate(prompt_of(150))
    ]
    assert reader.context() == expected


def test_only_media_beyond_the_cached_pages_are_asked_for():
    bench = PrefillBench(8)
    media = [medium(3, 5), medium(100, 60, name=2)]
    first = bench.submit(prompt_of(200), media=media)
    bench.run()
    assert first.all(NeedsMedia)[0].indices == (0, 1)
    rows = {index: torch.full((span.num_tokens, HIDDEN), 3.0) for index, span in enumerate(media)}
    bench.engine.media_arrived(first.job, rows)
    bench.run()
    second = bench.submit([*prompt_of(128), 1, 2, 3, *prompt_of(60, 3)], media=media)
    bench.run()
    assert second.all(Admitted)[0].cached_tokens == 128
    assert second.all(NeedsMedia)[0].indices == (1,)


def test_a_medium_that_begins_with_the_token_after_the_last_is_not_asked_for():
    bench = PrefillBench(4)
    reader = bench.submit(prompt_of(10), media=[medium(10, 1)])
    bench.run()
    assert reader.context() == prompt_of(10)


def test_flushing_drops_cached_pages_nobody_holds():
    bench = PrefillBench(8)
    reader = bench.submit(prompt_of(130))
    bench.run()
    assert bench.engine.flush() == 0
    bench.engine.release(reader.job)
    assert bench.engine.flush() == 2
    bench.check_free()


def test_a_broken_pool_is_counted_when_idle():
    bench = PrefillBench(4)
    bench.submit([1])
    bench.run()
    bench.engine._pages.pool._tally[0] += 1
    bench.submit([2])
    bench.run()
    bench.run()
    assert bench.engine.load.integrity_failures == 1
