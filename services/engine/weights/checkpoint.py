"""A checkpoint whose tensors match its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

import torch

from services.common.errors import CheckpointError
from services.engine.model.architectures import load_config
from services.engine.model.config.model_config import ModelConfig
from services.engine.model.rank import ALONE, Rank
from services.engine.weights.expected import StoredTensor, expected_tensors, problems_of
from services.engine.weights.headers import TensorHeader, listed, read_headers
from services.engine.weights.loader import TensorReader
from services.engine.weights.share import Share, shares_of


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of text and vision: `headers` as in the shards, `tensors` as published."""

    directory: Path
    config: ModelConfig
    headers: Mapping[str, TensorHeader]
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def checked(cls, directory: Path) -> Self:
        """Opens a checkpoint. Raises CheckpointError, which lists missing, extra and misshapen tensors and
        those of another dtype.
        """
        config = load_config(directory)
        headers, tensors = read_headers(directory), expected_tensors(config)
        if problems := problems_of(headers, tensors):
            raise CheckpointError(f"{len(problems)} tensors do not fit the configuration: {listed(problems)}")
        return cls(directory, config, headers, tensors)

    def reader(
        self,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        rank: Rank = ALONE,
        rows: Mapping[str, Share] = MappingProxyType({}),
    ) -> TensorReader:
        """Makes a reader of the rank's share of every tensor, of those in `rows` the rows given there; raises
        ConfigError if the model cannot be split so.
        """
        shares = shares_of(self.tensors, rank) | dict(rows)
        return TensorReader(self.directory, self.headers, dtype, device, shares)
