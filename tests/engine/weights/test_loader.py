"""Loading a checkpoint, whole and broken."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import CheckpointError
from services.engine.loading.text import load_text_model
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.headers import INDEX_NAME, SINGLE_NAME, read_headers, shard_names
from services.engine.weights.loader import TensorReader
from tests.support.tensors import read_tensors


@pytest.fixture
def checkpoint(nano_dir, tmp_path):
    directory = tmp_path / "checkpoint"
    shutil.copytree(nano_dir, directory)
    return directory


def edit(checkpoint, change):
    """Rewrites the first shard and the index after `change(tensors)`."""
    shard = shard_names(checkpoint)[0]
    tensors = load_file(checkpoint / shard)
    known = set(tensors)
    change(tensors)
    save_file(tensors, checkpoint / shard)
    path = checkpoint / INDEX_NAME
    index = json.loads(path.read_text())
    weight_map = {name: file for name, file in index["weight_map"].items() if name not in known}
    index["weight_map"] = weight_map | dict.fromkeys(tensors, shard)
    path.write_text(json.dumps(index))


def test_tensors_of_a_prefix_are_read_from_all_shards_under_their_full_names(checkpoint):
    headers = read_headers(checkpoint)
    tensors = read_tensors(checkpoint, "language_model.")
    assert set(tensors) == {name for name in headers if name.startswith("language_model.")}
    assert len({headers[name].shard for name in tensors}) > 1
    assert tensors["language_model.lm_head.weight"].dtype == torch.bfloat16
    both = read_tensors(checkpoint, ("vision_tower.", "mm_projector."), torch.float32)
    assert {name.split(".")[0] for name in both} == {"vision_tower", "mm_projector"}
    assert {tensor.dtype for tensor in both.values()} == {torch.float32}


def test_missing_extra_misshapen_and_integer_tensors_are_all_named(checkpoint):
    def change(tensors):
        del tensors["language_model.model.layers.0.mlp.up_proj.weight"]
        tensors["language_model.model.layers.0.mlp.surplus.weight"] = torch.zeros(2)
        tensors["language_model.model.layers.0.input_layernorm.weight"] = torch.zeros(3)
        tensors["language_model.model.layers.0.self_attn.q_a_layernorm.weight"] = torch.zeros(
            64, dtype=torch.int32
        )

    edit(checkpoint, change)
    with pytest.raises(CheckpointError) as caught:
        load_text_model(checkpoint, deterministic=True)
    for complaint in (
        "4 tensors",
        "layers.0.mlp.up_proj.weight is missing",
        "layers.0.mlp.surplus.weight does not belong to this model",
        "layers.0.input_layernorm.weight has shape [3], expected [128]",
        "layers.0.self_attn.q_a_layernorm.weight has dtype I32",
    ):
        assert complaint in caught.value.message


def test_rotary_tables_in_a_checkpoint_are_ignored(checkpoint):
    name = "language_model.model.layers.0.self_attn.rotary_emb.inv_freq"
    edit(checkpoint, lambda tensors: tensors.__setitem__(name, torch.zeros(32)))
    Checkpoint.checked(checkpoint)
    assert name not in read_tensors(checkpoint, "language_model.")


def test_a_shard_that_is_not_there_is_named(checkpoint):
    shard = shard_names(checkpoint)[1]
    (checkpoint / shard).unlink()
    with pytest.raises(CheckpointError, match=shard):
        read_headers(checkpoint)


def test_a_shard_that_is_no_safetensors_file_is_named(checkpoint):
    shard = shard_names(checkpoint)[0]
    (checkpoint / shard).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(CheckpointError, match=f"{shard} is not a safetensors file"):
        read_headers(checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, None])
def test_a_weight_that_is_not_finite_is_refused_with_its_name_and_file(tmp_path, value, dtype):
    weights = torch.ones(8, 16, dtype=torch.bfloat16)
    weights[3, 5] = value
    save_file({"a.weight": weights, "b.weight": torch.ones(2)}, tmp_path / SINGLE_NAME)
    reader = TensorReader(tmp_path, read_headers(tmp_path), dtype)
    assert reader.read("b.weight").tolist() == [1, 1]
    with pytest.raises(CheckpointError, match=rf"{SINGLE_NAME}: 1 of 128 values of a.weight are NaN or Inf"):
        reader.read("a.weight")


@pytest.mark.parametrize("name", ["a.weight", "a.weight_scale"])
def test_an_int4_scale_that_is_not_finite_is_refused_packed_or_not(tmp_path, name):
    tensors = {
        "a.weight_packed": torch.zeros(2, 8, dtype=torch.int32),
        "a.weight_scale": torch.tensor([[1.0, 1.0], [float("inf"), 1.0]], dtype=torch.bfloat16),
        "a.weight_shape": torch.tensor([2, 64], dtype=torch.int32),
    }
    save_file(tensors, tmp_path / SINGLE_NAME)
    reader = TensorReader(tmp_path, read_headers(tmp_path), torch.float32)
    with pytest.raises(CheckpointError, match=r"1 of 4 values of a.weight_scale are NaN or Inf"):
        reader.read(name)


def test_a_value_that_only_the_dtype_of_the_model_cannot_hold_is_refused_in_it(tmp_path):
    save_file({"a.weight": torch.tensor([1e5, 1.0])}, tmp_path / SINGLE_NAME)
    headers = read_headers(tmp_path)
    assert TensorReader(tmp_path, headers, torch.float32).read("a.weight").tolist() == [1e5, 1.0]
    with pytest.raises(CheckpointError, match=r"Inf in torch.float16"):
        TensorReader(tmp_path, headers, torch.float16).read("a.weight")


def test_finite_weights_whose_sum_is_not_are_read(tmp_path):
    save_file({"a.weight": torch.full((16,), 60_000.0, dtype=torch.float16)}, tmp_path / SINGLE_NAME)
    read = TensorReader(tmp_path, read_headers(tmp_path), torch.float16).read("a.weight")
    assert read.tolist() == [60_000.0] * 16


def test_a_model_with_a_weight_that_is_not_finite_does_not_load(checkpoint):
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    edit(checkpoint, lambda tensors: tensors[name][7].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=name):
        load_text_model(checkpoint, deterministic=True)


def test_an_index_that_disagrees_with_its_shards_is_refused(checkpoint):
    path = checkpoint / INDEX_NAME
    index = json.loads(path.read_text())
    del index["weight_map"]["language_model.lm_head.weight"]
    index["weight_map"]["language_model.model.norm.bias"] = shard_names(checkpoint)[0]
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError) as caught:
        read_headers(checkpoint)
    assert "language_model.model.norm.bias is not in model-00001" in caught.value.message
    assert "language_model.lm_head.weight is not in the index" in caught.value.message


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "no weight_map"),
        ("{}", "no weight_map"),
        ('{"weight_map": 3}', "must map"),
        ('{"weight_map": {"a": "../b"}}', "outside the checkpoint"),
    ],
)
def test_an_index_that_is_none_is_named(checkpoint, content, named):
    (checkpoint / INDEX_NAME).write_text(content)
    with pytest.raises(CheckpointError, match=named):
        read_headers(checkpoint)


def test_one_file_without_an_index_is_a_checkpoint_too(tmp_path):
    save_file({"mm_projector.pre_norm.bias": torch.arange(4.0)}, tmp_path / SINGLE_NAME)
    assert read_tensors(tmp_path, "mm_projector.")["mm_projector.pre_norm.bias"].tolist() == [0, 1, 2, 3]


def test_the_biases_that_choose_experts_stay_in_float32(checkpoint):
    name = "language_model.model.layers.2.mlp.gate.e_score_correction_bias"
    stored = read_tensors(checkpoint, name)[name]
    read = Checkpoint.checked(checkpoint).reader(torch.bfloat16).read(name)
    assert torch.equal(read, stored)
    assert not torch.equal(read, read.bfloat16().float())
