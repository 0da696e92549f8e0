"""The configuration of Kimi-K2.5: a text section, a vision section, and int4 experts in either place."""

from __future__ import annotations

from services.engine.model.config.config_section import ConfigSection
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.config.quantization import GROUP_SIZE, read_quantization
from services.engine.model.config.text_config import TextConfig, read_text_config
from services.engine.model.config.vision_config import read_vision_config

KIMI_K25 = "kimi_k25"
TEXT_SECTION = "text_config"


def read_kimi_k25(top: ConfigSection) -> ModelConfig:
    """Reads the whole file; adds missing and unsupported keys to the section's problems."""
    top.expect("tie_word_embeddings", [False], False)
    text_section = top.required_section(TEXT_SECTION)
    text_section.expect("model_type", ["kimi_k2", "deepseek_v3"], None)
    text = read_text_config(text_section)
    # As in transformers, a checkpoint without the section has the published tower.
    vision_section = top.section("vision_config") or ConfigSection({}, "vision_config.", top.problems)
    vision = read_vision_config(vision_section, text.hidden_size)
    # transformers writes these two values outside of the vision section.
    top.expect("projection_hidden_size", [vision.hidden_size], vision.hidden_size)
    top.expect("projection_layer_norm_eps", [vision.projector_ln_eps], vision.projector_ln_eps)
    placeholder = top.integer("media_placeholder_token_id", minimum=0)
    quantization = read_quantization(top, text_section)
    if quantization is not None:
        _check_groups(text_section, text)
    return ModelConfig(KIMI_K25, text, vision, placeholder, quantization)


def _check_groups(section: ConfigSection, text: TextConfig) -> None:
    """Checks that the rows that experts multiply consist of whole groups."""
    for name in ("hidden_size", "moe_intermediate_size"):
        if getattr(text, name) % GROUP_SIZE:
            section.complain(name, f"must be a multiple of {GROUP_SIZE} for int4 experts")
