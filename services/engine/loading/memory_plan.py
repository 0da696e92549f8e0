"""Plans the memory of a worker's GPUs: weights, what computing takes, a reserve, and pages in the rest."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

from services.common.errors import ConfigError
from services.common.page_hash import PAGE_TOKENS
from services.engine.loading.worker_shape import WorkerShape
from services.engine.loading.workspace import CONTEXT_BYTES, graph_bytes, pass_bytes
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.text_config import TextConfig
from services.engine.weights.expected import WORD_VALUES, expected_tensors, is_quantised
from services.engine.weights.headers import DTYPE_BYTES
from services.engine.weights.share import shares_of

RESERVE_PERCENT = 4
"""Percentage of a GPU's memory that the plan leaves free: gaps of the allocator, and what is not foreseen."""
GROUP_BYTES = 1_000_000_000
"""Memory of NCCL's buffers in a group of ranks; an assumption."""
MOST_PAGES = 65_536
"""Most pages that a plan takes: a small model would fill a GPU with pages that nobody needs."""
_KV_VALUE_BYTES = DTYPE_BYTES["BF16"]
# Not KvFormat: a command makes this plan without a tensor library.


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one of `ranks` GPUs of `memory` bytes; pages are bfloat16, and whole on every rank: the latent
    has no heads.

    `kept`: what the kernels keep beside the published weights. `workspace`: of a pass. `others`: what other
    processes take.
    """

    ranks: int
    memory: int
    split: int
    replicated: int
    kept: int
    graphs: int
    workspace: int
    system: int
    others: int
    page_bytes: int
    vision: int

    @property
    def weights(self) -> int:
        """Bytes of the weights of the text model."""
        return self.split + self.replicated

    @property
    def reserve(self) -> int:
        """Bytes left free."""
        return self.memory * RESERVE_PERCENT // 100

    @property
    def needed(self) -> int:
        """Bytes that the worker takes beside its pages, without the reserve."""
        return self.weights + self.kept + self.graphs + self.workspace + self.system

    @property
    def room(self) -> int:
        """Bytes for pages; negative if the model does not fit."""
        return self.memory - self.needed - self.others - self.reserve

    @property
    def pages(self) -> int:
        """Number of pages to allocate: those that fit, but at most MOST_PAGES."""
        return min(max(0, self.room) // self.page_bytes, MOST_PAGES)

    @property
    def pool(self) -> int:
        """Bytes of the pages."""
        return self.pages * self.page_bytes

    def lines(self) -> list[str]:
        """The plan as text; the amounts above that of the GPU's memory sum to it."""
        amounts = [
            (self.split, f"weights, split over {self.ranks} ranks: embedding, heads, MLPs, experts"),
            (self.replicated, "weights that every rank has: norms, routers, projections to the latents"),
            (self.kept, "kept beside them: routers in float32, kv_b in two layouts, tables of angles"),
            (self.graphs, "recorded decode steps (CUDA graphs) with their buffers"),
            (self.workspace, "workspace of the largest pass, or of sampling with penalties and logprobs"),
            (self.system, "CUDA context and libraries; between ranks NCCL"),
            (self.others, "other processes on this GPU"),
            (self.reserve, f"left free: {RESERVE_PERCENT} %"),
            (self.pool, f"KV cache: {self.pages:,} pages = {self.pages * PAGE_TOKENS:,} tokens"),
            (self.room - self.pool, f"rest; a page is {self.page_bytes:,}"),
        ]
        return [
            f"memory plan of one rank of {self.ranks}, bytes:",
            *(f"{amount:>19,}  {what}" for amount, what in amounts if amount),
            f"{self.memory:>19,}  memory of the GPU",
            f"{self.vision:>19,}  weights of the vision worker, which is a process of its own",
        ]


def plan_memory(config: ModelConfig, shape: WorkerShape, memory: int, others: int = 0) -> MemoryPlan:
    """Plans GPUs of `memory` bytes, of which other processes take `others`.

    Raises ConfigError if the model cannot be split so, or does not fit.
    """
    plan = planned(config, shape, memory, others)
    if plan.pages < 1:
        raise ConfigError(does_not_fit(plan))
    return plan


def planned(config: ModelConfig, shape: WorkerShape, memory: int, others: int = 0) -> MemoryPlan:
    """As `plan_memory`, also where no page fits."""
    tensors = expected_tensors(config)
    rank, text = shape.rank, config.text
    shares = shares_of(tensors, rank)
    split = replicated = vision = 0
    kept = _angles(text)
    for name, tensor in tensors.items():
        if not tensor.is_text:
            vision += tensor.nbytes
            continue
        if not rank.has(name, text.n_routed_experts):
            continue
        nbytes = tensor.nbytes
        if name in shares:
            nbytes = shares[name].values * DTYPE_BYTES[tensor.dtype]
        if name in shares or (rank.whole_experts and is_quantised(name)):
            split += nbytes
        else:
            replicated += nbytes
        # The router's float32 has twice the published bytes; kv_b_proj is kept as it is, and split by use.
        if name.endswith((".mlp.gate.weight", ".kv_b_proj.weight")):
            kept += nbytes
    return MemoryPlan(
        ranks=rank.count,
        memory=memory,
        split=split,
        replicated=replicated,
        kept=kept,
        graphs=graph_bytes(text, shape),
        workspace=pass_bytes(text, shape),
        system=CONTEXT_BYTES + (GROUP_BYTES if rank.count > 1 else 0),
        others=others,
        page_bytes=PAGE_TOKENS * text.num_hidden_layers * text.kv_width * _KV_VALUE_BYTES,
        vision=vision,
    )


class HostBytes(NamedTuple):
    """Bytes of the text model's weights, dequantised, and of a KV page on a CPU."""

    weights: int
    page: int


def host_bytes(config: ModelConfig, dtype: str | None, kv_format: str | None) -> HostBytes:
    """What a text worker holds on a CPU, all its processes together, with these settings."""
    values = sum(
        math.prod(tensor.shape) * (WORD_VALUES if tensor.dtype == "I32" else 1)
        for name, tensor in expected_tensors(config).items()
        if tensor.is_text and not name.endswith(("_scale", "_shape"))
    )
    text = config.text
    width, kv_width = (
        DTYPE_BYTES["BF16" if name == "bfloat16" else "F32"] for name in (dtype, kv_format or dtype)
    )
    return HostBytes(values * width, PAGE_TOKENS * text.num_hidden_layers * text.kv_width * kv_width)


def physical_bytes() -> int:
    """The memory of this machine, not of its GPUs."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def does_not_fit(plan: MemoryPlan) -> str:
    """Says why not even a page fits, and what would."""
    besides = f" and others' {plan.others / 1e9:.1f} GB" if plan.others else ""
    return (
        f"the model does not fit: each of {plan.ranks} GPUs has {plan.memory / 1e9:.1f} GB, its share of the"
        f" weights takes {plan.weights / 1e9:.1f} GB, what computes with them"
        f" {(plan.needed - plan.weights) / 1e9:.1f} GB, a reserve {plan.reserve / 1e9:.1f} GB{besides}: no"
        f" page of {plan.page_bytes:,} bytes is left room; more GPUs (tp) have smaller shares"
    )


def _angles(text: TextConfig) -> int:
    """Bytes of the rotary tables: cos and sin in float32 for every position."""
    return text.max_position_embeddings * text.qk_rope_head_dim * DTYPE_BYTES["F32"]
