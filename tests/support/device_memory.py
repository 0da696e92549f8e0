"""Counts the memory that tensors of the meta device would take on a GPU."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_ROUNDED_TO = 512
"""The GPU's allocator gives out multiples of this many bytes."""


class DeviceMemory(TorchDispatchMode):
    """While it is active, `now` and `peak` are the bytes of all living tensors made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def peak_of(self, work) -> int:
        """The most bytes that `work` has at a time, beyond those from before it."""
        before = self.peak = self.now
        work()
        return self.peak - before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, result)
        return result

    def _count(self, tensor: Tensor) -> None:
        if tensor.device.type != "meta":
            return
        storage = tensor.untyped_storage()
        name = storage._cdata
        if name in self._known:
            return
        nbytes = -(-storage.nbytes() // _ROUNDED_TO) * _ROUNDED_TO
        self._known.add(name)
        weakref.finalize(storage, self._gone, name, nbytes)
        self.now += nbytes
        self.peak = max(self.peak, self.now)

    def _gone(self, name: int, nbytes: int) -> None:
        self._known.discard(name)
        self.now -= nbytes
