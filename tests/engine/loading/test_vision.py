"""Loading the vision half of a checkpoint."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import CheckpointError
from services.engine.loading.vision import load_vision_model
from tests.vision.tiny_checkpoint import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path)


def test_every_parameter_is_the_stored_tensor_of_its_name(checkpoint):
    stored = load_file(checkpoint / "model.safetensors")
    loaded = load_vision_model(checkpoint).state_dict()
    assert loaded.keys() == {name for name in stored if not name.startswith("language_model.")}
    assert all(torch.equal(loaded[name], stored[name]) for name in loaded)


def test_the_model_is_ready_for_inference_in_the_dtype_asked_for(checkpoint):
    model = load_vision_model(checkpoint, torch.bfloat16)
    assert not model.training
    rows = model.encode(torch.zeros(16, 3, 14, 14), (1, 4, 4))
    assert (rows.dtype, rows.shape) == (torch.bfloat16, (4, 40))
    assert not rows.requires_grad


def test_bf16_stays_near_f32(checkpoint):
    pixels = torch.rand(60, 3, 14, 14) * 2 - 1
    exact = load_vision_model(checkpoint).encode(pixels, (1, 6, 10))
    rough = load_vision_model(checkpoint, torch.bfloat16).encode(pixels, (1, 6, 10)).float()
    assert (rough - exact).abs().max() < 0.1 * exact.std()


def test_a_missing_tensor_is_named(checkpoint):
    path = checkpoint / "model.safetensors"
    stored = load_file(path)
    del stored["mm_projector.proj.2.bias"]
    save_file(stored, path)
    with pytest.raises(CheckpointError, match=r"mm_projector\.proj\.2\.bias is missing"):
        load_vision_model(checkpoint)
