"""A checkpoint of the published format with random weights and next to no text model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from services.engine.model.architectures import load_config
from services.engine.model.tensor_names import text_tensors, vision_tensors

CONFIG: dict[str, Any] = {
    "model_type": "kimi_k25",
    "media_placeholder_token_id": 30,
    "text_config": {
        "n_group": 1,
        "topk_group": 1,
        "model_type": "kimi_k2",
        "hidden_size": 40,
        "num_hidden_layers": 1,
        "first_k_dense_replace": 1,
        "intermediate_size": 16,
        "moe_intermediate_size": 8,
        "num_attention_heads": 2,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 4,
        "v_head_dim": 4,
        "n_routed_experts": 2,
        "num_experts_per_tok": 1,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "max_position_embeddings": 512,
        "vocab_size": 32,
    },
    "vision_config": {
        "patch_size": 14,
        "init_pos_emb_height": 8,
        "init_pos_emb_width": 8,
        "init_pos_emb_time": 4,
        "merge_kernel_size": [2, 2],
        "projector_ln_eps": 1e-5,
        "text_hidden_size": 40,
        "vt_hidden_size": 48,
        "vt_intermediate_size": 64,
        "vt_num_attention_heads": 4,
        "vt_num_hidden_layers": 2,
    },
}


def write_checkpoint(directory: Path, config_json: Mapping[str, Any] = CONFIG) -> Path:
    """The same bytes every time."""
    (directory / "config.json").write_text(json.dumps(config_json))
    config = load_config(directory)
    generator = torch.Generator().manual_seed(4)
    text = {f"language_model.{name}": shape for name, shape in text_tensors(config.text).items()}
    shapes = text | vision_tensors(config.vision)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.2 + ("norm" in name and name.endswith("weight"))
        for name, shape in shapes.items()
    }
    save_file(tensors, directory / "model.safetensors")
    return directory
