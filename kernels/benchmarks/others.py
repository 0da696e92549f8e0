"""Runs the same work with others' kernels, if installed: SGLang's Triton kernels and FlashMLA.

Each is called as its own engine calls it, on the same inputs as ours. They are optional and never installed
here: `missing` names those that are absent.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterator
from functools import partial

from kernels.benchmarks import flash_mla_kernel, sglang_kernels
from kernels.benchmarks.inputs import DecodeInputs, ExpertInputs, PackedExperts
from kernels.benchmarks.run import Run

CHECKS = {"sglang": sglang_kernels.check, "flash_mla": flash_mla_kernel.check}
"""The check of each package, by top-level module."""


@functools.cache
def missing() -> dict[str, str]:
    """Why a package cannot be compared with, by package; lists only those that cannot."""
    found = {}
    for package, check in CHECKS.items():
        try:
            check()
        except Exception as error:  # noqa: BLE001 - barrier: a broken installation counts as none
            found[package] = repr(error)
    return found


def describe() -> str:
    """Which packages are installed, in which version, and why the others cannot be used."""
    absent = missing()
    return "; ".join(
        f"{package}: not run: {absent[package]}" if package in absent else f"{package} {_version(package)}"
        for package in CHECKS
    )


def mla_decode(inputs: DecodeInputs) -> Iterator[tuple[str, Run]]:
    """The name of each kernel, and its run: `[B, H, latent]`."""
    absent = missing()
    if "sglang" not in absent:
        for splits in sglang_kernels.SPLITS:
            yield f"sglang, {splits} splits", _later(partial(sglang_kernels.decode, inputs, splits))
    if "flash_mla" not in absent:
        yield "flash_mla", _later(partial(flash_mla_kernel.decode, inputs))


def int4_experts(
    inputs: ExpertInputs, gate_up: PackedExperts, down: PackedExperts
) -> Iterator[tuple[str, Run]]:
    """The name of each kernel, and its run: `[T, hidden]`."""
    if "sglang" in missing():
        return
    tokens, top_k = inputs.weights.shape
    for tile in sglang_kernels.tiles(tokens, top_k, len(gate_up)):
        by = f"sglang, tiles of {'x'.join(map(str, tile[:3]))}"
        yield by, _later(partial(sglang_kernels.experts, inputs, gate_up, down, tile))


def _later(make: Callable[[], Run]) -> Run:
    """Prepares the kernel at the first call, so that a failure becomes a note in that row only."""
    made = functools.cache(make)
    return lambda copy: made()(copy)


def _version(package: str) -> str:
    wheels = importlib.metadata.packages_distributions().get(package, ())
    return (
        " ".join(f"({wheel} {importlib.metadata.version(wheel)})" for wheel in wheels) or "(version unknown)"
    )
