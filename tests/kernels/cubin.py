"""Compiles kernels to cubins without a GPU, and says what they take of one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# What one block may have on sm_90 and sm_100: 228 KiB less the 1 KiB that the driver keeps.
MAX_SHARED = 227 * 1024
MAX_REGISTERS = 255


@dataclass(frozen=True)
class Cubin:
    """A compiled kernel. `shared` bytes of dynamic shared memory, `threads` per block."""

    binary: bytes
    ptx: str
    shared: int
    threads: int

    @cached_property
    def usage(self) -> dict[str, int]:
        """cuobjdump's counts for the kernel, such as REG, STACK and LOCAL."""
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.binary)
            file.flush()
            command = [str(tool), "--dump-resource-usage", file.name]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        counts = {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", text)}
        assert "REG" in counts, text
        return counts

    def check(self) -> None:
        """That the kernel can be launched, and keeps all it computes with in registers."""
        usage = self.usage
        assert self.shared <= MAX_SHARED, f"{self.shared} bytes of shared memory"
        assert usage["REG"] <= MAX_REGISTERS
        assert usage["REG"] * self.threads <= 65536, f"{usage['REG']} registers x {self.threads} threads"
        # Spilled registers lie on the stack or in local memory.
        assert usage["STACK"] == usage["LOCAL"] == 0, f"spills: {usage}"


def compile_kernel(
    kernel: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    num_warps: int = 4,
    num_stages: int = 3,
    capability: int = 90,
) -> Cubin:
    """`types` of the run-time arguments as triton writes them ("*bf16", "i32", "fp32").

    Pointers and integers count as multiples of 16, as they are at the real shapes.
    """
    names = kernel.arg_names
    assert set(names) == set(types) | set(constants), set(names) ^ (set(types) | set(constants))
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = {
        (names.index(name),): [["tt.divisibility", 16]] for name, kind in types.items() if kind != "fp32"
    }
    source = ASTSource(kernel, signature, dict(constants), aligned)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return Cubin(compiled.asm["cubin"], compiled.asm["ptx"], compiled.metadata.shared, 32 * num_warps)
