"""The names and shapes of the tensors that the text model and the vision part are made of."""

from __future__ import annotations

from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.vision_config import VisionModelConfig

Shape = tuple[int, ...]


def text_tensors(config: TextConfig) -> dict[str, Shape]:
    """A text model's tensors as TextModel takes them, linear weights as [out, in]. In the shards each name is
    behind the architecture's prefix.
    """
    hidden = config.hidden_size
    shapes: dict[str, Shape] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config.vocab_size, hidden),
    }
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        shapes[f"{prefix}input_layernorm.weight"] = (hidden,)
        shapes[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
        shapes |= _named(f"{prefix}self_attn.", _attention(config))
        shapes |= _named(f"{prefix}mlp.", _feed_forward(config, layer))
    return shapes


def vision_tensors(config: VisionModelConfig) -> dict[str, Shape]:
    """The vision tower's and the projector's tensors."""
    width, patch = config.hidden_size, config.patch_size
    shapes: dict[str, Shape] = {
        "vision_tower.patch_embed.proj.weight": (width, 3, patch, patch),
        "vision_tower.patch_embed.proj.bias": (width,),
        "vision_tower.patch_embed.pos_emb.weight": (config.pos_emb_height, config.pos_emb_width, width),
    }
    for block in range(config.num_hidden_layers):
        prefix = f"vision_tower.encoder.blocks.{block}."
        for norm in ("norm0", "norm1"):
            shapes |= _norm(f"{prefix}{norm}", width)
        shapes |= _linear(f"{prefix}wqkv", 3 * width, width)
        shapes |= _linear(f"{prefix}wo", width, width)
        shapes |= _linear(f"{prefix}mlp.fc0", config.intermediate_size, width)
        shapes |= _linear(f"{prefix}mlp.fc1", width, config.intermediate_size)
    shapes |= _norm("vision_tower.encoder.final_layernorm", width)
    merged = width * config.merge_kernel_size[0] * config.merge_kernel_size[1]
    shapes |= _norm("mm_projector.pre_norm", width)
    shapes |= _linear("mm_projector.proj.0", merged, merged)
    shapes |= _linear("mm_projector.proj.2", config.text_hidden_size, merged)
    return shapes


def _attention(config: TextConfig) -> dict[str, Shape]:
    heads, hidden = config.num_attention_heads, config.hidden_size
    return {
        "q_a_proj.weight": (config.q_lora_rank, hidden),
        "q_a_layernorm.weight": (config.q_lora_rank,),
        "q_b_proj.weight": (heads * config.qk_head_dim, config.q_lora_rank),
        "kv_a_proj_with_mqa.weight": (config.kv_width, hidden),
        "kv_a_layernorm.weight": (config.kv_lora_rank,),
        "kv_b_proj.weight": (heads * (config.qk_nope_head_dim + config.v_head_dim), config.kv_lora_rank),
        "o_proj.weight": (hidden, heads * config.v_head_dim),
    }


def _feed_forward(config: TextConfig, layer: int) -> dict[str, Shape]:
    if config.is_dense(layer):
        return _gated(config.hidden_size, config.intermediate_size)
    width = config.moe_intermediate_size
    shapes: dict[str, Shape] = {
        "gate.weight": (config.n_routed_experts, config.hidden_size),
        "gate.e_score_correction_bias": (config.n_routed_experts,),
    }
    shapes |= _named("shared_experts.", _gated(config.hidden_size, width * config.n_shared_experts))
    for expert in range(config.n_routed_experts):
        shapes |= _named(f"experts.{expert}.", _gated(config.hidden_size, width))
    return shapes


def _gated(hidden: int, width: int) -> dict[str, Shape]:
    return {
        "gate_proj.weight": (width, hidden),
        "up_proj.weight": (width, hidden),
        "down_proj.weight": (hidden, width),
    }


def _linear(name: str, out: int, into: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _named(prefix: str, shapes: dict[str, Shape]) -> dict[str, Shape]:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}
