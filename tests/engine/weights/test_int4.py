"""int4 weights: the format, and a model loaded from them."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.common.errors import CheckpointError
from services.common.model_types import read_config
from services.engine.loading.text import load_text_model
from services.engine.weights.headers import shard_names
from services.engine.weights.int4 import dequantise as fill
from services.engine.weights.int4 import pack, unpack
from services.engine.weights.random_checkpoint import with_bf16, with_int4, write_random_checkpoint
from services.engine.weights.verify import verify
from tests.engine.text_models import greedy, make_runner, pages_for
from tests.support.tensors import read_tensors

PROJECTION = "language_model.model.layers.1.mlp.experts.2.down_proj."


def dequantise(packed, scale, dtype):
    return fill(packed, scale, torch.empty(packed.shape[0], packed.shape[1] * 8, dtype=dtype))


@pytest.fixture
def int4(nano_dir, tmp_path):
    directory = tmp_path / "int4"
    write_random_checkpoint(directory, with_int4(read_config(nano_dir / "config.json")), seed=5)
    return directory


def test_the_lowest_nibble_comes_first_and_is_stored_plus_eight():
    words = torch.tensor([[0x76543210, 0xFEDCBA98 - (1 << 32)]], dtype=torch.int32)
    assert unpack(words).tolist() == [[-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert torch.equal(pack(unpack(words)), words)


def test_every_32_inputs_have_a_scale_of_their_own():
    rng = random.Random(3)
    words = [[rng.getrandbits(32) for _ in range(8)] for _ in range(3)]
    scales = [[0.5, 0.0078125], [1.0, 3.0], [2.0, 0.25]]
    expected = [
        [((row[k // 8] >> (4 * (k % 8))) % 16 - 8) * scale[k // 32] for k in range(64)]
        for row, scale in zip(words, scales, strict=True)
    ]
    signed = torch.tensor(words, dtype=torch.int64).to(torch.int32)
    assert dequantise(signed, torch.tensor(scales, dtype=torch.bfloat16), torch.float32).tolist() == expected


def test_the_rows_of_a_large_weight_are_all_dequantised():
    packed = torch.randint(-(2**31), 2**31, (700, 512), dtype=torch.int64).to(torch.int32)
    scale = torch.rand(700, 128).to(torch.bfloat16)
    whole = unpack(packed).float() * scale.float().repeat_interleave(32, dim=1)
    assert torch.equal(dequantise(packed, scale, torch.float32), whole)
    assert torch.equal(dequantise(packed, scale, torch.bfloat16), whole.to(torch.bfloat16))


def test_int4_and_bf16_checkpoints_of_the_same_values_give_the_same_tokens(int4, tmp_path, nano_dir):
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps(with_bf16(read_config(int4 / "config.json"))))
    stored = {}
    for shard in shard_names(int4):
        stored |= load_file(int4 / shard)
    for name in [name for name in stored if name.endswith("weight_packed")]:
        stem = name.removesuffix("_packed")
        packed, scale = stored.pop(name), stored.pop(f"{stem}_scale")
        del stored[f"{stem}_shape"]
        stored[stem] = dequantise(packed, scale, torch.bfloat16)
    save_file(stored, plain / "model.safetensors")
    prompt, pages = list(range(5, 40)), pages_for(80)
    outputs = []
    for directory in (int4, plain):
        model = load_text_model(directory, deterministic=False, dtype=torch.bfloat16)
        outputs.append(greedy(make_runner(model, len(pages)), prompt, pages, 20))
    assert outputs[0] == outputs[1]
    assert len(set(outputs[0])) > 5


def edit(int4, change):
    """Rewrites the shard of layer 1."""
    path = int4 / shard_names(int4)[1]
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_weight_shape_that_contradicts_the_packed_weight_is_named(int4):
    edit(int4, lambda tensors: tensors[f"{PROJECTION}weight_shape"].fill_(7))
    with pytest.raises(CheckpointError, match=r"experts\.2\.down_proj\.weight_shape says \[7, 7\]"):
        load_text_model(int4, deterministic=False)


def test_a_packed_weight_of_another_dtype_is_named(int4):
    def change(tensors):
        tensors[f"{PROJECTION}weight_packed"] = tensors[f"{PROJECTION}weight_packed"].float()

    edit(int4, change)
    with pytest.raises(CheckpointError, match="weight_packed has dtype F32, expected one of I32"):
        load_text_model(int4, deterministic=False)


def test_a_weight_shape_may_be_int64(int4):
    before = read_tensors(int4, PROJECTION)

    def change(tensors):
        for name in [name for name in tensors if name.endswith("weight_shape")]:
            assert tensors[name].dtype == torch.int32
            tensors[name] = tensors[name].long()

    edit(int4, change)
    assert verify(int4).problems == []
    assert torch.equal(read_tensors(int4, PROJECTION)[f"{PROJECTION}weight"], before[f"{PROJECTION}weight"])
    edit(int4, lambda tensors: tensors[f"{PROJECTION}weight_shape"].fill_(7))
    with pytest.raises(CheckpointError, match=r"experts\.2\.down_proj\.weight_shape says \[7, 7\]"):
        load_text_model(int4, deterministic=False)


def test_int64_words_are_not_int4_weights(int4):
    def change(tensors):
        tensors[f"{PROJECTION}weight_packed"] = tensors[f"{PROJECTION}weight_packed"].long()

    edit(int4, change)
    assert verify(int4).problems == [f"{PROJECTION}weight_packed has dtype I64, expected one of I32"]


def test_a_packed_weight_is_read_under_its_plain_name(int4):
    tensors = read_tensors(int4, PROJECTION)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {f"{PROJECTION}weight": (128, 64)}
