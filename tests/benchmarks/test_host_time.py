"""The benchmark of a step's host time runs the engine as it is."""

from benchmarks.host_time import Bench


def test_every_step_gives_each_sequence_a_token():
    bench = Bench(batch=3, context=128)
    before = bench.tokens
    for _ in range(4):
        assert bench.step_ms() > 0
    assert bench.tokens - before == 12
