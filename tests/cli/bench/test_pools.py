"""The suites of a comparison have the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.bench.measuring import arrangements
from services.cli.bench.options import CompareOptions
from services.cli.bench.pools import aggregated, disaggregated, started
from services.common.errors import ConfigError


def test_every_arrangement_has_as_many_workers_the_same_cores_and_pages():
    compare = CompareOptions(Path("x"), 1, 3, 800, (64, 128), tuple(range(8)))
    apart, *together = arrangements(compare)
    assert [worker.role for worker in apart.workers] == ["prefill", "decode", "decode", "decode"]
    assert [{worker.chunk_tokens for worker in each.workers} for each in together] == [{64}, {128}]
    assert all(worker.aggregated and worker.role == "decode" for each in together for worker in each.workers)
    for each in (apart, *together):
        assert [worker.cores for worker in each.workers] == [(0, 1), (2, 3), (4, 5), (6, 7)]
        assert [worker.pages for worker in each.workers] == [200] * 4
    assert len({each.label for each in (apart, *together)}) == 3


def test_more_workers_than_cores_are_refused():
    with pytest.raises(ConfigError, match="2 workers need a core each; 1 may be used"):
        disaggregated([0], 1, 1, 100)


def test_fewer_pages_than_workers_are_refused():
    with pytest.raises(ConfigError, match="--kv-pages"):
        aggregated([0, 1], 2, 1, 64)


async def test_a_directory_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^--checkpoint: .*no config\.json"):
        async with started(disaggregated([0, 1], 1, 1, 100), tmp_path, tmp_path):
            raise AssertionError
