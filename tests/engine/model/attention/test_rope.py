"""Rotary positions against the golden vectors."""

from __future__ import annotations

import json

import pytest
import torch

from services.engine.model.attention.rope import (
    RotaryEmbedding,
    correction_range,
    inverse_frequencies,
    rotate,
    softmax_scale,
    yarn_mscale,
)
from services.engine.model.config.yarn import YarnScaling
from tests.engine.text_models import tiny_config


@pytest.fixture(scope="module")
def golden(shared_dir):
    entries = json.loads((shared_dir / "data" / "golden" / "yarn.json").read_text())
    return {kind: [e for e in entries if e["kind"] == kind] for kind in ("yarn", "rope_rotate")}


def config_of(values):
    names = (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
    )
    return tiny_config(
        rope_theta=values["rope_theta"],
        rope_scaling=YarnScaling(**{name: values[name] for name in names}),
        qk_nope_head_dim=values["qk_nope_head_dim"],
        qk_rope_head_dim=values["qk_rope_head_dim"],
        # Vectors are given for positions beyond some of the configurations' contexts.
        max_position_embeddings=262_144,
    )


def test_frequencies_and_scales_are_the_golden_ones(golden, fidelity):
    assert len(golden["yarn"]) >= 4
    for entry in golden["yarn"]:
        config, expected = config_of(entry["input"]), entry["expected"]
        found = correction_range(config.qk_rope_head_dim, config.rope_theta, config.rope_scaling)
        assert found == (expected["low"], expected["high"])
        frequencies = inverse_frequencies(config.qk_rope_head_dim, config.rope_theta, config.rope_scaling)
        wanted = torch.tensor(expected["inv_freq"], dtype=torch.float64)
        error = float(((frequencies.double() - wanted).abs() / wanted).max())
        assert error <= 3e-7
        what = "inverse frequencies (relative), ranges and softmax scales"
        fidelity.near("YaRN and rotary embedding", what, "golden vectors (float64)", error)
        assert softmax_scale(config) == pytest.approx(expected["softmax_scale"], rel=1e-12)
        scaling = config.rope_scaling
        assert yarn_mscale(scaling.factor, 1.0) == pytest.approx(expected["mscale_value"], rel=1e-12)


def test_tables_are_the_golden_ones_at_every_listed_position(golden):
    for entry in golden["yarn"]:
        table = RotaryEmbedding(config_of(entry["input"]))
        for row in entry["expected"]["cos_sin"]:
            cos, sin = table.at(torch.tensor([row["position"]]))
            # An angle in float32 is off by its rounding: 1e-7 of the position.
            tolerance = 1e-6 + 3e-7 * row["position"]
            assert (cos[0].double() - torch.tensor(row["cos"], dtype=torch.float64)).abs().max() <= tolerance
            assert (sin[0].double() - torch.tensor(row["sin"], dtype=torch.float64)).abs().max() <= tolerance


def test_vectors_are_rotated_as_interleaved_pairs(golden, fidelity):
    config = config_of(golden["yarn"][0]["input"])
    table = RotaryEmbedding(config)
    for entry in golden["rope_rotate"]:
        values = entry["input"]
        cos, sin = table.at(torch.tensor([values["position"]]))
        rotated = rotate(torch.tensor([values["vector"]]), cos, sin)[0]
        expected = torch.tensor(entry["expected"]["vector_interleaved"])
        error = float((rotated - expected).abs().max())
        assert error <= 1e-6 + 1e-6 * values["position"]
        what = "rotated vectors (absolute; a float32 angle is off by 1e-7 of the position)"
        fidelity.near("YaRN and rotary embedding", what, "golden vectors (float64)", error)


def test_the_published_stretch_has_its_known_frequencies_and_scale():
    yarn = YarnScaling(64.0, 4096, 32.0, 1.0, 1.0, 1.0)
    known = {0: 1.0, 1: 0.7131110849, 8: 6.687403050e-2, 9: 4.377665595e-2, 12: 1.161915994e-2}
    known |= {16: 1.537296735e-3, 19: 1.583749910e-4, 20: 1.807023387e-5, 31: 4.382206456e-7}
    assert correction_range(64, 50_000.0, yarn) == (8, 20)
    frequencies = inverse_frequencies(64, 50_000.0, yarn)
    assert {index: float(frequencies[index]) for index in known} == pytest.approx(known, rel=5e-7)
    config = tiny_config(rope_scaling=yarn, qk_nope_head_dim=128, qk_rope_head_dim=64)
    assert softmax_scale(config) == pytest.approx(0.1446796258, rel=1e-9)


def test_without_a_factor_nothing_is_scaled():
    config = tiny_config(rope_scaling=None)
    assert softmax_scale(config) == config.qk_head_dim**-0.5
    assert yarn_mscale(1.0, 1.0) == 1.0
    assert inverse_frequencies(4, 100.0, None).tolist() == pytest.approx([1.0, 0.1])


def test_scores_depend_on_the_distance_alone():
    table = RotaryEmbedding(tiny_config())
    query, key = torch.randn(2, 1, 8)

    def score(query_position, key_position):
        turned_query = rotate(query, *table.at(torch.tensor([query_position])))
        return float((turned_query * rotate(key, *table.at(torch.tensor([key_position])))).sum())

    assert score(5, 3) == pytest.approx(score(605, 603), abs=1e-3)
    assert abs(score(5, 3) - score(5, 4)) > 1e-3
