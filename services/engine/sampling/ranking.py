"""A total order of tokens: likelier first, lower id first among equals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GROUP = 64


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


def likeliest(row: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Returns what `first_ranked` does for [V] logits and a small `count`, in a tenth of the time.

    The least of the `count` largest maxima of groups is a bound that at least `count` tokens reach, and few
    others.
    """
    maxima = row[: len(row) // _GROUP * _GROUP].reshape(_GROUP, -1).max(axis=0)
    if 0 < count <= len(maxima):
        bound = np.partition(maxima, len(maxima) - count)[len(maxima) - count]
        ids = np.flatnonzero(row >= bound)
        if len(ids) >= count:  # fewer only where there is a NaN
            return ids[first_ranked(rank_keys(row[ids]), count)]
    return first_ranked(rank_keys(row), count)


def rank_of(row: npt.NDArray[np.float32], token_id: int) -> int:
    """Returns the place of a token in the order, 1 for the first; `row`: [V] logits."""
    value = row[token_id]
    return 1 + int(np.count_nonzero(row > value)) + int(np.count_nonzero(row[:token_id] == value))
