"""Runs the decode engine with kimi-nano on a GPU and compares its tokens with those of the CPU.

python -m benchmarks.gpu_first.engine [--model DIR] [--rows 64] [--tokens 32] [--dry-run] [--out DIR]

First a batch of different prompts, in fast mode, with recorded decode steps and tokens drawn by the kernel.
A token is right if the CPU, given the same context in float32, likes no other one better by more than a
fraction of the standard deviation of its logits. Then, in deterministic mode, conversations go on from cached
pages whose copies stand behind a long kernel, while READs land at once. Exits with 1 if a token is wrong.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.engine_alone import Answers, EngineAlone
from benchmarks.gpu_first.copies import PAGES, CopyCheck, LateCopies, QuickFetches
from benchmarks.gpu_first.findings import Findings
from benchmarks.gpu_first.questions import questions
from services.decode.limits import DecodeLimits
from services.engine.batch import PAGE_TOKENS, BatchBuilder
from services.engine.kv_cache.kv_format import BFLOAT16, FLOAT32, KvFormat
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.loading.for_worker import load_for
from services.engine.model.architectures import load_config
from services.engine.runner import ModelRunner
from services.engine.sampling.sampler import Draw, Sampler
from services.engine.sampling.spec import SamplingSpec

NANO = Path(__file__).parents[2] / "models" / "kimi-nano"
TOLERANCE = 0.25
"""Standard deviations of the logits: bfloat16 in five layers, against float32; on a CPU it was 0.06."""
DELAY_S = 0.1
_PROMPT_PAGES = 8


@dataclass(frozen=True)
class Hardware:
    """Where the engine runs, and in what format."""

    device: torch.device
    kv_format: KvFormat
    kernels: bool

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights and pages."""
        return self.kv_format.dtype


GPU = Hardware(torch.device("cuda", 0), BFLOAT16, kernels=True)
INTERPRETER = Hardware(torch.device("cpu"), FLOAT32, kernels=True)
CPU = Hardware(torch.device("cpu"), FLOAT32, kernels=False)


def runner_on(model: Path, hardware: Hardware, num_pages: int, *, deterministic: bool) -> LateCopies:
    """The model over pages of its own, as a worker makes it."""
    config = load_config(model).text
    shape = (num_pages, config.num_hidden_layers, config.kv_width)
    kv_pages = allocate_kv_pages(*shape, hardware.kv_format, hardware.device)
    text, steps = load_for(
        model,
        deterministic,
        hardware.dtype,
        kv_pages,
        hardware.kv_format,
        kernels=hardware.kernels,
        decodes=True,
    )
    return LateCopies(
        text, kv_pages, config.num_hidden_layers, decode_steps=steps, kv_format=hardware.kv_format
    )


def sampler_on(model: Path, hardware: Hardware) -> Sampler:
    """Draws by the kernel wherever the model runs on kernels."""
    draw: Draw | None = None
    if hardware.kernels:
        from services.engine.kernel_model.draw import draw_on_device

        draw = draw_on_device
    return Sampler(load_config(model).text.vocab_size, draw)


def answers(
    runner: ModelRunner, sampler: Sampler, prompts: Sequence[list[int]], tokens: int, *, overlaps: bool
) -> list[list[int]]:
    """The greedy tokens of all prompts, submitted at once."""
    rows, each = len(prompts), _PROMPT_PAGES * PAGE_TOKENS
    limits = DecodeLimits(rows, rows, each, each, 0, each, 60.0)
    given, io = Answers(), QuickFetches(runner.kv_pages, {})
    engine = EngineAlone(runner, sampler, len(runner.kv_pages), limits, io, given.take, overlaps=overlaps)
    handles = [engine.submit(prompt, tokens, SamplingSpec(temperature=0.0)) for prompt in prompts]
    engine.run()
    return [given[handle][0] for handle in handles]


def gaps(model: Path, prompts: Sequence[list[int]], found: Sequence[list[int]]) -> list[list[float]]:
    """How much better than each token the CPU likes its own one, given the same context, in standard
    deviations of its logits; 0: it is the same token.
    """
    runner = runner_on(model, CPU, len(prompts) * _PROMPT_PAGES, deterministic=True)
    tables = [list(range(row * _PROMPT_PAGES, (row + 1) * _PROMPT_PAGES)) for row in range(len(prompts))]
    logits = []
    for prompt, table in zip(prompts, tables, strict=True):
        batch = BatchBuilder()
        batch.add(prompt, 0, table, wants_logits=True)
        logits.append(runner.forward(batch.build())[0].clone())
    measured: list[list[float]] = [[] for _ in prompts]
    for place in range(len(found[0])):
        batch = BatchBuilder()
        for row, answer in enumerate(found):
            wanted = logits[row]
            measured[row].append(((wanted.max() - wanted[answer[place]]) / wanted.std()).item())
            batch.add([answer[place]], len(prompts[row]) + place, tables[row], wants_logits=True)
        logits = list(runner.forward(batch.build()).clone())
    return measured


def check_rows(findings: Findings, model: Path, hardware: Hardware, rows: int, tokens: int) -> bool:
    """Compares the tokens of a batch with the CPU's."""
    began = time.perf_counter()
    runner = runner_on(model, hardware, rows * _PROMPT_PAGES, deterministic=False)
    findings.add(load_s=round(time.perf_counter() - began, 2))
    prompts = questions(model, rows)
    ask = partial(answers, runner, sampler_on(model, hardware), prompts, overlaps=True)
    began = time.perf_counter()
    found = ask(tokens)
    findings.add(rows=rows, tokens=rows * tokens, generate_s=round(time.perf_counter() - began, 2))
    if hardware.device.type == "cuda":  # now that everything is compiled
        began = time.perf_counter()
        ask(tokens)
        findings.add(again_s=round(time.perf_counter() - began, 2))
    measured = [gap for row in gaps(model, prompts, found) for gap in row]
    findings.add(equal_tokens=measured.count(0.0), worst_gap=round(max(measured), 4), gap_bound=TOLERANCE)
    return max(measured) <= TOLERANCE


def check_copies(findings: Findings, model: Path, hardware: Hardware, delay: Callable[[], object]) -> bool:
    """Compares answers that go on from late copies with those of an engine without any."""
    runner = runner_on(model, hardware, PAGES, deterministic=True)
    tokens = [token for prompt in questions(model, 24) for token in prompt]
    check = CopyCheck(runner, sampler_on(model, hardware), tokens, delay, overlaps=hardware.kernels)
    findings.add(copies=check.run(), wrong_copies=check.wrong)
    return not check.wrong


def long_kernel() -> None:
    """Keeps the GPU's current stream busy for at least DELAY_S, up to clocks of 2 GHz."""
    torch.cuda._sleep(int(DELAY_S * 2e9))


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_first.engine", description=__doc__)
    parser.add_argument("--model", type=Path, default=NANO)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dry-run", action="store_true", help="two rows in Triton's interpreter")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(argv)
    rows, tokens, hardware, late = options.rows, options.tokens, GPU, GPU
    delay: Callable[[], object] = long_kernel
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
        rows, tokens, hardware, late, delay = 2, 3, INTERPRETER, CPU, lambda: None
    findings = Findings(options.out)
    right = check_rows(findings, options.model, hardware, rows, tokens)
    right = check_copies(findings, options.model, late, delay) and right
    findings.add(verdict="right" if right else "WRONG")
    return int(not right)


if __name__ == "__main__":
    raise SystemExit(main())
