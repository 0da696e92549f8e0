"""Tries a GPU for the first time: one call, and a second one for NIXL.

python -m benchmarks.gpu_first [first|nixl] [--from STEP] [--dry-run] [--results DIR] [--wheels DIR]

`first` takes at most 540 s: the compiler, one kernel, a captured all-reduce, a context on a bare thread, the
logits of a slice of Kimi-K2.5, the engine with kimi-nano, times with a profiler's trace, all kernels. `nixl`
takes at most 150 s and moves pages from one process's GPU memory to another's. Every step is a process with a
limit of its own: one that hangs is killed, and the next one runs. Writes gpu_first.json, gpu_first.log and
gpu_first.trace.json.gz below DIR, in a folder named by the GPU. With --from the earlier steps' results stay
as they are there. Exits with 1 if a step failed. Without a GPU it prints "not run"; --dry-run takes the same
way on the CPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_first.call import ROOT, Place, Runner
from benchmarks.gpu_first.record import Record
from benchmarks.gpu_first.steps import CALLS, FIRST, MACHINE, Step
from benchmarks.gpu_first.wheels import WHEELS, unpack
from kernels.benchmarks.report import RESULTS, results_of

_REHEARSED = ROOT / ".run" / "gpu-first"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    names = [step.name for step in chosen(options.call, None)]
    if options.start not in (None, *names):
        parser.error(f"there is no step {options.start} in this call; there are {', '.join(names)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a step's processes end with this one
    with tempfile.TemporaryDirectory(prefix="gpu-first-") as scratch:
        return _run(options, Path(scratch))


def _run(options: argparse.Namespace, scratch: Path) -> int:
    call = CALLS[options.call]
    env = environment(os.environ, unpack(options.wheels, scratch / "site"), rehearses=options.dry_run)
    runner = Runner(call, env, rehearses=options.dry_run)
    ending, machine, log = runner.machine(scratch)
    if ending.failure:
        sys.stdout.write(log.read_text(errors="replace"))
        print(f"gpu-first: the machine cannot be described: {ending.failure}")
        return 1
    if not options.dry_run and not machine["gpu"]:
        print("gpu-first: not run: torch sees no CUDA device here; --dry-run rehearses on the CPU")
        return 0
    place = _place(options, machine)
    steps = chosen(options.call, options.start)
    record = Record.continued(place.record)
    if options.start is None and call is FIRST:
        place.log.write_bytes(b"")
    with place.log.open("ab") as whole:
        whole.write(f"\n==== {call.name} call\n".encode() + log.read_bytes())
    record.begin_call(call, steps, machine)
    well = runner.run(steps, record, place, machine)
    print(f"{runner.seconds:.0f} s of {call.limit_s:.0f}; {place.record}")
    return int(not well)


def chosen(call: str, start: str | None) -> list[Step]:
    """The steps of a call from the one named `start`, or all of them."""
    steps = [step for step in CALLS[call].steps if step.name != MACHINE]
    names = [step.name for step in steps]
    return steps[names.index(start) if start else 0 :]


def environment(own: Mapping[str, str], site: Path | None, *, rehearses: bool) -> dict[str, str]:
    """The variables of the steps' processes: where generated code and unpacked wheels lie, tracebacks of
    processes that are killed, and no GPU in a rehearsal.
    """
    path = [*([str(site)] if site else []), str(ROOT), str(ROOT / "protos")]
    if "PYTHONPATH" in own:
        path.append(own["PYTHONPATH"])
    found = {**own, "PYTHONPATH": os.pathsep.join(path), "PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
    return found | {"CUDA_VISIBLE_DEVICES": ""} if rehearses else found


def _place(options: argparse.Namespace, machine: Mapping[str, Any]) -> Place:
    if options.dry_run:
        directory = options.results or _REHEARSED
    else:
        directory = results_of(machine["gpu"], options.results or RESULTS)
    directory.mkdir(parents=True, exist_ok=True)
    return Place(directory)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_first",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("call", nargs="?", choices=CALLS, default=FIRST.name)
    parser.add_argument("--from", dest="start", metavar="STEP", default=None, help="leave out what is before")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, no GPU")
    parser.add_argument("--results", type=Path, default=None, help="instead of beside the kernels")
    parser.add_argument(
        "--wheels", type=Path, default=WHEELS, help="a folder of `make gpu-wheels`, if it exists"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
