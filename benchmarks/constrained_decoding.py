"""Measures what a grammar costs per token: a batch of constrained requests against one of free requests.

python -m benchmarks.constrained_decoding [--model DIR] [--batch 8] [--tokens 400]

Two engines over one model, in one process, take turns of ten steps; the ratio is the median over the turns,
so that a machine of varying speed does not matter. A constrained request generates JSON; a bias keeps its
first string, and both kinds of requests, from ending before --tokens. Near the end each token is also checked
against the shortest completion of the grammar. The table also shows processor time. Exits with 1 if the ratio
is above 1.10.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from services.common.errors import PerigeeError
from services.decode.constraint.maker import ConstraintMaker
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.decode.engine import DecodeEngine
from services.decode.limits import DecodeLimits
from services.decode.prompts.fetch import FetchOrder
from services.decode.request import Prompt, Request, Session
from services.decode.token_stepper import SingleTokenStepper
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.kv_cache.kv_pages import allocate_kv_pages
from services.engine.kv_cache.page_manager import PageManager
from services.engine.loading.text import load_text_model
from services.engine.model.text_model import TextModel
from services.engine.runner import ModelRunner
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec
from services.families.kimi.family import KIMI
from services.families.kimi.tokenizer import KimiTokenizer

BOUND = 1.10
GRAMMAR = (
    'start: %json {"type": "object", "properties": {"query": {"type": "string"},'
    ' "limit": {"type": "integer"}}, "required": ["query", "limit"], "additionalProperties": false}'
)


class _NoIO:
    """Does nothing: prompts are computed here, and there are no media."""

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        raise NotImplementedError

    def stop_fetch(self, prompt: Prompt) -> None:
        raise NotImplementedError

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        raise NotImplementedError


class Bench:
    """An engine, which the caller's thread drives."""

    def __init__(self, directory: Path, model: TextModel, batch: int, tokens: int) -> None:
        config = model.config
        num_pages = batch * (-(-(tokens + 64) // 64) + 1)
        kv_pages = allocate_kv_pages(num_pages, config.num_hidden_layers, config.kv_width, FLOAT32)
        runner = ModelRunner(model, kv_pages, config.num_hidden_layers)
        limits = DecodeLimits(batch, batch, 256, 10_000, 0, num_pages * 64, 60.0)
        self._masks = MaskThreads()
        stepper = SingleTokenStepper(runner, Sampler(config.vocab_size), self._masks, overlaps=False)
        pages = PageManager(num_pages, runner)
        self.engine = DecodeEngine(stepper, pages, self._masks, limits, _NoIO(), lambda serving: None)
        self._maker = ConstraintMaker(partial(KIMI.read_grammar_tokens, directory), config.vocab_size)
        tokenizer = KimiTokenizer.from_dir(directory)
        quotes = (token for token in range(tokenizer.num_ranks) if b'"' in tokenizer.token_bytes(token))
        self._endless = tuple((token, -100.0) for token in (*quotes, *sorted(tokenizer.stop_ids)))
        self._handle = 0

    def fill(self, batch: int, tokens: int, grammar: str | None) -> None:
        """Submits a batch and steps until all of it runs and is past the first tokens of the grammar."""
        session = Session(emit=lambda deltas: None)
        for _ in range(batch):
            self._submit(session, tokens, grammar)
        while self.engine.load.running < batch or self.engine.load.queued_tokens:
            self.engine.step()
        self.turn(15)

    def turn(self, steps: int = 10) -> tuple[float, float]:
        """Makes steps; returns their wall seconds and this process's processor seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.engine.step()
        return time.perf_counter() - wall, time.process_time() - cpu

    def close(self) -> None:
        """Ends the threads."""
        self._masks.close()
        self._maker.close()

    def _submit(self, session: Session, tokens: int, grammar: str | None) -> None:
        self._handle += 1
        request = Request(
            session=session,
            handle=self._handle,
            request_id=f"bench-{self._handle}",
            prompt_ids=[(self._handle * 31 + place) % 2000 for place in range(32)],
            output_ids=[],
            spec=SamplingSpec(top_p=0.95, logit_bias=self._endless),
            seed=self._handle,
            choices=range(1),
            max_tokens=tokens,
            media=(),
            cache_salt="",
            prefill_addresses=(),
            own_address="",
            deadline=time.monotonic() + 3600,
            rules=None if grammar is None else ConstraintRules(grammar, False, False, False),
        )
        self.engine.submit(request)
        if request.rules is not None:
            made: list[TokenConstraint | PerigeeError] = []
            self._maker.make(request.request_id, request.rules, tokens, [], lambda: True, made.append)
            while not made:
                time.sleep(0.001)
            self.engine.constraint_made(request, made[0])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_text_model(options.model, deterministic=True)
    benches = [Bench(options.model, model, options.batch, options.tokens) for _ in range(2)]
    for bench, grammar in zip(benches, (None, GRAMMAR), strict=True):
        bench.fill(options.batch, options.tokens, grammar)
    turns = [[bench.turn() for bench in benches] for _ in range((options.tokens - 40) // 10)]
    for bench in benches:
        bench.close()
    for part, name in (
        (slice(None), "all"),
        (slice(len(turns) // 2), "first half"),
        (slice(-15, None), "last 150"),
    ):
        free = statistics.median(free[0] for free, _ in turns[part]) * 100
        wall, cpu = (statistics.median(bound[k] / free[k] for free, bound in turns[part]) for k in (0, 1))
        print(
            f"{name:12} free {free:6.2f} ms per token;"
            f" constrained / free: wall {wall:.3f}, processor {cpu:.3f}"
        )
    ratio = statistics.median(bound[0] / free[0] for free, bound in turns)
    print(f"ratio {ratio:.3f}, bound {BOUND}, batch {options.batch}")
    return 0 if ratio <= BOUND else 1


if __name__ == "__main__":
    raise SystemExit(main())
