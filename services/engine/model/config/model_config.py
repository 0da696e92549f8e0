"""The model's configuration, read from a checkpoint's config.json and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.errors import CheckpointError
from services.engine.model.config.config_section import ConfigSection
from services.engine.model.config.quantization import GROUP_SIZE, read_quantization
from services.engine.model.config.yarn import YarnScaling, read_rope

_TOWER_ROPE_THETA = 10_000.0


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
        """Values of one head's query."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def is_dense(self, layer: int) -> bool:
        """Whether the layer has one plain MLP instead of experts."""
        return layer < self.first_k_dense_replace


@dataclass(frozen=True)
class VisionModelConfig:
    """MoonViT-3D and the projector; the file spells the tower's sizes with or without a ``vt_`` prefix.

    `pos_emb_height` and `pos_emb_width` are sizes of the learned table; `pos_emb_time` is the maximum number
    of frames of a medium.
    """

    patch_size: int
    pos_emb_height: int
    pos_emb_width: int
    pos_emb_time: int
    num_attention_heads: int
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    merge_kernel_size: tuple[int, int]
    text_hidden_size: int
    projector_ln_eps: float


@dataclass(frozen=True)
class ModelConfig:
    """A whole checkpoint. `quantization` is ``compressed-tensors`` if the routed experts are int4."""

    text: TextConfig
    vision: VisionModelConfig
    media_placeholder_token_id: int
    quantization: str | None

    @classmethod
    def from_dir(cls, directory: Path) -> ModelConfig:
        """Reads ``config.json``; CheckpointError names every missing or unsupported key."""
        path = Path(directory) / "config.json"
        return cls.from_dict(read_config(path), str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "config.json") -> ModelConfig:
        """Reads the parsed file; errors name `source`."""
        problems: list[str] = []
        top = ConfigSection(values, "", problems)
        top.expect("model_type", ["kimi_k25"], None)
        top.expect("tie_word_embeddings", [False], False)
        text_section = top.required_section("text_config")
        text = _text_config(text_section)
        # A checkpoint without the section has the published tower, as in transformers.
        vision_section = top.section("vision_config") or ConfigSection({}, "vision_config.", problems)
        vision = _vision_config(vision_section, text.hidden_size)
        # transformers writes these two values of the tower outside of its section.
        top.expect("projection_hidden_size", [vision.hidden_size], vision.hidden_size)
        top.expect("projection_layer_norm_eps", [vision.projector_ln_eps], vision.projector_ln_eps)
        placeholder = top.integer("media_placeholder_token_id", minimum=0)
        quantization = read_quantization(top, text_section)
        if quantization is not None:
            _check_groups(text_section, text)
        if problems:
            raise CheckpointError(f"{source}: " + "; ".join(problems))
        return cls(text, vision, placeholder, quantization)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in the file; raises CheckpointError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return values


def _check_groups(section: ConfigSection, text: TextConfig) -> None:
    """Checks that the rows of these widths, which experts multiply, are whole groups."""
    for name in ("hidden_size", "moe_intermediate_size"):
        if getattr(text, name) % GROUP_SIZE:
            section.complain(name, f"must be a multiple of {GROUP_SIZE} for int4 experts")


def _text_config(section: ConfigSection) -> TextConfig:
    section.expect("model_type", ["kimi_k2", "deepseek_v3"], None)
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


def _vision_config(section: ConfigSection, text_hidden_size: int) -> VisionModelConfig:
    def tower(name: str, default: int) -> int:
        return section.integer(f"vt_{name}" if section.has(f"vt_{name}") else name, default)

    def table(side: str, default: int) -> int:
        published = f"init_pos_emb_{side}"
        return section.integer(published if section.has(published) else f"pos_emb_{side}", default)

    section.expect("pos_emb_type", ["divided_fixed"], "divided_fixed")
    section.expect("video_attn_type", ["spatial_temporal"], "spatial_temporal")
    section.expect("merge_type", ["sd2_tpool"], "sd2_tpool")
    section.expect("mm_projector_type", ["patchmerger"], "patchmerger")
    section.expect("projector_hidden_act", ["gelu"], "gelu")
    section.expect("hidden_act", ["gelu_pytorch_tanh"], "gelu_pytorch_tanh")
    rope = section.section("rope_parameters")
    if rope is not None:
        rope.expect("rope_type", ["axial"], "axial")
        rope.expect("rope_theta", [_TOWER_ROPE_THETA], _TOWER_ROPE_THETA)
    vision = VisionModelConfig(
        patch_size=section.integer("patch_size", 14),
        pos_emb_height=table("height", 64),
        pos_emb_width=table("width", 64),
        pos_emb_time=table("time", 4),
        num_attention_heads=tower("num_attention_heads", 16),
        num_hidden_layers=tower("num_hidden_layers", 27),
        hidden_size=tower("hidden_size", 1152),
        intermediate_size=tower("intermediate_size", 4304),
        merge_kernel_size=section.pair("merge_kernel_size", (2, 2)),
        text_hidden_size=section.integer("text_hidden_size", text_hidden_size),
        projector_ln_eps=section.number("projector_ln_eps", 1e-5),
    )
    if vision.hidden_size % (4 * vision.num_attention_heads):
        section.complain(
            "vt_hidden_size", "must be a multiple of 4 times the heads (pairs of rows and columns)"
        )
    section.expect("mm_hidden_size", [vision.hidden_size], vision.hidden_size)
    if vision.text_hidden_size != text_hidden_size:
        section.complain("text_hidden_size", f"is not the text model's hidden_size ({text_hidden_size})")
    return vision
