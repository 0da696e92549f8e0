"""A stand-in for a CUDA graph that, like one, knows memory by its address only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only
from triton.runtime.interpreter import GridExecutor

_WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
"""Operations for which the host waits; none can be captured."""


class FreedMemory(AssertionError):
    """A replayed operation uses memory that nobody owns any more."""


class AddressGraph:
    """Records the operations and kernel launches of a computation on CPU tensors, and does them again.

    Keeps neither the computation nor a tensor from outside it: if nobody else owns one of these any more,
    `replay` raises FreedMemory. Memory allocated inside belongs to the graphs, which share it: it is
    overwritten as soon as the recording ends.
    """

    def __init__(self, compute: Callable[[], None]) -> None:
        compute()  # as CudaGraph does, so that kernels are compiled
        capture = _Capture()
        with capture, _launches_go_to(capture):
            compute()
        self._nodes = capture.nodes
        capture.overwrite_own()

    def replay(self) -> None:
        """Runs all operations on what their memory holds now."""
        own: dict[int, torch.UntypedStorage] = {}
        with torch.inference_mode():
            for node in self._nodes:
                node.run(own)


@dataclass(frozen=True)
class _Outside:
    """Memory that existed before the recording, held weakly."""

    weak: int

    def storage(self, own: dict[int, torch.UntypedStorage]) -> torch.UntypedStorage:
        storage = torch.UntypedStorage._new_with_weak_ptr(self.weak)
        if storage is None:
            raise FreedMemory("a tensor that the recording used was freed since")
        return storage


@dataclass(frozen=True)
class _Own:
    """Memory that the recording allocated."""

    number: int

    def storage(self, own: dict[int, torch.UntypedStorage]) -> torch.UntypedStorage:
        return own[self.number]


@dataclass(frozen=True)
class _View:
    """A tensor as a graph knows it: where it lies, and its layout."""

    memory: _Outside | _Own
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def tensor(self, own: dict[int, torch.UntypedStorage]) -> Tensor:
        empty = torch.empty(0, dtype=self.dtype)
        return empty.set_(self.memory.storage(own), self.offset, self.shape, self.strides)


@dataclass(frozen=True)
class _Node:
    """An operation, its arguments with views in place of tensors, and which of its results are new memory."""

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: tuple[tuple[int, int], ...]
    """(index among the resulting tensors, number of its memory)."""

    def run(self, own: dict[int, torch.UntypedStorage]) -> None:
        args, kwargs = tree_map_only(_View, lambda view: view.tensor(own), (self.args, self.kwargs))
        results = tree_flatten(self.operation(*args, **kwargs))[0]
        tensors = [result for result in results if isinstance(result, Tensor)]
        own |= {number: tensors[index].untyped_storage() for index, number in self.made}
        for result in results:
            if isinstance(result, torch.ScriptObject):  # a collective operation, which takes its time
                torch._C._distributed_c10d.Work.unbox(result).wait()


class _Capture(TorchDispatchMode):
    """Runs operations and writes them down."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[_Node] = []
        self._own: list[torch.UntypedStorage] = []
        self._known: dict[int, _Outside | _Own] = {}

    def overwrite_own(self) -> None:
        """Fills what the recording allocated, and gives it up."""
        for storage in self._own:
            torch.empty(0, dtype=torch.uint8).set_(storage).fill_(0xFF)  # NaN as a float
        self._own.clear()

    def launch(self, executor: GridExecutor, *args: Any, **kwargs: Any) -> None:
        """Launches an interpreted kernel."""
        operation = partial(_launch, executor)
        views = self._views((args, kwargs))
        self.nodes.append(_Node(operation, views[0], views[1], ()))
        with _disable_current_modes():
            operation(*args, **kwargs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in _WAITS, f"the host waits for the device in a recording: {func}"
        kwargs = kwargs or {}
        views = self._views((args, kwargs))
        result = func(*args, **kwargs)
        made = []
        tensors = [item for item in tree_flatten(result)[0] if isinstance(item, Tensor)]
        for index, tensor in enumerate(tensors):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                made.append((index, len(self._own)))
                self._known[storage._cdata] = _Own(len(self._own))
                self._own.append(storage)
        self.nodes.append(_Node(func, views[0], views[1], tuple(made)))
        return result

    def _views(self, arguments: Any) -> Any:
        return tree_map_only(Tensor, self._view, arguments)

    def _view(self, tensor: Tensor) -> _View:
        storage = tensor.untyped_storage()
        memory = self._known.get(storage._cdata)
        if memory is None:
            memory = self._known[storage._cdata] = _Outside(cast(int, storage._weak_ref()))
        offset = int(tensor.storage_offset())
        return _View(memory, tensor.dtype, offset, tuple(tensor.shape), tuple(tensor.stride()))


_launch = GridExecutor.__call__


@contextmanager
def _launches_go_to(capture: _Capture) -> Iterator[None]:
    def launch(executor: GridExecutor, *args: Any, **kwargs: Any) -> None:
        capture.launch(executor, *args, **kwargs)

    with patch.object(GridExecutor, "__call__", launch):
        yield
