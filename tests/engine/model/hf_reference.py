"""transformers' Kimi-K2.5 with our weights: the reference that logits are compared against.

Weights are mapped in memory from the published names, because save_pretrained writes other ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Kimi_K25Config, Kimi_K25ForConditionalGeneration

from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.text_config import TextConfig
from services.engine.model.config.vision_config import VisionModelConfig
from services.engine.model.tensor_names import vision_tensors


def reference_model(
    config: ModelConfig, tensors: Mapping[str, Tensor], inner_norm_eps: float | None = None
) -> Kimi_K25ForConditionalGeneration:
    """Float32, from tensors in the published names (text, vision_tower, mm_projector).

    transformers builds the two norms inside attention with eps 1e-6 whatever the configuration says; they get
    `inner_norm_eps`, by default the configuration's.
    """
    model = Kimi_K25ForConditionalGeneration._from_config(
        reference_config(config),
        attn_implementation="sdpa",
        # The grouped form wants widths that are multiples of 16 bytes.
        experts_implementation="eager",
        dtype=torch.float32,
    ).eval()
    model.load_state_dict(reference_tensors(config, tensors), strict=True)
    eps = config.text.rms_norm_eps if inner_norm_eps is None else inner_norm_eps
    for layer in model.model.language_model.layers:
        layer.self_attn.q_a_layernorm.variance_epsilon = eps
        layer.self_attn.kv_a_layernorm.variance_epsilon = eps
    return model


def text_reference(
    text: TextConfig, weights: Mapping[str, Tensor], inner_norm_eps: float | None = None
) -> Kimi_K25ForConditionalGeneration:
    """The reference from the text model's tensors alone: the tower is as small as can be, and zero."""
    vision = VisionModelConfig(14, 8, 8, 4, 2, 1, 16, 24, (2, 2), text.hidden_size, 1e-5)
    config = ModelConfig("kimi_k25", text, vision, media_placeholder_token_id=96, quantization=None)
    tower = {name: torch.zeros(shape) for name, shape in vision_tensors(vision).items()}
    published = {f"language_model.{name}": tensor for name, tensor in weights.items()}
    return reference_model(config, published | tower, inner_norm_eps)


@torch.inference_mode()
def reference_logits(model: Kimi_K25ForConditionalGeneration, token_ids: list[int], **media: Any) -> Tensor:
    """Logits of every token, `[T, vocab]`; `media` are the model's arguments about them."""
    logits: Tensor = model(input_ids=torch.tensor([token_ids]), use_cache=False, **media).logits[0]
    return logits


def reference_config(config: ModelConfig) -> Kimi_K25Config:
    """The same configuration in transformers' spelling."""
    return Kimi_K25Config(
        text_config=_text_config(config.text),
        vision_config=_vision_config(config.vision),
        projection_hidden_size=config.vision.hidden_size,
        projection_layer_norm_eps=config.vision.projector_ln_eps,
        image_token_id=config.media_placeholder_token_id,
        tie_word_embeddings=False,
    )


def reference_tensors(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' state dict from published names, in float32."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.float()
        if name.startswith("language_model."):
            renamed[_text_name(name)] = value
        elif name.startswith("vision_tower."):
            renamed |= _tower(name, value, config.vision.num_attention_heads)
        else:
            renamed["model." + name.replace("proj.0", "in_proj").replace("proj.2", "out_proj")] = value
    for layer in range(config.text.first_k_dense_replace, config.text.num_hidden_layers):
        _fuse_experts(
            renamed, f"model.language_model.layers.{layer}.mlp.experts.", config.text.n_routed_experts
        )
    return renamed


def _text_config(text: TextConfig) -> dict[str, Any]:
    yarn = text.rope_scaling
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": text.rope_theta}
    if yarn is not None:
        rope |= {"rope_type": "yarn"} | vars(yarn)
    same = {name: value for name, value in vars(text).items() if name not in ("rope_theta", "rope_scaling")}
    return same | {
        "model_type": "deepseek_v3",
        "num_key_value_heads": text.num_attention_heads,
        "n_group": 1,
        "topk_group": 1,
        "rope_interleave": True,
        "rope_parameters": rope,
        "num_nextn_predict_layers": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
    }


def _vision_config(vision: VisionModelConfig) -> dict[str, Any]:
    other = ("text_hidden_size", "projector_ln_eps")
    return {name: value for name, value in vars(vision).items() if name not in other}


def _text_name(name: str) -> str:
    if name == "language_model.lm_head.weight":
        return "lm_head.weight"
    return "model.language_model." + name.removeprefix("language_model.model.")


def _fuse_experts(tensors: dict[str, Tensor], prefix: str, count: int) -> None:
    def take(expert: int, part: str) -> Tensor:
        return tensors.pop(f"{prefix}{expert}.{part}_proj.weight")

    gate_up = [torch.cat([take(expert, "gate"), take(expert, "up")]) for expert in range(count)]
    tensors[f"{prefix}gate_up_proj"] = torch.stack(gate_up)
    tensors[f"{prefix}down_proj"] = torch.stack([take(expert, "down") for expert in range(count)])


def _tower(name: str, value: Tensor, heads: int) -> dict[str, Tensor]:
    renamed = name.replace("encoder.blocks", "layers").replace("encoder.", "")
    renamed = renamed.replace("pos_emb.weight", "pos_emb.position_embeddings")
    renamed = renamed.replace("norm1", "norm2").replace("norm0", "norm1")
    renamed = renamed.replace("fc1", "fc2").replace("fc0", "fc1").replace(".wo.", ".attn.proj.")
    if ".wqkv." not in renamed:
        return {f"model.{renamed}": value}
    query, key, rest = value.chunk(3)
    parts = {"q": _half_split(query, heads), "k": _half_split(key, heads), "v": rest}
    return {f"model.{renamed.replace('wqkv', f'attn.{part}_proj')}": rows for part, rows in parts.items()}


def _half_split(rows: Tensor, heads: int) -> Tensor:
    """From adjacent rotary pairs to transformers' order: first elements of a head, then second ones."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
