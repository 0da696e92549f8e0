"""Settings that name hardware."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import ConfigError
from services.engine.hardware import parse_device, parse_dtype, parse_options


def test_known_names_become_what_the_libraries_take():
    assert parse_device("cpu") == torch.device("cpu")
    assert parse_dtype("bfloat16") is torch.bfloat16
    assert parse_options("num_workers=1, ucx_devices=mlx5_0") == {"num_workers": "1", "ucx_devices": "mlx5_0"}
    assert parse_options("") == {}


@pytest.mark.parametrize(
    ("parse", "text", "key"),
    [
        (parse_device, "abacus", "device"),
        (parse_device, "cuda:99", "device"),
        (parse_dtype, "int3", "dtype"),
        (parse_options, "num_workers", "transfer_options"),
    ],
)
def test_anything_else_is_an_error_that_names_the_setting(parse, text, key):
    with pytest.raises(ConfigError, match=f"^{key}: "):
        parse(text)
