"""What of a prompt is computed by nobody, and where prefill may read what only decode has."""

from __future__ import annotations

import pytest

from tests.support.decode_bench import Bench, Heard, prompt_of

OWN = "decode:1"


def second_turn(bench: Bench, **options) -> Heard:
    """A prompt whose first two pages are cached here and whose rest is long; its order is placed."""
    bench.submit([*prompt_of(128), 1], 0, prefill=["prefill:1"], **options)
    bench.run()
    bench.fill()
    bench.run()
    heard = bench.submit(prompt_of(300), 1, prefill=["prefill:1"], **options)
    bench.run()
    return heard


def test_prefill_is_told_where_the_cached_pages_can_be_read():
    bench = Bench(8)
    second_turn(bench, own_address=OWN)
    _, first = bench.io.orders[0]
    _, second = bench.io.orders[1]
    assert (first.cached_pages, first.source_address) == (0, ""), "nothing is cached yet"
    assert (second.cached_pages, second.source_address) == (2, OWN)


def test_a_submit_without_the_workers_own_address_offers_no_source():
    bench = Bench(8)
    second_turn(bench)
    assert bench.io.orders[1][1].source_address == ""


@pytest.mark.parametrize(
    ("reused", "cached_here", "cached_there"),
    [(128, 128, 0), (256, 128, 128), (64, 64, 0), (0, 0, 0)],
    ids=["none computed again", "prefill had more", "one page computed again", "all computed again"],
)
def test_cached_tokens_are_those_that_nobody_computed_again(reused, cached_here, cached_there):
    bench = Bench(8)
    heard = second_turn(bench, own_address=OWN)
    bench.fill(reused_tokens=reused)
    bench.run()
    stats = heard.stats[0]
    assert (stats.cached_tokens, stats.prefill_cached_tokens) == (cached_here, cached_there)
    bench.check_free()
