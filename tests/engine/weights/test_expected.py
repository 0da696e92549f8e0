"""The table of expected tensors."""

from __future__ import annotations

import dataclasses

import pytest

from services.decode.config import DecodeConfig
from services.engine.loading.memory_plan import plan_memory
from services.engine.model.architectures import load_config
from services.engine.weights.expected import StoredTensor, expected_tensors

EXPERT = "language_model.model.layers.60.mlp.experts.383."


@pytest.fixture(scope="module")
def published(shared_dir):
    return load_config(shared_dir / "data" / "kimi-k2.5")


@pytest.fixture(scope="module")
def expected(published):
    return expected_tensors(published)


def test_the_published_checkpoint_has_208550_tensors_of_595_gb(expected):
    assert len(expected) == 208_550
    assert sum(tensor.nbytes for tensor in expected.values()) == 595_148_192_736


def test_routed_experts_and_nothing_else_are_packed(expected):
    assert expected[f"{EXPERT}gate_proj.weight_packed"] == StoredTensor((2048, 896), "I32", 0)
    assert expected[f"{EXPERT}gate_proj.weight_scale"] == StoredTensor((2048, 224), "BF16", 0)
    assert expected[f"{EXPERT}down_proj.weight_packed"] == StoredTensor((7168, 256), "I32", 1, 4)
    assert expected[f"{EXPERT}down_proj.weight_shape"].dtypes == ("I32", "I64")
    of_experts = {name: tensor.nbytes for name, tensor in expected.items() if ".mlp.experts." in name}
    assert len(of_experts) == 60 * 384 * 9
    # 4.5 bits a weight, and the shape in 8 bytes.
    assert sum(of_experts.values()) == 60 * 384 * 3 * (7168 * 2048 * 9 // 16 + 8)
    others = [tensor for name, tensor in expected.items() if name not in of_experts]
    assert {tensor.dtype for tensor in others} == {"BF16", "F32"}


def test_without_quantisation_every_expert_is_three_plain_tensors(published):
    expected = expected_tensors(dataclasses.replace(published, quantization=None))
    assert expected[f"{EXPERT}down_proj.weight"] == StoredTensor((7168, 2048), "BF16", 1)
    assert len(expected) == 208_550 - 60 * 384 * 6


def test_the_memory_plan_adds_up(published):
    plan = plan_memory(published, DecodeConfig(tp=8).shape_on("cuda"), 141_000_000_000)
    rest = plan.room - plan.pool
    assert plan.needed + plan.reserve + plan.pool + rest == plan.memory
    assert 8 * plan.split + plan.replicated + plan.vision == 595_148_192_736
    assert plan.page_bytes == 64 * 70_272
    assert 0 <= rest < plan.page_bytes
    *amounts, memory, vision = [int(line.split()[0].replace(",", "")) for line in plan.lines()[1:]]
    assert sum(amounts) == memory == plan.memory
    assert vision == plan.vision
