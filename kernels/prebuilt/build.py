"""Compiles what the engine launches, through triton's own path, so that a machine with a GPU finds it."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.driver import CudaDriver
from triton.runtime.build import platform_key
from triton.runtime.jit import JITFunction

from kernels.machine_code.cases import Case
from kernels.machine_code.launch_recorder import gpu
from kernels.prebuilt.driver_stub import build_stub

# Part of triton's keys for C modules. Python knows it only where the program `file` is installed, which may
# be here and not there.
_LINKAGES = ("", "ELF")


def fill(directory: Path, cases: Iterable[Case], capabilities: Sequence[int]) -> int:
    """Compiles into `directory` every kernel that the cases launch on GPUs of those compute capabilities (90
    is 9.0), and the C modules by which triton reaches the driver. Returns the number of kernels.

    Needs a C compiler and no GPU. Changes this process for good: its triton believes in such GPUs. Raises
    RuntimeError and CalledProcessError as `build_stub` does.
    """
    os.environ |= {"TRITON_CACHE_DIR": str(directory), "TRITON_STORE_BINARY_ONLY": "1"}
    known = list(cases)
    keys: set[str] = set()
    with _stub():
        for linkage in _LINKAGES:
            with _linkage(linkage):
                driver = CudaDriver()
                driver.get_current_stream = lambda device: 0
                triton.runtime.driver.set_active(driver)
                for capability in capabilities:
                    _compile(driver, known, capability, keys)
    return len(keys)


@contextmanager
def _stub() -> Iterator[None]:
    """Triton links with a stub of the driver, which is loaded."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TRITON_LIBCUDA_PATH"] = scratch
        # What is linked with it finds it by its name, because it is loaded already.
        ctypes.CDLL(str(build_stub(Path(scratch))), mode=ctypes.RTLD_GLOBAL)
        yield


@contextmanager
def _linkage(linkage: str) -> Iterator[None]:
    with mock.patch("platform.architecture", return_value=("64bit", linkage)):
        platform_key.cache_clear()
        yield
    platform_key.cache_clear()


def _compile(driver: Any, cases: Iterable[Case], capability: int, keys: set[str]) -> None:
    """Compiles whatever the cases launch on a GPU of that capability; adds the kernels' hashes to `keys`."""
    target = GPUTarget("cuda", capability, 32)
    driver.get_current_target = lambda: target
    # Triton keeps by device what it has compiled.
    driver.get_current_device = lambda: capability
    run = JITFunction.run

    def compile_only(kernel: Any, *values: Any, grid: Any, warmup: bool, **named: Any) -> None:
        compiled = run(kernel, *values, grid=grid, warmup=True, **named)
        # Triton 3.6 compiles a launcher for every kernel.
        driver.launcher_cls(compiled.src, compiled.metadata)
        keys.add(compiled.hash)

    with gpu(capability), mock.patch.object(JITFunction, "run", compile_only):
        for case in cases:
            case.call()
