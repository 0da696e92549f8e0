"""Reads the sizes of the vision tower and its projector."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.model.config.config_section import ConfigSection

_TOWER_ROPE_THETA = 10_000.0


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


def read_vision_config(section: ConfigSection, text_hidden_size: int) -> VisionModelConfig:
    """Reads a section with the published names; adds a problem for each unsupported feature."""

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
