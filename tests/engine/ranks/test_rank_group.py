"""Ranks that have pages of their own, as GPUs do: here on the CPU."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import distributed

from services.common.errors import ConfigError
from services.engine.batch import DeviceTokens
from services.engine.kv_cache.kv_format import FLOAT32, float_format
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_region, layer_pages
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.opening import TransferOpening
from services.engine.kv_transfer.reads.read_request import ReadRequest, ReadStatus
from services.engine.loading.for_worker import load_for
from services.engine.ranks.rank_plan import RankPlan
from services.engine.runner import ModelRunner
from tests.support.batches import batch_of
from tests.support.rank_groups import runner_of, start_ranks

PAGES = 8
PROMPT = [(17 * place + 5) % 1200 for place in range(100)]
EPSILON = 1e-4
"""In standard deviations of a row of logits: sums over ranks are added up in another order."""


def plan_of(nano_dir, dtype=torch.float32, kv_format=FLOAT32, **options):
    return RankPlan(2, nano_dir, True, dtype, kv_format, 1, PAGES, own_pages=True, **options)


def logits_of(runner, token_ids, start, pages):
    return runner.forward(batch_of([(token_ids, start, pages, True)], runner.batch_device))[0]


@pytest.fixture(params=[False, True], ids=["split experts", "whole experts"])
def group(request, nano_dir):
    """A group of two, and its runner."""
    plan = plan_of(nano_dir, whole_experts=request.param)
    group = start_ranks(plan)
    yield group, runner_of(group, plan)
    group.close()


def test_they_compute_what_one_process_does_and_are_given_what_was_read(group, nano_dir):
    group, runner = group
    model, _ = load_for(
        nano_dir,
        True,
        torch.float32,
        allocate_kv_pages(PAGES, *group.kv_pages.shape[1:2], group.kv_pages.shape[3], FLOAT32),
        FLOAT32,
        kernels=False,
        decodes=False,
    )
    alone = ModelRunner(model, torch.zeros_like(group.kv_pages), 1)
    expected = logits_of(alone, PROMPT, 0, [0, 1])
    found = logits_of(runner, PROMPT, 0, [0, 1])
    assert float((found - expected).abs().max()) < EPSILON * float(expected.std())
    runner.copy(0, 4)
    runner.copy(1, 5)
    following = logits_of(runner, [7], len(PROMPT), [0, 1])
    assert torch.equal(logits_of(runner, [7], len(PROMPT), [4, 5]), following)
    # The others attend with their own heads: without the pages they would say something else.
    group.kv_pages[[6, 7]] = group.kv_pages[[0, 1]]
    assert not torch.equal(logits_of(runner, [7], len(PROMPT), [6, 7]), following)


def test_rows_are_scored_by_all_ranks_together_and_the_next_batch_follows(group):
    _, runner = group
    batch = batch_of([(PROMPT, 0, [0, 1], False)], runner.batch_device)
    expected = runner.forward(replace(batch, logits_rows=torch.arange(30, 100)))
    parts = []
    scored = batch_of([(PROMPT, 0, [2, 3], False, (), 70)], runner.batch_device)
    runner.forward(scored, on_scored=lambda part: parts.append(part.clone()))
    assert torch.equal(torch.cat(parts), expected)
    following = logits_of(runner, [7], len(PROMPT), [0, 1])
    assert torch.equal(logits_of(runner, [7], len(PROMPT), [2, 3]), following)


def test_a_token_that_only_the_device_knows_is_the_same_for_every_rank(group):
    group, runner = group
    last = runner.model.config.vocab_size - 1  # whose embedding the other rank has
    logits_of(runner, [*PROMPT, last], 0, [0, 1])
    known = logits_of(runner, [8], len(PROMPT) + 1, [0, 1])
    runner.forward(batch_of([(PROMPT, 0, [2, 3], True), ([9], 0, [4], True)]))
    late = [([0], len(PROMPT), [2, 3], True), ([5], 1, [4], True)]
    runner.forward(batch_of(late), late=DeviceTokens([0], torch.tensor([last])))
    found = logits_of(runner, [8], len(PROMPT) + 1, [2, 3])
    assert float((found - known).abs().max()) < EPSILON * float(known.std())


def embedded(runner, values):
    """Logits of a prompt whose tokens 10 to 70 are replaced."""
    batch = batch_of([(PROMPT, 0, [0, 1], True, [(10, values)])], runner.batch_device)
    return runner.forward(batch)[0].clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_picture_travels_once_in_the_dtype_of_the_model_and_all_ranks_compute_with_it(
    nano_dir, dtype, monkeypatch
):
    plan = plan_of(nano_dir, dtype, float_format(dtype))
    group = start_ranks(plan)
    broadcasts = []
    broadcast = distributed.broadcast
    monkeypatch.setattr(
        distributed,
        "broadcast",
        lambda tensor, source: broadcasts.append(tensor) or broadcast(tensor, source),
    )
    try:
        runner = runner_of(group, plan)
        values = torch.randn(60, runner.model.config.hidden_size, generator=torch.Generator().manual_seed(3))
        pages = torch.zeros_like(group.kv_pages)
        model, _ = load_for(nano_dir, True, dtype, pages, float_format(dtype), kernels=False, decodes=False)
        alone = ModelRunner(model, pages, 1)
        found, expected = embedded(runner, values), embedded(alone, values)
        tolerance = EPSILON if dtype is torch.float32 else 0.05
        assert float((found - expected).abs().mean()) < tolerance * float(expected.std())
        without = logits_of(runner, PROMPT, 0, [2, 3])
        assert float((found - without).abs().mean()) > 0.2 * float(expected.std())
        assert [(sent.dtype, sent.shape) for sent in broadcasts] == [(dtype, values.shape)]
    finally:
        group.close()


def test_pages_read_by_all_ranks_in_shares_are_on_every_one_of_them(nano_dir):
    opening = TransferOpening("reader", {}, "any")
    plan = plan_of(nano_dir, open_transfer=opening)
    group = start_ranks(plan)
    runner = runner_of(group, plan)
    layers = group.kv_pages.shape[1]
    reader = opening.shared([kv_region(group.kv_pages)], group.readers, layers)
    lent = torch.zeros_like(group.kv_pages)
    source = TransferOpening("source", {}, "any")([kv_region(lent)])
    source.start()
    reader.start()
    try:
        following = logits_of(runner, [7], written(runner, PROMPT), [0, 1])
        lent[[2, 7]] = group.kv_pages[[0, 1]]
        source.pin_serving()
        reader.connect(source.offer()).result(30)
        # The pages are of both ranks' shares, and so are these of a source that is not there.
        assert read(reader, "source", [4, 5], [2, 7], layers).status is ReadStatus.DONE
        assert not bool(group.kv_pages[5].any()), "the other rank has read this one"
        runner.share_pages([4, 5])
        assert torch.equal(group.kv_pages[[4, 5]], lent[[2, 7]])
        assert torch.equal(logits_of(runner, [7], len(PROMPT), [4, 5]), following)
        assert read(reader, "nobody", [4, 5], [2, 7], layers).status is ReadStatus.FAILED
        assert torch.equal(logits_of(runner, [7], len(PROMPT), [4, 5]), following)
    finally:
        reader.close()
        source.close()
        group.close()


def written(runner, prompt):
    """How many tokens were computed into pages 0 and 1."""
    logits_of(runner, prompt, 0, [0, 1])
    return len(prompt)


def read(reader, agent, local, remote, layers):
    """What became of it, once no byte can land any more."""
    outcomes, settled = [], threading.Event()
    entries = [layer_pages(pages, layers, 0, layers) for pages in (local, remote)]
    deadline = time.monotonic() + 20
    reader.read(ReadRequest(agent, RegionKind.KV, *entries, deadline, outcomes.append, settled.set))
    assert settled.wait(30)
    return outcomes[0]


def test_attention_by_sequence_without_kernels_needs_pages_that_all_have(nano_dir):
    with pytest.raises(ConfigError, match="dp_attention"):
        start_ranks(plan_of(nano_dir, whole_attention=True))


def test_a_group_is_refused_where_there_are_too_few_gpus(nano_dir):
    with pytest.raises(ConfigError, match="cuda:64 does not exist"):
        start_ranks(plan_of(nano_dir, device=torch.device("cuda", 63), kernels=True))
