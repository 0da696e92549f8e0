"""At the published sizes the engine launches nothing that is not compiled ahead for eight GPUs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import distributed

from kernels.machine_code import table
from kernels.machine_code.launch_recorder import Launch, record
from services.engine.batch import PAGE_TOKENS, ForwardBatch, SequenceSlice
from services.engine.kernel_model import draw, feed_forward
from services.engine.kernel_model.decode_graphs import DecodeGraphs
from services.engine.kernel_model.draw import draw_on_device
from services.engine.kernel_model.text_model import KernelTextModel
from services.engine.model.architectures import architecture_of
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import DistributedGroup
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState
from tests.engine.loading.test_memory_plan import CONFIG, Layers, MetaShare

HOPPER = 90
TEXT = replace(CONFIG.text, num_hidden_layers=3)
"""One dense layer and two with experts."""
RANKS = [
    Rank(0, 8),
    Rank(7, 8),
    Rank(3, 8, whole_experts=True),
    Rank(5, 8, True, True),
    Rank(1, 8, False, True),
]
PASSES = {
    "a chunk": [(2048, 2048)],
    "a chunk at the end of the longest context": [(2048, 262144)],
    "a large chunk": [(8192, 8192)],
    "the shortest expanded chunk": [(171, 300)],
    "chunks beside sequences": [(100, 100), (1, 77), (500, 9000), (1, 70000)],
    "more sequences than a graph has": [(1, 9000 + row) for row in range(300)],
}


@pytest.fixture(scope="module")
def ahead() -> set[Launch]:
    return set(table.launches(HOPPER).values())


@pytest.fixture(params=RANKS, ids=str)
def model(request, monkeypatch):
    """A rank's model, of tensors without memory."""
    rank = request.param
    monkeypatch.setattr(distributed, "get_rank", lambda: rank.index)
    monkeypatch.setattr(distributed, "get_world_size", lambda: rank.count)
    for name in ("all_reduce", "all_gather"):
        monkeypatch.setattr(distributed, name, lambda *_: None)
    monkeypatch.setattr(feed_forward, "expert_matrices", Layers())
    group = DistributedGroup(
        deterministic=False, whole_experts=rank.whole_experts, whole_attention=rank.whole_attention
    )
    weights = PrefixedWeights(MetaShare(rank), architecture_of(CONFIG).text_prefix)
    return KernelTextModel(TEXT, weights, False, group)


@pytest.fixture
def kv_pages():
    return torch.empty(
        64, TEXT.num_hidden_layers, PAGE_TOKENS, TEXT.kv_width, dtype=torch.bfloat16, device="meta"
    )


def names(launches) -> set[tuple[str, frozenset[str]]]:
    """The kernels, and what of their arguments is aligned."""
    return {(launch.name, launch.aligned) for launch in launches}


def integers(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.int64, device="meta")


def test_recorded_decode_steps_of_all_sizes_find_their_kernels(model, kv_pages, ahead):
    graphs = DecodeGraphs(model, kv_pages, lambda compute: compute())
    launched = record(graphs.prepare, HOPPER)
    assert len(launched) > 500
    assert names(set(launched) - ahead) == set()


def test_passes_of_all_kinds_find_their_kernels(model, kv_pages, ahead):
    missing = {}
    for name, sizes in PASSES.items():
        sequences = tuple(SequenceSlice(new, end, range(-(-end // PAGE_TOKENS))) for new, end in sizes)
        tokens = sum(sequence.num_tokens for sequence in sequences)
        batch = ForwardBatch(*(integers(tokens) for _ in range(3)), sequences, integers(len(sequences)))
        launched = record(partial(model.forward, batch, kv_pages, None), HOPPER)
        assert len(launched) > 20
        missing[name] = names(set(launched) - ahead)
    assert missing == {name: set() for name in PASSES}


@pytest.mark.parametrize("rows", [1, 3, 16, 256])
def test_draws_find_their_kernel(monkeypatch, ahead, rows):
    monkeypatch.setattr(
        draw, "to_device", lambda values, dtype, _: torch.empty(len(values), dtype=dtype, device="meta")
    )
    states = [SamplingState(SamplingSpec(), row, 0, [5], []) for row in range(rows)]
    logits = torch.empty(rows, TEXT.vocab_size, device="meta")
    launched = record(lambda: draw_on_device(logits, states), HOPPER)
    assert len(launched) == 1
    assert names(set(launched) - ahead) == set()
