"""The sizes of the published model, for tests that need its shapes but no weights."""

from __future__ import annotations

from typing import Any

from services.engine.model.architectures import parse_config
from services.engine.model.config.model_config import ModelConfig

_QUANTIZATION = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "kv_cache_scheme": None,
    "config_groups": {
        "group_0": {
            "input_activations": None,
            "output_activations": None,
            "targets": ["Linear"],
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 32,
                "dynamic": False,
                "actorder": None,
            },
        }
    },
}
_TEXT = {
    "model_type": "kimi_k2",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 384,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.827,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 50000.0,
    "rope_scaling": {
        "type": "yarn",
        "factor": 64.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    },
    "max_position_embeddings": 262144,
    "vocab_size": 163840,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "quantization_config": _QUANTIZATION,
}


def published_values() -> dict[str, Any]:
    """config.json of Kimi-K2.5, as far as it decides about the text model; the vision part is the default."""
    return {
        "model_type": "kimi_k25",
        "media_placeholder_token_id": 163605,
        "tie_word_embeddings": False,
        "text_config": dict(_TEXT),
    }


def published_config() -> ModelConfig:
    """The same, read."""
    return parse_config(published_values())
