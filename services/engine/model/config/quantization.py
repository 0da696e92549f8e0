"""Reads from config.json how weights are quantised: not at all, or as the published int4 experts."""

from __future__ import annotations

from typing import Any

from services.engine.model.config.config_section import ConfigSection

METHOD = "compressed-tensors"
GROUP_SIZE = 32
"""Consecutive inputs of a row that share a scale."""


def read_quantization(*places: ConfigSection) -> str | None:
    """METHOD if one of `places` has a `quantization_config`, None for plain weights.

    Adds a problem for every key that differs from the published scheme: packed signed int4, symmetric, groups
    of 32 inputs. The names of tensors decide which of them are packed; `ignore` does not.
    """
    for place in places:
        section = place.section("quantization_config")
        if section is not None:
            _check(section)
            return METHOD
    return None


def _check(section: ConfigSection) -> None:
    section.expect("quant_method", [METHOD], None)
    section.expect("format", ["pack-quantized"], None)
    section.expect("quantization_status", ["compressed"], "compressed")
    section.expect("kv_cache_scheme", [None], None)
    groups = section.required_section("config_groups")
    names = groups.names()
    if len(names) != 1:
        section.complain("config_groups", f"must be one group, not {len(names)}")
        return
    group = groups.required_section(names[0])
    group.expect("input_activations", [None], None)
    group.expect("output_activations", [None], None)
    weights = group.required_section("weights")
    weights.expect("num_bits", [4], None)
    weights.expect("type", ["int"], None)
    weights.expect("symmetric", [True], None)
    weights.expect("strategy", ["group"], None)
    weights.expect("group_size", [GROUP_SIZE], None)
    weights.expect("dynamic", [False], False)
    weights.expect("actorder", [None], None)


def published_scheme() -> dict[str, Any]:
    """The published `quantization_config`."""
    weights: dict[str, Any] = {
        "actorder": None,
        "block_structure": None,
        "dynamic": False,
        "group_size": GROUP_SIZE,
        "num_bits": 4,
        "observer": "minmax",
        "observer_kwargs": {},
        "strategy": "group",
        "symmetric": True,
        "type": "int",
    }
    group = {"input_activations": None, "output_activations": None, "targets": ["Linear"], "weights": weights}
    return {
        "config_groups": {"group_0": group},
        "format": "pack-quantized",
        "ignore": [
            "lm_head",
            "re:.*self_attn.*",
            "re:.*shared_experts.*",
            "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
        ],
        "kv_cache_scheme": None,
        "quant_method": METHOD,
        "quantization_status": "compressed",
    }
