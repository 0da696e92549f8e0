"""int4 weights against the compressed-tensors library, which defined the format."""

from __future__ import annotations

import shutil

import pytest
import torch
from compressed_tensors.compressors import ModelCompressor, PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

from services.engine.loading.text import load_text_model
from services.engine.model.config.quantization import published_scheme
from services.engine.weights.checkpoint import Checkpoint
from services.engine.weights.int4 import dequantise, pack, unpack
from services.engine.weights.verify import verify
from tests.support.tensors import read_tensors

EXPERTS = 3 * 8 * 3
"""Projections of routed experts in the embedded checkpoint."""


@pytest.fixture(scope="module")
def scheme():
    return QuantizationScheme.model_validate(published_scheme()["config_groups"]["group_0"])


def random_weight(rows, columns, seed):
    """Values of -8 to 7, both ends among them, and bf16 scales of very different size."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(-8, 8, (rows, columns), generator=generator, dtype=torch.int8)
    values[0, 0], values[0, 1], values[-1, -2], values[-1, -1] = -8, 7, 7, -8
    scale = torch.exp2(torch.rand(rows, columns // 32, generator=generator) * 16 - 12)
    return values, scale.to(torch.bfloat16)


def plain(values, scale):
    return (values.float() * scale.float().repeat_interleave(32, dim=1)).to(torch.bfloat16)


def bits(tensor):
    return tensor.contiguous().view(torch.int16)


SHAPES = [(1, 32), (7, 32), (48, 256), (33, 96), (100, 2048), (2, 7168)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_what_the_library_packs_is_unpacked_to_the_same_values(scheme, rows, columns, fidelity):
    values, scale = random_weight(rows, columns, seed=rows)
    weight = plain(values, scale)
    theirs = PackedQuantizationCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
    assert torch.equal(unpack(theirs["weight_packed"]), values)
    assert torch.equal(theirs["weight_packed"], pack(values))
    filled = dequantise(theirs["weight_packed"], theirs["weight_scale"], torch.empty_like(weight))
    assert torch.equal(bits(filled), bits(weight))
    fidelity.equal("int4 weights", "packed by the library, dequantised here", "compressed-tensors")


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_what_is_packed_here_the_library_unpacks_to_the_same_bits(scheme, rows, columns, fidelity):
    values, scale = random_weight(rows, columns, seed=rows + 1)
    ours = {
        "weight_packed": pack(values),
        "weight_scale": scale,
        "weight_shape": torch.tensor([rows, columns], dtype=torch.int32),
    }
    theirs = PackedQuantizationCompressor.decompress(dict(ours), scheme)["weight"]
    filled = dequantise(ours["weight_packed"], scale, torch.empty(rows, columns, dtype=torch.bfloat16))
    assert theirs.dtype == torch.bfloat16
    assert torch.equal(bits(theirs), bits(plain(values, scale)))
    assert torch.equal(bits(filled), bits(theirs))
    fidelity.equal("int4 weights", "packed here, unpacked by the library", "compressed-tensors")


def module_tree(weights):
    """Modules in which each of `weights` is that of a linear layer of its name."""
    root = torch.nn.Module()
    for name, weight in weights.items():
        *path, last = name.removesuffix(".weight").split(".")
        parent = root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, torch.nn.Module())
            parent = getattr(parent, part)
        rows, columns = weight.shape
        linear = torch.nn.Linear(columns, rows, bias=False, device="meta")
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        parent.add_module(last, linear)
    return root


def quantise(text_model):
    """By the library and the published scheme, whose `ignore` names parts of the text model.

    Returns the library's compressor.
    """
    apply_quantization_config(text_model, QuantizationConfig.model_validate(published_scheme()))
    for module in text_model.modules():
        if scheme := getattr(module, "quantization_scheme", None):
            groups = module.weight.float().unflatten(1, (-1, 32))
            scale, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
            module.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(text_model)
    compressor.compress_model(text_model)
    return compressor


@pytest.fixture(scope="module")
def theirs(nano_dir, tmp_path_factory):
    """The embedded checkpoint, its linear layers quantised and config.json completed by the library."""
    directory = tmp_path_factory.mktemp("theirs")
    shutil.copy(nano_dir / "config.json", directory)
    tensors = {name: tensor.clone() for name, tensor in read_tensors(nano_dir, "").items()}
    linear = [name for name in tensors if name.startswith("language_model.") and is_linear(name)]
    root = module_tree({name: tensors.pop(name) for name in linear})
    quantise(root.language_model).update_config(str(directory))
    save_file(tensors | dict(root.state_dict()), directory / "model.safetensors")
    return directory


def is_linear(name):
    return "_proj" in name or "lm_head" in name


def test_the_library_quantises_the_weights_that_are_expected_so_by_name(theirs):
    verdict = verify(theirs)
    assert verdict.problems == []
    assert verdict.config.quantization == "compressed-tensors"


def test_a_checkpoint_that_the_library_wrote_loads_with_int64_shapes(theirs, scheme, fidelity):
    checkpoint = Checkpoint.checked(theirs)
    shapes = [name for name in checkpoint.headers if name.endswith("weight_shape")]
    assert len(shapes) == EXPERTS
    assert {checkpoint.headers[name].dtype for name in shapes} == {"I64"}
    reader = checkpoint.reader(torch.bfloat16)
    for name in shapes:
        stem = name.removesuffix("_shape")
        parts = {f"weight_{part}": reader.read(f"{stem}_{part}") for part in ("packed", "scale", "shape")}
        unpacked = PackedQuantizationCompressor.decompress(parts, scheme)["weight"]
        assert torch.equal(bits(reader.read(stem)), bits(unpacked))
    what = "weights of a checkpoint quantised and written by the library"
    fidelity.equal("int4 weights", what, "compressed-tensors", len(shapes))
    assert len(load_text_model(theirs, deterministic=False).layers) == 4
