"""Parses settings that name hardware."""

from __future__ import annotations

import torch

from services.common.errors import ConfigError
from services.common.setting_ranges import AUTO
from services.engine.kernel_model.kv_formats import KERNEL_FORMATS
from services.engine.kv_cache.kv_format import KV_FORMATS, KvFormat, float_format

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def parse_device(text: str) -> torch.device:
    """A device that this machine has, e.g. "cpu" or "cuda:0"; "auto": the first GPU if there is one, else
    the CPU. Raises ConfigError otherwise.
    """
    if text == AUTO:
        return torch.device("cuda", 0) if torch.cuda.device_count() else torch.device("cpu")
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise ConfigError(f"device: {text!r} is not a device; try auto, cpu or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: {text} does not exist; PyTorch sees {torch.cuda.device_count()} GPUs")
    return device


def parse_dtype(text: str | None, device: torch.device) -> torch.dtype:
    """float32 or bfloat16, by default the one that suits the device; raises ConfigError otherwise."""
    if text is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if text not in _DTYPES:
        raise ConfigError(f"dtype: {text!r} is not one of {', '.join(_DTYPES)}")
    if device.type != "cpu" and text == "float32":
        raise ConfigError("dtype: kernels on a GPU are made for bfloat16; float32 is for the CPU")
    return _DTYPES[text]


def parse_kv_format(text: str | None, dtype: torch.dtype, device: torch.device) -> KvFormat:
    """The KV format of that name, by default that of the weights' `dtype`. ConfigError for an unknown name,
    and on a GPU for a format that the kernels do not support.
    """
    if text is None:
        return float_format(dtype)
    formats = {kv_format.name: kv_format for kv_format in KV_FORMATS}
    if text not in formats:
        raise ConfigError(f"kv_format: {text!r} is not one of {', '.join(formats)}")
    if device.type != "cpu" and formats[text] not in KERNEL_FORMATS:
        taken = ", ".join(kv_format.name for kv_format in KERNEL_FORMATS)
        raise ConfigError(f"kv_format: kernels on a GPU take pages in {taken}; {text} is for the CPU")
    return formats[text]


def is_deterministic(asked: bool | None, device: torch.device) -> bool:
    """`asked`, or by default True on a CPU only: on a GPU it is costly, because long prompts are absorbed."""
    return device.type == "cpu" if asked is None else asked


def compute_on(device: torch.device) -> None:
    """Makes the calling thread launch its work on `device`: every thread starts with the first GPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def parse_options(text: str) -> dict[str, str]:
    """ "name=value,name=value" as a dictionary; raises ConfigError for a piece without "="."""
    options: dict[str, str] = {}
    for piece in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = piece.partition("=")
        if not equals or not name:
            raise ConfigError(f"transfer_options: {piece!r} is not name=value")
        options[name.strip()] = value.strip()
    return options
