"""Settings that name hardware."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from services.common.errors import ConfigError
from services.engine.loading.hardware import is_deterministic, parse_device, parse_dtype, parse_options

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
        (parse_options, "num_workers", "transfer_options"),
    ],
)
def test_anything_else_is_an_error_that_names_the_setting(parse, text, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        parse(text)


def test_what_is_not_set_is_as_the_device_has_it():
    assert parse_dtype(None, CPU) is torch.float32
    assert parse_dtype(None, GPU) is torch.bfloat16
    assert is_deterministic(None, CPU)
    assert not is_deterministic(None, GPU)
    assert is_deterministic(True, GPU)
    assert not is_deterministic(False, CPU)
