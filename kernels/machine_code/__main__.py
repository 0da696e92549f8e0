"""Compiles every kernel at the real shapes with the installed triton, and prints what each takes of a GPU.

`make sass` runs it with each version of triton that is supported, and writes table.json.
"""

from __future__ import annotations

import argparse

import triton

from kernels.machine_code.table import CAPABILITIES, Row, compiled, write


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if a kernel cannot be launched or spills registers."""
    parser = argparse.ArgumentParser(prog="python -m kernels.machine_code", description=__doc__)
    parser.add_argument("--capability", type=int, nargs="*", default=CAPABILITIES, help="90 is 9.0")
    parser.add_argument("--write", action="store_true", help="write table.json (of all capabilities)")
    options = parser.parse_args(argv)
    rows: dict[str, dict[str, Row]] = {}
    faulty = False
    for capability in options.capability:
        print(f"triton {triton.__version__}, sm_{capability}")
        own = rows[str(capability)] = {}
        for name, cubin in compiled(capability).items():
            row = own[name] = Row.of(cubin)
            faults = cubin.faults()
            faulty = faulty or bool(faults)
            print(_line(name, row), "".join(f"  FAULT: {fault}" for fault in faults), flush=True)
    if options.write:
        write(rows)
    return int(faulty)


def _line(name: str, row: Row) -> str:
    loop = f"{row.products} products, loop {row.loop}: {row.loads} loads, {row.copies} copies"
    taken = f"{row.registers:4} registers x {row.threads:3}, {row.shared:6} B shared"
    return f"  {name:58} {taken}{'; ' + loop if row.products else ''}"


if __name__ == "__main__":
    raise SystemExit(main())
