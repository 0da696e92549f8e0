"""The first things that a GPU must do, each by itself: compile, launch, add up in a graph, serve a thread.

python -m benchmarks.gpu_first.start compiler|launch|all-reduce|thread [--dry-run] [--out DIR]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.again import Again
from benchmarks.gpu_first.findings import Findings

SIZE = 1 << 16


def compiler(findings: Findings, device: torch.device) -> bool:
    """A C compiler builds the module that launches kernels, and a kernel becomes machine code."""
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="triton-")  # nothing compiled before counts
    from kernels.machine_code.cubin import compile_launch
    from kernels.machine_code.launch_recorder import record
    from kernels.silu_mul import silu_mul

    capability = 90
    began = time.perf_counter()
    if device.type == "cuda":
        import triton

        triton.runtime.driver.active.get_current_target()  # builds it
        major, minor = torch.cuda.get_device_capability(device)
        capability = 10 * major + minor
    else:
        _build_module(Path(os.environ["TRITON_CACHE_DIR"]))
    findings.add(module_s=round(time.perf_counter() - began, 2))
    began = time.perf_counter()
    rows = torch.empty(4, 2 * 2048, dtype=torch.bfloat16, device="meta")
    (launch,) = record(lambda: silu_mul(rows), capability)
    cubin = compile_launch(launch, capability)
    findings.add(
        kernel_s=round(time.perf_counter() - began, 2),
        capability=capability,
        registers=cubin.usage["REG"],
        faults=cubin.faults(),
    )
    return not cubin.faults()


def launch(findings: Findings, device: torch.device) -> bool:
    """One kernel gives what plain PyTorch gives."""
    from kernels.reference.silu_mul import silu_mul as reference
    from kernels.silu_mul import silu_mul

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = torch.randn(8, 2 * 2048, device=device, dtype=dtype)
    began = time.perf_counter()
    got = silu_mul(rows)
    wanted = reference(rows).float()
    error = ((got.float() - wanted).abs().max() / wanted.abs().max()).item()
    findings.add(seconds=round(time.perf_counter() - began, 3), error=error)
    return error <= 1e-2


def all_reduce(findings: Findings, device: torch.device) -> bool:
    """A group of one adds up, in both modes, in a CUDA graph whose input changes between replays."""
    from services.engine.kernel_model.decode_graphs import CudaGraph
    from services.engine.model.tensor_group import DistributedGroup
    from services.engine.ranks.meeting import Meeting
    from services.engine.ranks.process_group import leave_group, start_group

    if device.type == "cuda":
        torch.cuda.set_device(device)
    began = time.perf_counter()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        meeting = Meeting.host(bound, 1, lambda: None)
    start_group(meeting.store, 0, 1, device)
    findings.add(start_s=round(time.perf_counter() - began, 2))
    right = True
    with torch.inference_mode():
        for deterministic in (False, True):
            group = DistributedGroup(deterministic=deterministic)
            given, total = torch.zeros(SIZE, device=device), torch.zeros(SIZE, device=device)
            recorded = (CudaGraph if device.type == "cuda" else Again)(_summing(group.sum, given, total))
            for value in (2.0, 3.0):
                given.fill_(value)
                recorded.replay()
                right = right and bool((total == value).all())
    findings.add(right_sums=right, left_in_time=leave_group(device, 10.0))
    return right and bool(findings.found["left_in_time"])


def thread(findings: Findings, device: torch.device) -> bool:
    """A new thread gets a context before it uses the GPU's memory, as the transfer thread does."""
    from services.engine.kv_transfer.agents.pool_device import Host, PoolDevice

    pool_device: PoolDevice = Host()
    if device.type == "cuda":
        from services.engine.kv_transfer.agents.gpu import Gpu

        torch.zeros(1, device=device)  # this thread has one already, as a worker's main thread
        pool_device = Gpu(device.index)
    values = np.arange(SIZE, dtype=np.uint8)
    right: list[bool] = []

    def serve() -> None:
        before = _has_context(device)
        pool_device.bind()
        after = _has_context(device)
        findings.add(context_before=before, context_after=after)
        right.append(after is not False and np.array_equal(pool_device.place(values).read(), values))

    bare = threading.Thread(target=serve)
    bare.start()
    bare.join()
    return right == [True]


CHECKS: dict[str, Callable[[Findings, torch.device], bool]] = {
    "compiler": compiler,
    "launch": launch,
    "all-reduce": all_reduce,
    "thread": thread,
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_first.start", description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(argv)
    if options.dry_run and options.check == "launch":
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    findings = Findings(options.out)
    device = torch.device("cpu") if options.dry_run else torch.device("cuda", 0)
    right = CHECKS[options.check](findings, device)
    findings.add(verdict="right" if right else "WRONG")
    return int(not right)


def _summing(
    add_up: Callable[[torch.Tensor], torch.Tensor], given: torch.Tensor, total: torch.Tensor
) -> Callable[[], None]:
    def compute() -> None:
        total.copy_(add_up(given))

    return compute


def _has_context(device: torch.device) -> bool | None:
    """Whether the calling thread has a CUDA context; None where there is no GPU."""
    if device.type != "cuda":
        return None
    context = ctypes.c_void_p()
    ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(context))
    return context.value is not None


def _build_module(directory: Path) -> None:
    """Builds and loads a shared library, as Triton does with the module that launches kernels."""
    source, library = directory / "answer.c", directory / "answer.so"
    source.write_text("#include <Python.h>\nint answer(void) { return 42; }\n")
    include = sysconfig.get_path("include")
    words = [os.environ.get("CC", "cc"), "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(library)]
    subprocess.run(words, check=True)
    if ctypes.CDLL(str(library)).answer() != 42:
        raise RuntimeError("the C compiler's library does not work")


if __name__ == "__main__":
    raise SystemExit(main())
