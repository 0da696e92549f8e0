"""Reads the sizes of a text model with latent attention and routed experts."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.model.config.config_section import ConfigSection
from services.engine.model.config.yarn import YarnScaling, read_rope


@dataclass(frozen=True)
class TextConfig:
    """The text model, in the names of the published config.json."""

    hidden_size: int
    num_hidden_layers: int
    first_k_dense_replace: int
    intermediate_size: int
    moe_intermediate_size: int
    num_attention_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    n_routed_experts: int
    num_experts_per_tok: int
    n_shared_experts: int
    norm_topk_prob: bool
    routed_scaling_factor: float
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: YarnScaling | None
    max_position_embeddings: int
    vocab_size: int

    @property
    def kv_width(self) -> int:
        """Cached values per token and layer: the latent and the rope key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def qk_head_dim(self) -> int:
        """Number of values in one head's query."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def is_dense(self, layer: int) -> bool:
        """Whether the layer has one plain MLP instead of experts."""
        return layer < self.first_k_dense_replace


def read_text_config(section: ConfigSection) -> TextConfig:
    """Reads a section with the names of DeepSeek-V3; adds a problem for each unsupported feature."""
    section.expect("hidden_act", ["silu"], "silu")
    section.expect("scoring_func", ["sigmoid"], "sigmoid")
    section.expect("topk_method", ["noaux_tc"], "noaux_tc")
    section.expect("attention_bias", [False], False)
    section.expect("tie_word_embeddings", [False], False)
    section.expect("moe_layer_freq", [1], 1)
    # If these are absent, transformers uses several groups.
    section.expect("n_group", [1], None)
    section.expect("topk_group", [1], None)
    section.expect("rope_interleave", [True], True)
    theta, yarn = read_rope(section)
    text = TextConfig(
        hidden_size=section.integer("hidden_size"),
        num_hidden_layers=section.integer("num_hidden_layers"),
        first_k_dense_replace=section.integer("first_k_dense_replace", minimum=0),
        intermediate_size=section.integer("intermediate_size"),
        moe_intermediate_size=section.integer("moe_intermediate_size"),
        num_attention_heads=section.integer("num_attention_heads"),
        q_lora_rank=section.integer("q_lora_rank"),
        kv_lora_rank=section.integer("kv_lora_rank"),
        qk_nope_head_dim=section.integer("qk_nope_head_dim"),
        qk_rope_head_dim=section.integer("qk_rope_head_dim", minimum=2),
        v_head_dim=section.integer("v_head_dim"),
        n_routed_experts=section.integer("n_routed_experts"),
        num_experts_per_tok=section.integer("num_experts_per_tok"),
        n_shared_experts=section.integer("n_shared_experts"),
        norm_topk_prob=section.boolean("norm_topk_prob", True),
        routed_scaling_factor=section.number("routed_scaling_factor"),
        rms_norm_eps=section.number("rms_norm_eps"),
        rope_theta=theta,
        rope_scaling=yarn,
        max_position_embeddings=section.integer("max_position_embeddings"),
        vocab_size=section.integer("vocab_size"),
    )
    if text.qk_rope_head_dim % 2:
        section.complain("qk_rope_head_dim", f"must be even, not {text.qk_rope_head_dim}")
    section.expect("num_key_value_heads", [text.num_attention_heads, None], None)
    if text.num_experts_per_tok > text.n_routed_experts:
        section.complain("num_experts_per_tok", f"exceeds n_routed_experts ({text.n_routed_experts})")
    return text
