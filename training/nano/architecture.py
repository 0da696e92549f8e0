"""kimi-nano's configuration files, in the layout of the published checkpoint."""

from __future__ import annotations

from typing import Any

from training.nano.vocabulary import Vocabulary

CONTEXT_TOKENS = 16_384
YARN_FACTOR = 4.0


def model_config(vocabulary: Vocabulary) -> dict[str, Any]:
    """config.json: every token id comes from the tokenizer's files."""
    ids = {
        "bos_token_id": vocabulary.special("[BOS]"),
        "eos_token_id": vocabulary.special("<|im_end|>"),
        "pad_token_id": vocabulary.special("[PAD]"),
    }
    return {
        "architectures": ["KimiK25ForConditionalGeneration"],
        "dtype": "bfloat16",
        "ignore_index": -100,
        "media_placeholder_token_id": vocabulary.special("<|media_pad|>"),
        "model_type": "kimi_k25",
        "text_config": _text_config() | ids | {"vocab_size": vocabulary.size},
        "tie_word_embeddings": False,
        "use_unified_vision_chunk": True,
        "video_placeholder": "<|kimi_k25_video_placeholder|>",
        "vision_config": _vision_config(),
    } | ids


def generation_config(vocabulary: Vocabulary) -> dict[str, Any]:
    """generation_config.json."""
    return {"eos_token_id": vocabulary.special("<|im_end|>"), "max_length": CONTEXT_TOKENS}


def preprocessor_config() -> dict[str, Any]:
    """preprocessor_config.json: the published media rules, unchanged."""
    return {
        "media_proc_cfg": {
            "fixed_output_tokens": None,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "in_patch_limit": 16384,
            "in_patch_limit_each_frame": 4096,
            "in_patch_limit_video": None,
            "max_num_frames_each_video": None,
            "merge_kernel_size": 2,
            "patch_limit_on_one_side": 512,
            "patch_size": 14,
            "sample_fps": 2.0,
            "temporal_merge_kernel_size": 4,
            "timestamp_mode": "hh:mm:ss.fff",
        }
    }


def _text_config() -> dict[str, Any]:
    return {
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "first_k_dense_replace": 1,
        "hidden_act": "silu",
        "hidden_size": 128,
        "intermediate_size": 256,
        "kv_lora_rank": 512,
        "max_position_embeddings": CONTEXT_TOKENS,
        "model_type": "kimi_k2",
        "moe_intermediate_size": 64,
        "moe_layer_freq": 1,
        "n_group": 1,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 4,
        "num_key_value_heads": 4,
        "num_nextn_predict_layers": 0,
        "q_lora_rank": 64,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 64,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": YARN_FACTOR,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": int(CONTEXT_TOKENS / YARN_FACTOR),
            "type": "yarn",
        },
        "rope_theta": 50000.0,
        "routed_scaling_factor": 2.827,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 1,
        "topk_method": "noaux_tc",
        "v_head_dim": 32,
    }


def _vision_config() -> dict[str, Any]:
    return {
        "init_pos_emb_height": 16,
        "init_pos_emb_time": 4,
        "init_pos_emb_width": 16,
        "merge_kernel_size": [2, 2],
        "merge_type": "sd2_tpool",
        "mm_hidden_size": 96,
        "mm_projector_type": "patchmerger",
        "patch_size": 14,
        "pos_emb_type": "divided_fixed",
        "projector_hidden_act": "gelu",
        "projector_ln_eps": 1e-05,
        "text_hidden_size": 128,
        "video_attn_type": "spatial_temporal",
        "vt_hidden_size": 96,
        "vt_intermediate_size": 192,
        "vt_num_attention_heads": 6,
        "vt_num_hidden_layers": 3,
    }
