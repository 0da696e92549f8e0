"""Random weights of a text model, which need no download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from services.engine.model.config.text_config import TextConfig
from services.engine.model.tensor_names import text_tensors
from services.engine.weights.int4 import dequantise


class RandomWeights(Mapping[str, Tensor]):
    """Tensors of a text model, made on access, experts packed as int4."""

    def __init__(self, config: TextConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._shapes = text_tensors(config)
        self._device = device
        self._dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        """A tensor, the same for the same name."""
        generator = torch.Generator(self._device).manual_seed(sum(name.encode()))
        make = {"device": self._device, "generator": generator}
        weight = name.removesuffix("_packed").removesuffix("_scale")
        rows, *inputs = self._shapes[weight]
        if name.endswith("_packed"):
            words = (rows, inputs[0] // 8)
            return torch.randint(-(2**31), 2**31 - 1, words, dtype=torch.int32, **make)  # type: ignore[call-overload]
        if name.endswith("_scale"):
            scale = torch.rand(rows, inputs[0] // 32, **make)  # type: ignore[call-overload]
            return (scale * 0.4 * inputs[0] ** -0.5).bfloat16()
        values = torch.randn(rows, *inputs, dtype=self._dtype, **make)  # type: ignore[call-overload]
        if name.endswith("e_score_correction_bias"):
            return 0.01 * values.float()
        return values if "norm" in name or "embed" in name else values.mul_(inputs[0] ** -0.5)

    def __contains__(self, name: object) -> bool:
        text = str(name)
        packed = text.endswith("_packed") and ".mlp.experts." in text
        return text.removesuffix("_packed") in self._shapes and (packed or not text.endswith("_packed"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


class Dequantised(Mapping[str, Tensor]):
    """The same weights in float32, experts unpacked."""

    def __init__(self, packed: RandomWeights) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Tensor:
        if f"{name}_packed" not in self._packed:
            return self._packed[name].float()
        words, scale = self._packed[f"{name}_packed"], self._packed[f"{name}_scale"]
        return dequantise(words, scale, torch.empty(len(words), 8 * words.shape[1], device=words.device))

    def __contains__(self, name: object) -> bool:
        return name in self._packed and not str(name).endswith("_packed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)
