"""Pages that the reader has are read from their source; what does not arrive is computed."""

from __future__ import annotations

import pytest

from services.prefill.events import Admitted, Done, NeedsMedia
from tests.support.decode_bench import medium, prompt_of
from tests.support.fake_runner import NUM_LAYERS
from tests.support.prefill_bench import PrefillBench, Reader

SOURCE = "decode:1"


def reading(bench: PrefillBench, length: int = 300, cached_pages: int = 3, **options) -> Reader:
    """A job whose first pages are being read."""
    reader = bench.submit(prompt_of(length), cached_pages=cached_pages, source=SOURCE, **options)
    bench.run()
    assert reader.job.state.value == "reading"
    return reader


def assert_whole(bench: PrefillBench, reader: Reader) -> None:
    """The reader heard of every page it lacked, and another one finds the whole prompt right."""
    assert reader.ready == {index: set(range(NUM_LAYERS)) for index in (3, 4)}
    other = bench.submit(prompt_of(300), reader="decode-b")
    bench.run()
    assert other.all(Admitted)[0].cached_tokens == 256
    assert other.context() == prompt_of(300)
    bench.engine.release(other.job)


def test_what_the_reader_has_and_this_worker_lacks_is_asked_for_and_nothing_is_computed_meanwhile():
    bench = PrefillBench(8)
    reader = reading(bench)
    job, order = bench.source.orders[0]
    assert job is reader.job
    assert (order.address, order.request_id) == (SOURCE, job.request_id)
    assert order.hashes == tuple(job.hashes[:3])
    assert set(order.pages) == set(job.pages[:3])
    assert not set(order.pages) & set(reader.all(Admitted)[0].pages), "none of them is leased to the reader"
    assert bench.runner.batches == []


def test_only_the_rest_is_computed_once_they_are_here():
    bench = PrefillBench(8)
    reader = reading(bench)
    bench.end_read(3)
    bench.run()
    assert sum(len(batch.token_ids) for batch in bench.runner.batches) == 300 - 192
    done = reader.all(Done)[0]
    assert (done.computed_tokens, done.source_tokens) == (108, 192)
    assert_whole(bench, reader)
    assert bench.engine.load.transfer_bytes == 300
    bench.engine.release(reader.job)
    bench.check_free()


def test_only_pages_beyond_those_cached_here_are_asked_for():
    bench = PrefillBench(8)
    first = bench.submit(prompt_of(70))
    bench.run()
    bench.engine.release(first.job)
    reader = reading(bench)
    assert len(bench.source.orders[0][1].pages) == 2
    bench.end_read(2)
    bench.run()
    done = reader.all(Done)[0]
    assert (done.computed_tokens, done.source_tokens) == (300 - 192, 128)


@pytest.mark.parametrize(
    ("cached_pages", "source"), [(0, SOURCE), (3, ""), (1, SOURCE)], ids=["nothing", "nowhere", "had it all"]
)
def test_without_pages_or_a_place_to_read_them_nothing_is_asked_for(cached_pages, source):
    bench = PrefillBench(8)
    first = bench.submit(prompt_of(70))
    bench.run()
    bench.engine.release(first.job)
    reader = bench.submit(prompt_of(300), cached_pages=cached_pages, source=source)
    bench.run()
    assert bench.source.orders == []
    assert reader.all(Done)[0].computed_tokens == 300 - 64


@pytest.mark.parametrize("arrived", [0, 1, 2])
def test_what_the_source_did_not_have_is_computed(arrived):
    bench = PrefillBench(8)
    reader = reading(bench)
    bench.end_read(arrived)
    bench.run()
    done = reader.all(Done)[0]
    assert (done.computed_tokens, done.source_tokens) == (300 - 64 * arrived, 64 * arrived)
    assert_whole(bench, reader)
    bench.engine.release(reader.job)
    bench.check_free()


def test_pages_at_risk_are_neither_computed_into_nor_used_until_they_have_settled():
    bench = PrefillBench(8)
    reader = reading(bench)
    at_risk = bench.end_read(1, at_risk=2)
    assert not set(at_risk) & set(reader.job.pages)
    bench.engine.step()
    bench.kv_pages[list(at_risk)] = -1.0  # the late bytes of the read
    bench.run()
    assert reader.all(Done)[0].computed_tokens == 300 - 64
    assert_whole(bench, reader)
    bench.engine.release(reader.job)
    bench.engine.step()
    assert bench.engine.load.pages.quarantined == 2
    bench.engine.pages_settled(at_risk)
    bench.check_free()


def test_where_no_page_is_left_in_place_of_one_at_risk_the_job_is_refused_as_overloaded():
    bench = PrefillBench(5)
    reader = reading(bench)
    at_risk = bench.end_read(0, at_risk=1)
    assert reader.refusal() == "OVERLOADED"
    bench.engine.abandon(reader.job)
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.engine.step()
    counts = bench.engine.load.pages
    assert (counts.used, counts.leased, counts.quarantined) == (0, 0, 1)
    bench.engine.pages_settled(at_risk)
    bench.check_free()


def test_embeddings_are_asked_for_after_the_read_and_only_those_of_the_rest():
    bench = PrefillBench(8)
    media = [medium(10, 5, 1), medium(250, 5, 2)]
    reader = reading(bench, media=media)
    assert reader.all(NeedsMedia) == []
    bench.end_read(3)
    assert reader.all(NeedsMedia) == [NeedsMedia((1,))]


def test_renewals_are_answered_while_pages_are_read():
    bench = PrefillBench(8)
    reader = reading(bench)
    bench.engine.leases.request_renewal(reader.job)
    bench.run()
    assert reader.kinds()[-1] == "Renewed"


def end(bench: PrefillBench, reader: Reader, ending: str) -> None:
    """Ends a job in one of the ways there are, and its lease."""
    if ending == "release":
        bench.engine.release(reader.job)
    elif ending == "abandon":
        bench.engine.abandon(reader.job)
        bench.engine.settled("decode-a", [reader.job.lease_key])
    elif ending == "settled":
        bench.engine.settled("decode-a", [reader.job.lease_key])
    else:
        bench.engine.reader_gone("decode-a")
    bench.engine.abandon(reader.job)  # the stream's end follows


ENDINGS = ["release", "abandon", "settled", "gone"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_job_that_ends_during_the_read_keeps_its_pages_until_the_read_has_ended(ending):
    bench = PrefillBench(8)
    reader = reading(bench)
    end(bench, reader, ending)
    assert bench.source.stopped == [reader.job]
    bench.run()
    assert bench.engine.load.pages.used == 5, "a read may still be posted into them"
    assert bench.engine.load.running == 0
    at_risk = bench.end_read(1, at_risk=2)
    bench.run()
    counts = bench.engine.load.pages
    assert (counts.used, counts.quarantined) == (0, 2)
    bench.engine.pages_settled(at_risk)
    bench.check_free()
    assert bench.runner.batches == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_read_that_ends_well_after_its_job_frees_the_pages_too(ending):
    bench = PrefillBench(8)
    reader = reading(bench)
    end(bench, reader, ending)
    bench.end_read(3)
    bench.check_free()


def test_a_lease_that_runs_out_during_the_read_ends_the_job():
    bench = PrefillBench(8, lease_s=0.0)
    reader = reading(bench)
    bench.engine.renew(reader.job)
    assert reader.refusal() == "LEASE_EXPIRED"
    assert bench.source.stopped == [reader.job]
    bench.end_read(0)
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()


def test_two_prompts_may_read_the_same_pages():
    bench = PrefillBench(16)
    first, second = reading(bench), reading(bench)
    bench.end_read(3, number=0)
    bench.end_read(3, number=1)
    bench.run()
    for reader in (first, second):
        assert reader.all(Done)[0].source_tokens == 192
        bench.engine.release(reader.job)
    bench.check_free()
