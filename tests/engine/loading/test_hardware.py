"""Settings that name hardware."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from services.common.errors import ConfigError
from services.decode.config import DecodeConfig
from services.engine.kv_cache.kv_format import BFLOAT16, FLOAT32
from services.engine.loading.hardware import (
    is_deterministic,
    parse_device,
    parse_dtype,
    parse_kv_format,
    parse_options,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_known_names_become_what_the_libraries_take():
    assert parse_device("cpu") == torch.device("cpu")
    assert parse_dtype("bfloat16", CPU) is torch.bfloat16
    assert parse_options("num_workers=1, ucx_devices=mlx5_0") == {"num_workers": "1", "ucx_devices": "mlx5_0"}
    assert parse_options("") == {}


@pytest.mark.parametrize(
    ("parse", "text", "key"),
    [
        (parse_device, "abacus", "device"),
        (parse_device, "cuda:99", "device"),
        (partial(parse_dtype, device=CPU), "int3", "dtype"),
        (partial(parse_dtype, device=GPU), "float32", "dtype"),
        (partial(parse_kv_format, dtype=torch.float32, device=CPU), "int3", "kv_format"),
        (partial(parse_kv_format, dtype=torch.bfloat16, device=GPU), "float32", "kv_format"),
        (parse_options, "num_workers", "transfer_options"),
    ],
)
def test_anything_else_is_an_error_that_names_the_setting(parse, text, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        parse(text)


def test_a_kv_format_may_differ_from_the_weights_dtype_on_a_cpu_but_not_on_a_gpu():
    assert parse_kv_format("bfloat16", torch.float32, CPU) is BFLOAT16
    assert parse_kv_format("float32", torch.bfloat16, CPU) is FLOAT32
    assert parse_kv_format("bfloat16", torch.bfloat16, GPU) is BFLOAT16
    with pytest.raises(ConfigError, match="kernels on a GPU take pages in bfloat16; float32 is for the CPU"):
        parse_kv_format("float32", torch.bfloat16, GPU)


@pytest.mark.parametrize(("gpus", "chosen"), [(0, "cpu"), (1, "cuda:0"), (8, "cuda:0")])
def test_where_nothing_is_said_a_gpu_computes_if_there_is_one(monkeypatch, gpus, chosen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert parse_device(DecodeConfig().device) == torch.device(chosen)
    assert parse_device("cpu") == CPU


def test_what_is_not_set_is_as_the_device_has_it():
    assert parse_dtype(None, CPU) is torch.float32
    assert parse_dtype(None, GPU) is torch.bfloat16
    assert parse_kv_format(None, torch.float32, CPU) is FLOAT32
    assert parse_kv_format(None, torch.bfloat16, GPU) is BFLOAT16
    assert is_deterministic(None, CPU)
    assert not is_deterministic(None, GPU)
    assert is_deterministic(True, GPU)
    assert not is_deterministic(False, CPU)
