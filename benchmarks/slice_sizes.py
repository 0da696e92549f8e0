"""The sizes of the slice of Kimi-K2.5, the cases to run, and the least time they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.yarn import YarnScaling
from services.engine.model.tensor_names import text_tensors

if TYPE_CHECKING:
    from kernels.benchmarks.ceilings import Ceilings

_INT4_BYTES = 9 / 16


@dataclass(frozen=True)
class Sizes:
    """`batches` x `contexts` decode steps, `prompts` prefilled; `few` experts for comparing logits."""

    config: TextConfig
    batches: tuple[int, ...] = (1, 16, 64, 100, 256)
    contexts: tuple[int, ...] = (1024, 8192, 32768)
    prompts: tuple[int, ...] = (8192, 32768)
    few: int = 16
    dtype: torch.dtype = torch.bfloat16


KIMI = TextConfig(
    hidden_size=7168,
    num_hidden_layers=4,
    first_k_dense_replace=1,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    num_attention_heads=64,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_routed_experts=384,
    num_experts_per_tok=8,
    n_shared_experts=1,
    norm_topk_prob=True,
    routed_scaling_factor=2.827,
    rms_norm_eps=1e-5,
    rope_theta=50000.0,
    rope_scaling=YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0),
    max_position_embeddings=262144,
    vocab_size=1024,  # the head is not part of the slice
)
TINY = Sizes(
    replace(
        KIMI,
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=64,
        moe_intermediate_size=64,
        num_attention_heads=2,
        q_lora_rank=32,
        kv_lora_rank=64,
        qk_nope_head_dim=16,
        qk_rope_head_dim=16,
        v_head_dim=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=1024,
        vocab_size=64,
    ),
    batches=(3,),
    contexts=(70,),
    prompts=(20,),
    few=2,
    dtype=torch.float32,
)


class Limits:
    """The larger of bytes / measured reads and operations / measured bfloat16 products, in seconds."""

    def __init__(self, config: TextConfig, ceilings: Ceilings) -> None:
        self._config = config
        self._ceilings = ceilings

    def decode(self, batch: int, context: int) -> float:
        """Least seconds of a step. Reads all weights except experts that no token chose under uniform
        routing, and the latents.
        """
        config = self._config
        moe = config.num_hidden_layers - config.first_k_dense_replace
        missed = (1 - config.num_experts_per_tok / config.n_routed_experts) ** batch
        touched = config.n_routed_experts * (1 - missed)
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        num_bytes = 2 * self._dense_weights() + moe * touched * expert * _INT4_BYTES
        num_bytes += 2 * batch * context * config.kv_width * config.num_hidden_layers
        heads, latent = config.num_attention_heads, config.kv_lora_rank
        scores = 2 * batch * context * heads * (config.kv_width + latent) * config.num_hidden_layers
        products = 2 * batch * (self._dense_weights() + moe * config.num_experts_per_tok * expert)
        return self._ceilings.limit_seconds(int(num_bytes), scores + products)

    def prefill(self, prompt: int) -> float:
        """Least seconds of a prompt, from its operations: products of every token, and expanded scores."""
        config = self._config
        moe = config.num_hidden_layers - config.first_k_dense_replace
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        products = 2 * prompt * (self._dense_weights() + moe * config.num_experts_per_tok * expert)
        per_pair = config.num_attention_heads * (config.qk_head_dim + config.v_head_dim)
        return self._ceilings.limit_seconds(
            0, products + prompt * prompt * per_pair * config.num_hidden_layers
        )

    def _dense_weights(self) -> int:
        """Weights that every token uses, without embedding, head and routed experts."""
        skipped = (".mlp.experts.", "embed_tokens", "lm_head")
        return sum(
            torch.Size(shape).numel()
            for name, shape in text_tensors(self._config).items()
            if not any(part in name for part in skipped)
        )
