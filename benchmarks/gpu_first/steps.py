"""The steps of the two calls, in the order in which a GPU that nobody has used yet is tried."""

from __future__ import annotations

from dataclasses import dataclass

MACHINE = "machine"
"""The step of every call that names the GPU and the software; the others' results are filed by it."""


@dataclass(frozen=True)
class Step:
    """A process: `python -m` with the words of `command`, ended after `limit_s` seconds.

    In the words {out} is a directory of the step's own, where it leaves what it found; {trace} is the file of
    the profiler's trace; {seconds} is how long it may begin new rows, {patience} how long it may take at all.
    `rehearsal` are the words that take the same way without a GPU; `stand_in` says what does the GPU's work
    there. `needs` are the packages without which the step is not run.
    """

    name: str
    limit_s: float
    command: str
    rehearsal: str
    stand_in: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """Steps that one run of the command makes, within `limit_s` seconds all together."""

    name: str
    limit_s: float
    steps: tuple[Step, ...]


_INTERPRETER = "Triton's interpreter, tiny sizes"
_KERNELS = "kernels.gpu_check --seconds {seconds} --results {out}"
_SLICE = "benchmarks.layer_slice --seconds {seconds} --results {out}"
_START = "benchmarks.gpu_first.start --out {out}"
_PAGES = "benchmarks.kv_transfer --seconds {patience} --results {out}"
_READS = f"{_PAGES} --out {{out}}/found.json --bound 0"

_TRITON = ("triton", "numpy")
_MODEL = (*_TRITON, "structlog")
_ENGINE = (*_MODEL, "msgspec", "llguidance", "prometheus-client", "protobuf", "tiktoken")
_NIXL = ("numpy", "protobuf", "nixl")

_MACHINE = Step(
    MACHINE,
    30.0,
    "benchmarks.gpu_first.machine --out {out}",
    "benchmarks.gpu_first.machine --out {out}",
    "this machine",
)
FIRST = Call(
    "first",
    540.0,
    (
        _MACHINE,
        Step(
            "compiler",
            30.0,
            f"{_START} compiler",
            f"{_START} --dry-run compiler",
            "compiled for sm_90, loaded nowhere",
            _TRITON,
        ),
        Step("launch", 30.0, f"{_START} launch", f"{_START} --dry-run launch", _INTERPRETER, _TRITON),
        Step(
            "all-reduce",
            40.0,
            f"{_START} all-reduce",
            f"{_START} --dry-run all-reduce",
            "gloo instead of NCCL; computed again instead of a graph",
            _MODEL,
        ),
        Step(
            "thread",
            20.0,
            f"{_START} thread",
            f"{_START} --dry-run thread",
            "host memory, which needs no context",
        ),
        Step(
            "slice-logits",
            80.0,
            f"{_SLICE} --part logits",
            f"{_SLICE} --part logits --dry-run",
            _INTERPRETER,
            _MODEL,
        ),
        Step(
            "engine",
            90.0,
            "benchmarks.gpu_first.engine --out {out}",
            "benchmarks.gpu_first.engine --out {out} --dry-run",
            "2 rows in Triton's interpreter; copies of pages in plain PyTorch, which are made at once",
            _ENGINE,
        ),
        Step(
            "slice-times",
            90.0,
            f"{_SLICE} --part times --trace {{trace}}",
            f"{_SLICE} --part times --trace {{trace}} --dry-run",
            _INTERPRETER,
            _MODEL,
        ),
        Step(
            "kernels",
            80.0,
            f"{_KERNELS} --kernels mla_decode mla_prefill experts sampling",
            f"{_KERNELS} --kernels mla_decode mla_prefill experts sampling --dry-run",
            _INTERPRETER,
            _TRITON,
        ),
        Step(
            "other-kernels",
            30.0,
            f"{_KERNELS} --kernels rms_norm silu_mul rope latent_store router expert_alignment page_copy",
            f"{_KERNELS} --kernels rms_norm silu_mul rope latent_store router expert_alignment page_copy"
            " --dry-run",
            _INTERPRETER,
            _TRITON,
        ),
    ),
)
NIXL = Call(
    "nixl",
    150.0,
    (
        _MACHINE,
        Step(
            "nixl-host",
            45.0,
            f"{_READS} --pages 256",
            f"{_READS} --pages 16 --rounds 2",
            "this machine, fewer pages",
            _NIXL,
        ),
        Step(
            "nixl-vram",
            65.0,
            f"{_PAGES} --device cuda:0 --pages 2048",
            f"{_READS} --pages 32 --rounds 2",
            "host memory, fewer pages",
            _NIXL,
        ),
    ),
)
CALLS = {call.name: call for call in (FIRST, NIXL)}
