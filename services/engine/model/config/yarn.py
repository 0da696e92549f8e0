"""Reads how a checkpoint's configuration stretches the rotary frequencies."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.model.config.config_section import ConfigSection


@dataclass(frozen=True)
class YarnScaling:
    """YaRN's stretch of the rotary frequencies; `original_max_position_embeddings` in tokens.

    `mscale_all_dim` 0: scores are not scaled.
    """

    factor: float
    original_max_position_embeddings: int
    beta_fast: float
    beta_slow: float
    mscale: float
    mscale_all_dim: float


def read_rope(section: ConfigSection) -> tuple[float, YarnScaling | None]:
    """`rope_theta`, and the stretch if there is one.

    Reads both spellings: `rope_scaling` beside `rope_theta`, or `rope_parameters` that holds both. Adds a
    problem for each setting that would change the frequencies or scores and is not supported.
    """
    section.expect("partial_rotary_factor", [1.0], 1.0)
    rope = section.section("rope_parameters", "rope_scaling")
    if rope is None:
        return section.number("rope_theta"), None
    theta = rope.number("rope_theta") if rope.has("rope_theta") else section.number("rope_theta")
    kind = "rope_type" if rope.has("rope_type") else "type"
    rope.expect(kind, ["yarn", "default"], None)
    rope.expect("partial_rotary_factor", [1.0], 1.0)
    if rope.equals(kind, "default"):
        return theta, None
    rope.expect("attention_factor", [None], None)
    rope.expect("truncate", [True], True)
    mscale, mscale_all_dim = _mscales(rope)
    return theta, YarnScaling(
        factor=rope.number("factor"),
        original_max_position_embeddings=rope.integer("original_max_position_embeddings"),
        beta_fast=rope.number("beta_fast", 32.0),
        beta_slow=rope.number("beta_slow", 1.0),
        mscale=mscale,
        mscale_all_dim=mscale_all_dim,
    )


def _mscales(rope: ConfigSection) -> tuple[float, float]:
    """`mscale` and `mscale_all_dim`; if only one is given, implementations differ in what they compute."""
    if rope.has("mscale_all_dim") and not rope.equals("mscale_all_dim", 0):
        if not rope.has("mscale"):
            rope.complain("mscale", "is missing beside mscale_all_dim")
        return rope.number("mscale", 1.0), rope.number("mscale_all_dim")
    rope.expect("mscale", [1.0, None], None)
    return 1.0, 0.0
