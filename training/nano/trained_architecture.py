"""The configuration of a trained kimi-nano: that of `architecture.py` with sizes suited to training."""

from __future__ import annotations

from typing import Any

from training.nano.architecture import model_config
from training.nano.vocabulary import Vocabulary

# Query, key and value heads have one size, for which a CPU has its fastest attention. The latent has a
# quarter of the published width, because reading the cache dominates the cost of decoding on a CPU. Shared
# experts are as wide as the first layer's MLP: training starts with this dense model, and the routed experts
# join once it has learnt to copy.
TEXT_SIZES = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "kv_lora_rank": 128,
    "moe_intermediate_size": 256,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 5,
    "num_key_value_heads": 4,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}
VISION_SIZES = {
    "mm_hidden_size": 128,
    "text_hidden_size": 192,
    "vt_hidden_size": 128,
    "vt_intermediate_size": 384,
    "vt_num_attention_heads": 4,
    "vt_num_hidden_layers": 4,
}


def trained_config(vocabulary: Vocabulary) -> dict[str, Any]:
    """The content of config.json."""
    values = model_config(vocabulary)
    return values | {
        "text_config": values["text_config"] | TEXT_SIZES,
        "vision_config": values["vision_config"] | VISION_SIZES,
    }
