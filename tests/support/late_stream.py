"""A CUDA stream's double: what is given to it happens later, in order, when the test or a wait lets it.

Tensors of it say that they are on a GPU; their values lie in host memory, where the double of NIXL reads and
writes them at any time, as RDMA does. It is one stream, as the engines use one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

GPU = torch.device("cuda", 0)
_SYNCHRONOUS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


@dataclass(frozen=True)
class Pending:
    """An operation that was given to the stream, and the pages of the pool that it touches."""

    name: str
    run: Callable[[], object]
    pages: frozenset[int]


class LateStream:
    """Runs nothing by itself: `progress` and waits do."""

    def __init__(self) -> None:
        self.pending: deque[Pending] = deque()
        self._given = 0
        self._pool: Tensor | None = None
        self._shapes: dict[Any, Any] = {}

    def pool(self, pages: Tensor) -> LateTensor:
        """The pool `[pages, ...]` as a tensor of the GPU; each operation knows the pages that it touches."""
        self._pool = pages
        return LateTensor(pages, self)

    def give(self, name: str, run: Callable[[], object], pages: frozenset[int] = frozenset()) -> None:
        """Enqueues an operation, e.g. a kernel."""
        self.pending.append(Pending(name, run, pages))
        self._given += 1

    def progress(self, operations: int) -> None:
        """Runs so many of the pending operations, or all."""
        with torch.inference_mode():
            for _ in range(min(operations, len(self.pending))):
                self.pending.popleft().run()

    def finish(self) -> None:
        """Runs all."""
        self.progress(len(self.pending))

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32) -> LateTensor:
        """Fresh memory of the GPU, with garbage in it."""
        return LateTensor(_garbage(torch.empty(shape, dtype=dtype)), self)

    def event(self, *_: Any) -> SimpleNamespace:
        """A torch.cuda.Event."""
        place = [0]

        def record(_: Any = None) -> None:
            place[0] = self._given

        def synchronize() -> None:
            self.progress(place[0] - (self._given - len(self.pending)))

        return SimpleNamespace(record=record, synchronize=synchronize)

    def results_of(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operation will return, with garbage for values. Their shapes follow from those of the
        arguments.
        """
        leaves, structure = tree_flatten((args, kwargs))
        key = (func, structure, *map(_layout, leaves))
        if key not in self._shapes:
            args_meta, kwargs_meta = tree_map_only(Tensor, _on_meta, (args, kwargs))
            self._shapes[key] = func(*args_meta, **kwargs_meta)
        return tree_map_only(
            Tensor, lambda it: _garbage(torch.empty_like(it, device="cpu")), self._shapes[key]
        )

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Makes this the GPU of the calling thread's torch."""
        with (
            patch.object(torch.cuda, "Event", self.event),
            patch.object(torch.cuda, "current_stream", lambda *_: SimpleNamespace(synchronize=self.finish)),
            _OnGpu(self),
        ):
            yield

    def touched(self, tensors: list[Tensor]) -> frozenset[int]:
        """The pages of the pool that lie between the first and last element of each tensor."""
        found: set[int] = set()
        for tensor in tensors:
            if self._pool is not None and _shares(tensor, self._pool) and tensor.numel():
                size = self._pool.stride(0)
                last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
                first = tensor.storage_offset()
                found |= {*range(first // size, (first + last) // size + 1)}
        return frozenset(found)


class LateTensor(Tensor):
    """A tensor of a LateStream; `held` has what its operations have made of it so far."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: Tensor
    stream: LateStream

    def __new__(cls, held: Tensor, stream: LateStream) -> LateTensor:
        self = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )
        self.held, self.stream = held, stream
        return self

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    def cpu(self) -> Tensor:
        self.stream.finish()
        return self.held.clone()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert a cuda tensor to numpy")

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype, _ = _target(args, kwargs)
        if device is not None and device.type == "cpu":
            return self.cpu().to(dtype or self.dtype)
        return self if dtype in (None, self.dtype) else torch.ops.aten._to_copy(self, dtype=dtype)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # In inference mode operations come whole that are made of others, e.g. `to`, which may be a view.
        if (result := func.decompose(*args, **kwargs)) is not NotImplemented:
            return result
        late = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, LateTensor)]
        stream = late[0].stream
        args_held, kwargs_held = tree_map_only(LateTensor, lambda it: it.held, (args, kwargs))
        kwargs_held = {name: value for name, value in kwargs_held.items() if name != "device"}
        if func.is_view:
            with torch.inference_mode(late[0].is_inference()):
                return _wrapped(func(*args_held, **kwargs_held), stream)
        if _SYNCHRONOUS & {*func.tags} and not _is_plain_index(func, args):
            stream.finish()
            return _wrapped(func(*args_held, **kwargs_held), stream)
        pages = stream.touched([it.held for it in late])
        if func._schema.is_mutable:
            blocking = func is torch.ops.aten.copy_.default and not isinstance(args[0], LateTensor)
            stream.give(str(func), lambda: func(*args_held, **kwargs_held), pages)
            if blocking and not (kwargs.get("non_blocking") or args[2:3] == (True,)):
                stream.finish()
            return args[0]
        made = stream.results_of(func, args_held, kwargs_held)

        def run() -> None:
            results = tree_flatten(func(*args_held, **kwargs_held))[0]
            for place, result in zip(tree_flatten(made)[0], results, strict=True):
                place.copy_(result)

        stream.give(str(func), run, pages)
        return _wrapped(made, stream)


class _OnGpu(TorchFunctionMode):
    """Places on the stream what is asked for on the GPU; knows which host memory is pinned."""

    def __init__(self, stream: LateStream) -> None:
        super().__init__()
        self._stream = stream

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:
            return _pinned(args[0].clone())
        if func is Tensor.to and not isinstance(args[0], LateTensor):
            device, dtype, non_blocking = _target(args[1:], kwargs)
            if device is not None and device.type == "cuda":
                return self._uploaded(args[0], dtype, non_blocking)
        if kwargs.pop("pin_memory", False):
            made = func(*args, **kwargs)
            return _pinned(_garbage(made) if func is torch.empty else made)
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda":
            made = func(*args, **kwargs | {"device": "cpu"})
            return made if isinstance(made, LateTensor) else LateTensor(made, self._stream)
        return func(*args, **kwargs)

    def _uploaded(self, host: Tensor, dtype: torch.dtype | None, non_blocking: bool) -> Tensor:
        """What is pinned is read when the copy is made: it must stay as it is until then."""
        is_read_late = non_blocking and getattr(host, "is_late_pinned", False)
        source = host if is_read_late else host.clone()
        made = self._stream.empty(*host.shape, dtype=dtype or host.dtype)
        self._stream.give("upload", lambda: made.held.copy_(source))
        return made


def _target(args: Any, kwargs: Any) -> tuple[torch.device | None, torch.dtype | None, bool]:
    """Device, dtype and non_blocking of a call of `Tensor.to`."""
    given = [*args, kwargs.get("device"), kwargs.get("dtype")]
    devices = [torch.device(it) for it in given if isinstance(it, torch.device | str)]
    dtypes = [it for it in given if isinstance(it, torch.dtype)]
    return next(iter(devices), None), next(iter(dtypes), None), bool(kwargs.get("non_blocking"))


def _pinned(host: Tensor) -> Tensor:
    host.is_late_pinned = True  # type: ignore[attr-defined]
    return host


def _garbage(tensor: Tensor) -> Tensor:
    """Values that nobody can take for results."""
    if tensor.dtype.is_floating_point:
        return tensor.fill_(float("nan"))
    return tensor.fill_(True if tensor.dtype is torch.bool else torch.iinfo(tensor.dtype).max // 2)


def _wrapped(held: Any, stream: LateStream) -> Any:
    return tree_map(lambda it: LateTensor(it, stream) if isinstance(it, Tensor) else it, held)


def _layout(argument: Any) -> tuple[Any, ...]:
    """What of an argument decides about the shape and dtype of results."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.stride(), argument.dtype
    return type(argument), argument


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _is_plain_index(func: Any, args: Any) -> bool:
    """Whether the result's shape follows from those of the arguments: no mask among the indices."""
    indices = args[1] if func is torch.ops.aten.index.Tensor else [torch.empty(0, dtype=torch.bool)]
    return all(index is None or index.dtype is not torch.bool for index in indices)


def _shares(tensor: Tensor, other: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
