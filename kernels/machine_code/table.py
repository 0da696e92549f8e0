"""The committed table of what every kernel takes of a GPU, by version of triton and compute capability."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import msgspec
import triton

from kernels.launch import CAPABILITIES as KNOWN
from kernels.machine_code.cases import cases
from kernels.machine_code.cubin import MATRIX_PRODUCTS, Cubin, compile_launch
from kernels.machine_code.launch_recorder import Launch, record

CAPABILITIES = tuple(10 * major + minor for major, minor in KNOWN)
"""Those that the kernels run on: 90 is 9.0."""
PATH = Path(__file__).with_name("table.json")


class Row(msgspec.Struct, frozen=True):
    """A kernel's machine code. Bytes: `spilled` registers, `shared` memory. `products`: instructions that
    multiply matrices. In the shortest loop with one: all `loop` instructions, `loads` that wait for memory
    (LDG), and `copies` that do not (LDGSTS).
    """

    registers: int
    threads: int
    spilled: int
    shared: int
    products: int
    loop: int
    loads: int
    copies: int

    @classmethod
    def of(cls, cubin: Cubin) -> Row:
        """Reads it from the machine code."""
        loop = cubin.product_loop
        return cls(
            registers=cubin.usage["REG"],
            threads=cubin.threads,
            spilled=cubin.usage["STACK"] + cubin.usage["LOCAL"],
            shared=cubin.shared,
            products=sum(cubin.counts[name] for name in MATRIX_PRODUCTS),
            loop=loop.total(),
            loads=loop["LDG"],
            copies=loop["LDGSTS"],
        )


class Table(msgspec.Struct):
    """`rows[triton][capability][launch]`, made from `sources`, a hash of what it depends on here."""

    sources: str
    rows: dict[str, dict[str, dict[str, Row]]]


def sources() -> str:
    """Returns the SHA-256 of the files with kernels and of the cases."""
    here = Path(__file__).parent
    texts = [file.read_bytes() for file in sorted(here.parent.glob("*.py"))]
    kernels = [text for text in texts if b"@triton.jit" in text]
    return hashlib.sha256(b"".join([*kernels, (here / "cases.py").read_bytes()])).hexdigest()


def launches(capability: int) -> dict[str, Launch]:
    """Returns every launch of all cases on such a GPU, once, by a name of the case and the kernel."""
    found: dict[Launch, str] = {}
    for case in cases():
        seen: Counter[str] = Counter()
        for launch in record(case.call, capability):
            seen[launch.name] += 1
            times = f" {seen[launch.name]}" if seen[launch.name] > 1 else ""
            found.setdefault(launch, f"{case.name}: {launch.name}{times}")
    return {name: launch for launch, name in found.items()}


def compiled(capability: int) -> dict[str, Cubin]:
    """Compiles every launch with the installed triton."""
    return {name: compile_launch(launch, capability) for name, launch in launches(capability).items()}


def read() -> Table:
    """Returns the committed table."""
    return msgspec.json.decode(PATH.read_bytes(), type=Table)


def write(rows: dict[str, dict[str, Row]]) -> None:
    """Writes rows of the installed triton; keeps another one's if the sources are still the same."""
    current = sources()
    kept = read() if PATH.exists() else Table(current, {})
    table = Table(current, dict(kept.rows) if kept.sources == current else {})
    table.rows[triton.__version__] = rows
    table.rows = dict(sorted(table.rows.items()))
    PATH.write_bytes(_one_row_a_line(msgspec.json.encode(table)))


def _one_row_a_line(document: bytes) -> bytes:
    return document.replace(b'":{', b'":\n{').replace(b"},", b"},\n") + b"\n"
