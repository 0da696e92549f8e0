"""How KV pages hold their values, apart from how the model computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from services.common.errors import InternalError


@dataclass(frozen=True)
class KvFormat(ABC):
    """How the row of a token and layer, its latent and rotated rope key, is held in a page.

    `name` is what workers compare before they share pages. `dtype` is that of the page tensor. Rows are
    independent: what `store` makes of a row depends on no other row, so a page is the same wherever chunks
    end.
    """

    name: str
    dtype: torch.dtype

    @property
    def in_place(self) -> bool:
        """Whether `load` returns the page's own memory, so that a view of a page shows later writes too."""
        return False

    @abstractmethod
    def row_width(self, width: int) -> int:
        """How many elements of `dtype` a row of `width` values takes."""

    @abstractmethod
    def store(self, rows: Tensor) -> Tensor:
        """Values `[T, width]` of any float dtype -> rows of pages, `[T, row_width]` of `dtype`."""

    @abstractmethod
    def load(self, stored: Tensor) -> Tensor:
        """Rows of pages `[T, row_width]` -> values `[T, width]` of a float dtype; attention widens these to
        float32. Rows never stored may give anything, but no error.
        """

    def bytes_per_token(self, layers: int, width: int) -> int:
        """Bytes of a token in a page: of its rows in all layers."""
        return layers * self.row_width(width) * self.dtype.itemsize


@dataclass(frozen=True)
class FloatFormat(KvFormat):
    """The values as they are, rounded to `dtype`."""

    @property
    def in_place(self) -> bool:
        """Nothing is copied."""
        return True

    def row_width(self, width: int) -> int:
        """One element for each value."""
        return width

    def store(self, rows: Tensor) -> Tensor:
        """`rows` rounded; itself where it is of `dtype`."""
        return rows.to(self.dtype)

    def load(self, stored: Tensor) -> Tensor:
        """`stored` itself."""
        return stored


FLOAT32 = FloatFormat("float32", torch.float32)
BFLOAT16 = FloatFormat("bfloat16", torch.bfloat16)
KV_FORMATS: tuple[KvFormat, ...] = (FLOAT32, BFLOAT16)
"""What `--kv-format` may name."""


def float_format(dtype: torch.dtype) -> KvFormat:
    """The format of pages whose values are in `dtype`; InternalError where there is none."""
    for kv_format in (FLOAT32, BFLOAT16):
        if kv_format.dtype == dtype:
            return kv_format
    raise InternalError(f"pages of {dtype} say nothing of their KV format: it must be given")
