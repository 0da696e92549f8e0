"""Records the kernels that a call launches, without a GPU: what is compiled is what the engine launches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from triton.runtime.jit import JITFunction

_TYPES = {
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.int64: "i64",
}
_INT32 = range(-(2**31), 2**31)
_OPTIONS = {"num_warps": 4, "num_stages": 3}
# That of an H200; the number of splits depends on it, machine code does not.
_MULTIPROCESSORS = 132


@dataclass(frozen=True)
class Launch:
    """A kernel and all that its machine code depends on but the GPU: the arguments' `types` as triton writes
    them ("*bf16", "i32", "fp32"), `constants`, which arguments are multiples of 16, and launch options.
    """

    kernel: Any
    types: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    aligned: frozenset[str]
    num_warps: int
    num_stages: int

    @property
    def name(self) -> str:
        """The kernel's."""
        name: str = self.kernel.__name__
        return name


def record(call: Callable[[], object], capability: int) -> list[Launch]:
    """Returns the launches of `call` on a GPU of that compute capability (90 is 9.0), in order.

    Tensors that `call` makes on the device "meta" pass for the GPU's; nothing is computed.
    """
    launches: list[Launch] = []

    def run(kernel: Any, *values: Any, grid: Any, warmup: bool, **named: Any) -> None:
        launches.append(_launch(kernel, values, named))

    with gpu(capability), mock.patch.object(JITFunction, "run", run):
        call()
    return launches


@contextmanager
def gpu(capability: int) -> Iterator[None]:
    """All tensors pass for those of a GPU of that compute capability."""
    properties = SimpleNamespace(multi_processor_count=_MULTIPROCESSORS)
    with (
        mock.patch.object(torch.Tensor, "is_cuda", True),
        mock.patch("torch.cuda.get_device_capability", return_value=divmod(capability, 10)),
        mock.patch("torch.cuda.get_device_properties", return_value=properties),
    ):
        yield


def _launch(kernel: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Launch:
    options = {name: named.pop(name, usual) for name, usual in _OPTIONS.items()}
    arguments = dict(zip(kernel.arg_names, values, strict=False)) | named
    if set(arguments) != set(kernel.arg_names):
        raise TypeError(f"{kernel.__name__}: {set(arguments) ^ set(kernel.arg_names)}")
    types, constants, aligned = [], [], set()
    for parameter in kernel.params:
        name, value = parameter.name, arguments[parameter.name]
        specialised = not parameter.do_not_specialize
        # Triton compiles an integer of 1 in.
        if parameter.is_constexpr or (specialised and type(value) is int and value == 1):
            constants.append((name, value))
            continue
        types.append((name, _type(value)))
        # The allocator's addresses are multiples of 512.
        if specialised and (isinstance(value, Tensor) or (type(value) is int and value % 16 == 0)):
            aligned.add(name)
    return Launch(kernel, tuple(types), tuple(constants), frozenset(aligned), **options)


def _type(value: object) -> str:
    if isinstance(value, Tensor):
        return "*" + _TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if type(value) is int:
        return "i32" if value in _INT32 else "i64"
    raise TypeError(f"an argument of type {type(value).__name__}")
