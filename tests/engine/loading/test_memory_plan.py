"""The memory plan is what the model takes: all layers of the published sizes, on the meta device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
import triton.runtime.jit
from torch import distributed
from torch.nn import functional

from kernels.expert_weights import ExpertMatrices
from kernels.mla_decode import MOST_PARTIAL
from services.common.errors import ConfigError
from services.decode.config import DecodeConfig
from services.engine.batch import PAGE_TOKENS, ForwardBatch, SequenceSlice
from services.engine.kernel_model import attention, decode_graphs, feed_forward, text_model
from services.engine.kernel_model.decode_graphs import DecodeGraphs
from services.engine.kernel_model.draw import draw_on_device
from services.engine.kernel_model.text_model import KernelTextModel
from services.engine.loading import workspace
from services.engine.loading.memory_plan import MOST_PAGES, MemoryPlan, plan_memory
from services.engine.loading.worker_shape import WorkerShape
from services.engine.loading.workspace import CONTEXT_BYTES, vision_bytes
from services.engine.model.architectures import architecture_of, load_config
from services.engine.model.prefixed_weights import PrefixedWeights
from services.engine.model.rank import Rank
from services.engine.model.tensor_group import DistributedGroup
from services.engine.model.vision.model import VisionModel
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState
from services.engine.weights.expected import expected_tensors
from services.engine.weights.share import shares_of
from services.families.kimi.media import IMAGE_PATCHES
from services.prefill.config import PrefillConfig
from services.vision.config import VisionConfig
from services.vision.embedding_pool import allocate_embedding_rows
from tests.support.device_memory import DeviceMemory
from tests.support.published_model import published_config

CONFIG = published_config()
TENSORS = expected_tensors(CONFIG)
H200 = 141_000_000_000
SPLITS = {
    "tp 8": {},
    "dp-attention": {"dp_attention": True},
    "expert-parallel": {"expert_parallel": True},
    "both": {"dp_attention": True, "expert_parallel": True},
}
ROLES = {
    "prefill": PrefillConfig,
    "decode": DecodeConfig,
    "aggregated": lambda **keys: DecodeConfig(**keys, aggregated=True),
}
DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32, "I32": torch.int32}


class MetaShare(Mapping):
    """A rank's share of every tensor of the checkpoint, made when it is asked for."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = TENSORS[name]
        shares = shares_of({name: tensor}, self._rank)
        shape = shares[name].shape if shares else tensor.shape
        return torch.empty(shape, dtype=DTYPES[tensor.dtype], device="meta")

    def __contains__(self, name: object) -> bool:
        return name in TENSORS

    def __iter__(self) -> Iterator[str]:
        return iter(TENSORS)

    def __len__(self) -> int:
        return len(TENSORS)


class Layers:
    """Lays out the experts of the first layer as they are loaded; those of the others have the same sizes."""

    def __init__(self) -> None:
        self._shapes: list[tuple[torch.Size, torch.Size]] = []

    def __call__(self, experts) -> tuple[ExpertMatrices, ...]:
        if not self._shapes:
            self._shapes = [(it.values.shape, it.scales.shape) for it in build_experts(experts)]
        return tuple(
            ExpertMatrices(
                torch.empty(values, dtype=torch.uint8, device="meta"),
                torch.empty(scales, dtype=torch.bfloat16, device="meta"),
            )
            for values, scales in self._shapes
        )


build_experts = feed_forward.expert_matrices


@pytest.fixture
def patched(monkeypatch):
    """Kernels and collective operations do nothing on tensors without memory; few sizes are recorded."""
    monkeypatch.setattr(triton.runtime.jit.JITFunction, "__getitem__", lambda *_: lambda *_, **__: None)
    monkeypatch.setattr(distributed, "all_reduce", lambda *_: None)
    monkeypatch.setattr(distributed, "all_gather", lambda *_: None)
    monkeypatch.setattr(decode_graphs, "SIZES", (1, 256))


def shape_of(role: str, split: str) -> WorkerShape:
    """A worker of eight GPUs."""
    return ROLES[role](tp=8, **SPLITS[split]).shape_on("cuda")


@cache
def plan_of(role: str, split: str) -> MemoryPlan:
    """Its plan."""
    return plan_memory(CONFIG, shape_of(role, split), H200)


@dataclass(frozen=True)
class Taken:
    """Bytes."""

    weights: int
    pages: int
    graphs: int
    workspace: int

    @property
    def peak(self) -> int:
        """Bytes of all."""
        return self.weights + self.pages + self.graphs + self.workspace


class MetaRank:
    """A rank's model, of tensors without memory."""

    def __init__(self, rank: Rank, experts: Layers) -> None:
        self.memory = DeviceMemory()
        with pytest.MonkeyPatch.context() as patch, self.memory:
            patch.setattr(distributed, "get_rank", lambda: rank.index)
            patch.setattr(distributed, "get_world_size", lambda: rank.count)
            patch.setattr(feed_forward, "expert_matrices", experts)
            group = DistributedGroup(
                deterministic=False, whole_experts=rank.whole_experts, whole_attention=rank.whole_attention
            )
            weights = PrefixedWeights(MetaShare(rank), architecture_of(CONFIG).text_prefix)
            self.model = KernelTextModel(CONFIG.text, weights, False, group)
        self.weights = self.memory.now

    def taken(self, shape: WorkerShape, pages: int) -> Taken:
        """What a worker with this model takes: while it records and computes as much as it can."""
        text, memory = CONFIG.text, self.memory
        with memory:
            sizes = (pages, text.num_hidden_layers, PAGE_TOKENS, text.kv_width)
            kv_pages = torch.empty(sizes, dtype=torch.bfloat16, device="meta")
            before, recorded = memory.now, 0
            if shape.rows:
                shared = []
                graphs = DecodeGraphs(
                    self.model, kv_pages, lambda compute: shared.append(memory.peak_of(compute))
                )
                graphs.prepare()
                recorded = memory.now - before + max(shared)
            batch = longest_pass(shape.chunk_tokens + shape.rows, shape.rows)
            workspace = memory.peak_of(lambda: self.model.forward(batch, kv_pages, None))
            if shape.rows:
                logits = torch.empty(shape.rows, text.vocab_size, device="meta")
                sampler = Sampler(text.vocab_size, draw_on_device)
                drawn = memory.peak_of(lambda: sampler.begin(logits, demanding(shape.rows)))
                workspace = max(workspace, logits.nbytes + drawn)
            return Taken(self.weights, kv_pages.nbytes, recorded, workspace)


def longest_pass(tokens: int, rows: int) -> ForwardBatch:
    """One sequence whose last tokens these are, with as many rows of logits."""
    numbers = (torch.empty(tokens, dtype=torch.int64, device="meta") for _ in range(3))
    longest = CONFIG.text.max_position_embeddings
    sequence = SequenceSlice(tokens, longest, range(longest // 64))
    return ForwardBatch(*numbers, (sequence,), torch.empty(rows, dtype=torch.int64, device="meta"))


def demanding(rows: int) -> list[SamplingState]:
    """Choices that need adjusted logits, a draw and log-probabilities."""
    spec = SamplingSpec(
        repetition_penalty=1.1, presence_penalty=0.5, logprobs=True, top_logprobs=20, logit_bias=((7, 1.0),)
    )
    return [SamplingState(spec, 1, 0, [5, 7], [9]) for _ in range(rows)]


def check(plan: MemoryPlan, taken: Taken) -> None:
    """Asserts that the plan is no less than what is taken, and at most a twentieth more."""
    weights = plan.weights + plan.kept
    assert 0.99 * weights <= taken.weights <= 1.001 * weights
    assert taken.graphs <= plan.graphs
    assert taken.workspace <= plan.workspace
    planned = weights + plan.graphs + plan.workspace + plan.pool
    assert 0.95 * planned <= taken.peak <= planned


@pytest.mark.parametrize("split", SPLITS)
def test_61_layers_take_at_their_peak_what_the_plan_says_in_every_role(split, patched):
    rank = MetaRank(shape_of("decode", split).rank, Layers())
    for role in ROLES:
        plan = plan_of(role, split)
        check(plan, rank.taken(shape_of(role, split), plan.pages))


@pytest.mark.parametrize("split", ["tp 8", "dp-attention"])
def test_all_eight_ranks_take_what_the_plan_says(split, patched):
    shape, plan, experts = shape_of("decode", split), plan_of("decode", split), Layers()
    for index in range(8):
        check(plan, MetaRank(replace(shape.rank, index=index), experts).taken(shape, plan.pages))


def test_the_largest_batch_of_images_takes_what_vision_is_reserved(monkeypatch):
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda query, *_: torch.empty_like(query))
    memory = DeviceMemory()
    with memory, torch.inference_mode(), torch.device("meta"):
        model = VisionModel(CONFIG.vision_part).to(torch.bfloat16)
        embeddings = allocate_embedding_rows(VisionConfig().embedding_pages, CONFIG.text.hidden_size, "meta")
        images = [(torch.empty(IMAGE_PATCHES, 3, 14, 14), (1, 128, 128))] * 8
        peak = memory.peak_of(lambda: model.encode_all(images))
    taken = plan_of("decode", "tp 8").vision + embeddings.nbytes + peak
    planned = vision_bytes(CONFIG) - CONTEXT_BYTES
    assert 0.95 * planned <= taken <= planned


def test_the_plan_counts_with_the_sizes_that_the_kernels_model_has():
    assert (decode_graphs.SIZES[-1], len(decode_graphs.SIZES)) == (workspace.GRAPH_ROWS, workspace.GRAPHS)
    assert workspace.EXPANDED_VALUES == attention.MOST_EXPANDED
    assert workspace.PARTIAL_VALUES == MOST_PARTIAL
    assert workspace.SPLIT_TOKENS == text_model.SPLIT_TOKENS


@pytest.mark.parametrize("split", SPLITS)
def test_on_eight_gpus_of_141_gb_the_pages_hold_hundreds_of_thousands_of_tokens(split):
    for role in ROLES:
        plan = plan_of(role, split)
        assert 500_000 < plan.pages * PAGE_TOKENS < 900_000, role
        assert plan.needed + plan.reserve + plan.room == H200


def test_whole_heads_on_every_gpu_cost_pages():
    whole, part = plan_of("decode", "dp-attention"), plan_of("decode", "tp 8")
    assert 9e9 < whole.weights - part.weights < 10e9
    assert whole.pages < part.pages


def test_what_other_processes_take_is_not_for_pages():
    shape = shape_of("decode", "tp 8")
    alone, beside = plan_memory(CONFIG, shape, H200), plan_memory(CONFIG, shape, H200, others=10**10)
    assert alone.pages - beside.pages == pytest.approx(10**10 / alone.page_bytes, abs=1)


def test_what_does_not_fit_is_refused_with_the_amounts():
    with pytest.raises(ConfigError, match=r"each of 4 GPUs has 141\.0 GB, its share of the weights takes 15"):
        plan_memory(CONFIG, DecodeConfig(tp=4).shape_on("cuda"), H200)


def test_a_small_model_does_not_fill_a_gpu(nano_dir):
    assert plan_memory(load_config(nano_dir), DecodeConfig().shape_on("cuda"), H200).pages == MOST_PAGES
