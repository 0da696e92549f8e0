"""A total order of tokens: likelier first, lower id first among equals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def rank_keys(row: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """[V] keys, all different, that ascend as tokens fall in rank; `row`: [V] logits without NaN.

    The upper half is the float's bit pattern mapped so that integers descend as floats ascend, the lower
    half the token id: any sorting or partitioning of the keys, stable or not, gives the one order.
    """
    # Adding zero turns -0.0, which equals 0.0 but has other bits, into 0.0.
    bits = (row + np.float32(0)).view(np.int32)
    descending = (bits ^ (~(bits >> 31) & 0x7FFFFFFF)).view(np.uint32)
    return (descending.astype(np.uint64) << np.uint64(32)) | np.arange(len(row), dtype=np.uint64)


def first_ranked(keys: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.int64]:
    """[min(count, V)] ids of the first tokens in the order, first to last."""
    if count < len(keys):
        keys = np.partition(keys, count - 1)[:count]
    return (np.sort(keys) & np.uint64(0xFFFFFFFF)).astype(np.int64)
