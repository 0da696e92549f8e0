"""Plans the memory of a GPU of a tensor-parallel group: weights, a reserve, and KV pages in the rest."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import ConfigError
from services.common.page_hash import PAGE_TOKENS
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.rank import Rank
from services.engine.weights.expected import expected_tensors
from services.engine.weights.headers import DTYPE_BYTES
from services.engine.weights.share import shares_of

RESERVE_PERCENT = 10
"""Percentage of a GPU's memory for activations, communication and the allocator."""
_KV_VALUE_BYTES = DTYPE_BYTES["BF16"]
# Not KvFormat: a command makes this plan without a tensor library.


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one of `ranks` ranks; pages are bfloat16, and whole on every rank: the latent has no heads."""

    ranks: int
    memory: int
    split: int
    replicated: int
    page_bytes: int
    vision: int

    @property
    def weights(self) -> int:
        """Bytes of the weights of the text model."""
        return self.split + self.replicated

    @property
    def reserve(self) -> int:
        """Bytes kept free of weights and pages."""
        return self.memory * RESERVE_PERCENT // 100

    @property
    def pages(self) -> int:
        """Number of pages that fit beside weights and reserve."""
        return (self.memory - self.weights - self.reserve) // self.page_bytes

    @property
    def rest(self) -> int:
        """Bytes left over: less than a page."""
        return self.memory - self.weights - self.reserve - self.pages * self.page_bytes

    def lines(self) -> list[str]:
        """The plan as text; the amounts above that of the GPU's memory sum to it."""
        amounts = [
            (self.split, f"weights, split over {self.ranks} ranks: embedding, heads, MLPs, experts"),
            (self.replicated, "weights that every rank has: norms, routers, projections to the latents"),
            (self.reserve, f"reserve for activations: {RESERVE_PERCENT} %"),
            (self.pages * self.page_bytes, f"KV cache: {self.pages:,} pages = {self._tokens:,} tokens"),
            (self.rest, f"rest, less than a page of {self.page_bytes:,}"),
        ]
        return [
            f"memory plan of one rank of {self.ranks}, bytes:",
            *(f"{amount:>19,}  {what}" for amount, what in amounts),
            f"{self.memory:>19,}  memory of the GPU",
            f"{self.vision:>19,}  weights of the vision worker, which is a process of its own",
        ]

    @property
    def _tokens(self) -> int:
        return self.pages * PAGE_TOKENS


def plan_memory(config: ModelConfig, ranks: int, memory: int) -> MemoryPlan:
    """Plans GPUs of `memory` bytes; raises ConfigError if the model cannot be split so, or does not fit."""
    tensors = expected_tensors(config)
    shares = shares_of(tensors, Rank(0, ranks))
    split = replicated = vision = 0
    for name, tensor in tensors.items():
        if not tensor.is_text:
            vision += tensor.nbytes
        elif name in shares:
            split += shares[name].values * DTYPE_BYTES[tensor.dtype]
        else:
            replicated += tensor.nbytes
    page_bytes = PAGE_TOKENS * config.text.num_hidden_layers * config.text.kv_width * _KV_VALUE_BYTES
    plan = MemoryPlan(ranks, memory, split, replicated, page_bytes, vision)
    if plan.pages < 1:
        raise ConfigError(
            f"--gpu-memory {memory / 1e9:g}: weights of {plan.weights:,} bytes per rank and a reserve of "
            f"{plan.reserve:,} leave no room for a page of {page_bytes:,}"
        )
    return plan
