"""Storage formats of KV pages, independent of the dtype in which the model computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from services.common.errors import InternalError


@dataclass(frozen=True)
class KvFormat(ABC):
    """Storage format of a row in a page: the latent and the rotated RoPE key of one token and layer.

    Workers compare `name` before they share pages. `dtype` is the dtype of the page tensor. Rows are
    independent: `store` converts each row without regard to the others, so the contents of a page do not
    depend on chunk boundaries.
    """

    name: str
    dtype: torch.dtype

    @property
    def in_place(self) -> bool:
        """Whether `load` returns the page's own memory, so that a view of a page reflects later writes."""
        return False

    @abstractmethod
    def row_width(self, width: int) -> int:
        """Number of elements of `dtype` in a stored row of `width` values."""

    @abstractmethod
    def store(self, rows: Tensor) -> Tensor:
        """Values `[T, width]` of any float dtype -> rows of pages, `[T, row_width]` of `dtype`."""

    @abstractmethod
    def load(self, stored: Tensor) -> Tensor:
        """Rows of pages `[T, row_width]` -> values `[T, width]` of a float dtype; attention widens these to
        float32. A row that was never stored yields arbitrary values, but no error.
        """

    def bytes_per_token(self, layers: int, width: int) -> int:
        """Bytes that a token takes in a page, over its rows of all layers."""
        return layers * self.row_width(width) * self.dtype.itemsize


@dataclass(frozen=True)
class FloatFormat(KvFormat):
    """Stores the values rounded to `dtype`, without further encoding."""

    @property
    def in_place(self) -> bool:
        """True: `load` copies nothing."""
        return True

    def row_width(self, width: int) -> int:
        """One element for each value."""
        return width

    def store(self, rows: Tensor) -> Tensor:
        """`rows` rounded to `dtype`; the same tensor if it has that dtype already."""
        return rows.to(self.dtype)

    def load(self, stored: Tensor) -> Tensor:
        """`stored` itself."""
        return stored


FLOAT32 = FloatFormat("float32", torch.float32)
BFLOAT16 = FloatFormat("bfloat16", torch.bfloat16)
KV_FORMATS: tuple[KvFormat, ...] = (FLOAT32, BFLOAT16)
"""The formats that `--kv-format` accepts."""


def float_format(dtype: torch.dtype) -> KvFormat:
    """The format of pages with values in `dtype`. InternalError if there is none."""
    for kv_format in (FLOAT32, BFLOAT16):
        if kv_format.dtype == dtype:
            return kv_format
    raise InternalError(f"pages of {dtype} do not determine their KV format: it must be given")
