"""The entry of the table of architectures: a flat configuration with names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.model.architectures import Architecture
from services.engine.model.config.config_section import ConfigSection
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.text_config import TextConfig

if TYPE_CHECKING:
    from services.engine.model.text_layer import TextLayer


def _read(top: ConfigSection) -> ModelConfig:
    heads = top.integer("heads")
    text = TextConfig(
        hidden_size=top.integer("wingspan"),
        num_hidden_layers=top.integer("layers"),
        first_k_dense_replace=1,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_attention_heads=heads,
        q_lora_rank=24,
        kv_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        norm_topk_prob=True,
        routed_scaling_factor=1.5,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        rope_scaling=None,
        max_position_embeddings=top.integer("reach"),
        vocab_size=top.integer("words"),
    )
    return ModelConfig("tern", text, None, None, None)


def _layer() -> type[TextLayer]:
    from tern.layer import TernLayer

    return TernLayer


TERN = Architecture(_read, text_prefix="bird.", text_layer=_layer)
