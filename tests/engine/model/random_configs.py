"""Text configurations drawn at random, within what transformers' port takes too."""

from __future__ import annotations

import random

from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.yarn import YarnScaling
from tests.engine.text_models import tiny_config


def draw_config(rng: random.Random) -> TextConfig:
    """Any widths, even or odd; one to four layers, dense ones among them; any YaRN stretch, or none."""
    experts = rng.randrange(2, 13)
    layers = rng.randrange(1, 5)
    return tiny_config(
        hidden_size=rng.randrange(17, 97),
        num_hidden_layers=layers,
        first_k_dense_replace=rng.randrange(0, layers + 1),
        intermediate_size=rng.randrange(8, 120),
        moe_intermediate_size=rng.randrange(8, 60),
        num_attention_heads=rng.randrange(1, 7),
        q_lora_rank=rng.randrange(8, 50),
        kv_lora_rank=rng.randrange(8, 80),
        qk_nope_head_dim=rng.randrange(4, 40),
        qk_rope_head_dim=2 * rng.randrange(2, 20),
        v_head_dim=rng.randrange(4, 40),
        n_routed_experts=experts,
        num_experts_per_tok=rng.randrange(1, experts + 1),
        n_shared_experts=rng.randrange(1, 4),
        norm_topk_prob=rng.random() < 0.7,
        routed_scaling_factor=rng.uniform(0.5, 3.0),
        rms_norm_eps=rng.choice([1e-5, 1e-6]),
        rope_theta=rng.choice([10_000.0, 50_000.0, 1e6]),
        rope_scaling=_yarn(rng) if rng.random() < 0.8 else None,
    )


def _yarn(rng: random.Random) -> YarnScaling:
    return YarnScaling(
        factor=rng.choice([1.5, 4.0, 40.0, 64.0]),
        original_max_position_embeddings=rng.choice([16, 64, 256, 4096]),
        beta_fast=rng.choice([1.0, 32.0]),
        beta_slow=1.0,
        mscale=rng.choice([0.7, 1.0]),
        mscale_all_dim=rng.choice([0.7, 1.0]),
    )
