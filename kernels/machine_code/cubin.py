"""Compiles kernels to machine code without a GPU, and says what it takes of one.

The environment's CUOBJDUMP is used in place of triton's: that of triton 3.6 cannot read sm_103.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.machine_code.launch_recorder import Launch

# What one block may have on sm_90 and sm_100: 228 KiB less the 1 KiB that the driver keeps.
MAX_SHARED = 227 * 1024
MAX_REGISTERS = 255
_ALL_REGISTERS = 65536
MATRIX_PRODUCTS = frozenset(("HMMA", "HGMMA", "UTCHMMA"))
"""Instructions that multiply matrices: of a warp, of a warp group, and of Blackwell's tensor memory."""
# An address, perhaps a predicate, the instruction, its operands.
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)([^;]*)", re.MULTILINE)
_ADDRESS = re.compile(r"\b0x([0-9a-f]+)\s*$")


@dataclass(frozen=True)
class Instruction:
    """One of a kernel's. `name` without its modifiers, such as LDG; `rest`: those, and the operands."""

    address: int
    name: str
    rest: str

    @property
    def jumps_to(self) -> int | None:
        """The address, if it is a branch."""
        target = _ADDRESS.search(self.rest) if self.name == "BRA" else None
        return target and int(target[1], 16)


@dataclass(frozen=True)
class Cubin:
    """A compiled kernel. `shared` bytes of dynamic shared memory, `threads` per block."""

    binary: bytes
    shared: int
    threads: int

    @cached_property
    def usage(self) -> dict[str, int]:
        """cuobjdump's counts for the kernel, such as REG, STACK and LOCAL."""
        text = self._dump("--dump-resource-usage")
        counts = {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", text)}
        if "REG" not in counts:
            raise RuntimeError(f"cuobjdump says nothing of registers: {text}")
        return counts

    @cached_property
    def instructions(self) -> list[Instruction]:
        """Its machine code, in order."""
        text = self._dump("--dump-sass")
        return [Instruction(int(at, 16), name, rest) for at, name, rest in _INSTRUCTION.findall(text)]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each instruction stands in the whole kernel."""
        return _counts(self.instructions)

    @cached_property
    def product_loop(self) -> Counter[str]:
        """How often each instruction stands in the shortest loop with a matrix product; empty without one."""
        loops = [_counts(loop) for loop in _loops(self.instructions)]
        with_product = [loop for loop in loops if MATRIX_PRODUCTS & loop.keys()]
        return min(with_product, key=Counter.total, default=Counter())

    def faults(self) -> list[str]:
        """Says why it cannot be launched, or what it keeps outside registers; empty if nothing."""
        registers, spilled = self.usage["REG"], self.usage["STACK"] + self.usage["LOCAL"]
        found = []
        if self.shared > MAX_SHARED:
            found.append(f"{self.shared} bytes of shared memory, of {MAX_SHARED}")
        if registers > MAX_REGISTERS or registers * self.threads > _ALL_REGISTERS:
            found.append(f"{registers} registers x {self.threads} threads, of {_ALL_REGISTERS}")
        if spilled:
            found.append(f"{spilled} bytes of spilled registers")
        return found

    def _dump(self, what: str) -> str:
        own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        tool = os.environ.get("CUOBJDUMP", own)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.binary)
            file.flush()
            done = subprocess.run([str(tool), what, file.name], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"cuobjdump {what} ends with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout


def compile_launch(launch: Launch, capability: int) -> Cubin:
    """Compiles for a GPU of that compute capability: 90 is 9.0."""
    names = launch.kernel.arg_names
    signature = dict.fromkeys(names, "constexpr") | dict(launch.types)
    attributes = {
        (names.index(name),): [["tt.divisibility", 16]] for name, _ in launch.types if name in launch.aligned
    }
    source = ASTSource(launch.kernel, signature, dict(launch.constants), attributes)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return Cubin(compiled.asm["cubin"], compiled.metadata.shared, 32 * launch.num_warps)


def _counts(instructions: Sequence[Instruction]) -> Counter[str]:
    return Counter(each.name for each in instructions)


def _loops(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """The instructions from each place that is jumped back to, to the last such jump."""
    ends: dict[int, int] = {}
    for each in instructions:
        if (target := each.jumps_to) is not None and target < each.address:
            ends[target] = each.address
    return [[each for each in instructions if start <= each.address <= end] for start, end in ends.items()]
