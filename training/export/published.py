"""Writes a checkpoint directory from trained weights, in bf16 or with int4 experts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.engine.model.architectures import parse_config
from services.engine.weights.expected import expected_tensors, is_quantised
from services.engine.weights.int4 import pack
from services.engine.weights.random_checkpoint import with_bf16, with_int4
from services.engine.weights.writer import write_json, write_shards
from training.model.fake_quant import quantise, quantised
from training.nano.architecture import generation_config, preprocessor_config
from training.nano.shards import small_shards
from training.nano.vocabulary import Vocabulary

MAX_SHARD_BYTES = 6_000_000
TOKENIZER_FILES = ("tiktoken.model", "tokenizer_config.json")


class Publisher:
    """Writes checkpoints of one set of weights.

    `weights` maps published names to float32 tensors, `tokenizer` is the directory of the tokenizer files,
    `values` the content of config.json. `as_int4` says whether the experts were trained as int4; a bf16
    checkpoint then holds exactly the values that the int4 one represents.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], values: dict[str, Any], tokenizer: Path, as_int4: bool
    ) -> None:
        self._weights = weights
        self._values = values
        self._tokenizer = tokenizer
        self._as_int4 = as_int4

    def write(self, directory: Path, int4: bool) -> None:
        """Replaces the contents of `directory`. OSError if it is not writable."""
        values = with_int4(self._values) if int4 else with_bf16(self._values)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name in TOKENIZER_FILES:
            shutil.copy(self._tokenizer / name, directory)
        vocabulary = Vocabulary.from_dir(directory)
        write_json(directory / "config.json", values)
        write_json(directory / "generation_config.json", generation_config(vocabulary))
        write_json(directory / "preprocessor_config.json", preprocessor_config())
        tensors = expected_tensors(parse_config(values))
        make = self._packed if int4 else self._plain
        write_shards(directory, small_shards(tensors, MAX_SHARD_BYTES), make, digits=5)

    def _plain(self, name: str) -> Tensor:
        weight = self._weights[name]
        if name.endswith("e_score_correction_bias"):
            return weight
        return (quantised(weight) if self._as_int4 and is_quantised(name) else weight).to(torch.bfloat16)

    def _packed(self, name: str) -> Tensor:
        stem, _, part = name.rpartition("_")
        if not is_quantised(name):
            return self._plain(name)
        weight = self._weights[stem]
        if part == "shape":
            return torch.tensor(weight.shape, dtype=torch.int32)
        integers, scales = quantise(weight)
        return pack(integers.to(torch.int8)) if part == "packed" else scales
