"""Copies of cached pages that a GPU makes late, while READs land at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.engine_alone import Answers, EngineAlone
from services.decode.limits import DecodeLimits
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.request import Prompt
from services.engine.batch import PAGE_TOKENS, BatchBuilder
from services.engine.runner import ModelRunner
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.spec import SamplingSpec

PAGES = 5
FIRST_TOKENS, ANSWER_TOKENS = 100, 4
"""The first turn writes 103 tokens: a page, and a tail of 39."""
NEAR_TOKENS, FAR_TOKENS = 10, 100
_FAR = ("prefill",)
_STALE = 7.0
_GREEDY = SamplingSpec(temperature=0.0)
_LIMITS = DecodeLimits(
    max_running=8,
    max_waiting=8,
    chunk_tokens=128,
    local_prefill_tokens=16,
    headroom_pages=0,
    context_length=PAGES * PAGE_TOKENS,
    lease_s=60.0,
)


class LateCopies(ModelRunner):
    """Keeps the GPU busy before every copy of a page, so that the copy is made late. Counts the copies."""

    copies = 0
    delay: Callable[[], object] = staticmethod(lambda: None)

    def copy(self, source: int, destination: int) -> None:
        """See ModelRunner."""
        self.copies += 1
        self.delay()
        super().copy(source, destination)


class QuickFetches:
    """An EngineIO whose READs have landed when the call that orders them returns, whatever the GPU still has
    to do: as those of a NIC that writes into its memory.
    """

    def __init__(self, kv_pages: Tensor, contents: dict[tuple[int, ...], Tensor]) -> None:
        """`contents`: pages by prompt."""
        self.orders: list[tuple[Prompt, FetchOrder]] = []
        self._kv_pages = kv_pages
        self._contents = contents
        self._stream = torch.cuda.Stream() if kv_pages.is_cuda else None

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        """See EngineIO."""
        self.orders.append((prompt, order))
        wanted = self._contents[tuple(prompt.context)][order.cached_pages :]
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for page, content in zip(order.pages, wanted, strict=False):
                self._kv_pages[page].copy_(content)
        if self._stream is not None:
            self._stream.synchronize()

    def stop_fetch(self, prompt: Prompt) -> None:
        """See EngineIO; never called."""
        raise AssertionError("nobody stops a fetch")

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        """See EngineIO; never called."""
        raise AssertionError("there are no media")

    stop_media = stop_fetch


@dataclass
class CopyCheck:
    """Conversations whose next turn goes on from a cached tail, near or far from prefill, and choices that
    share a prompt. All answers must be those of an engine that computes everything itself, in time.
    """

    runner: LateCopies
    sampler: Sampler
    tokens: Sequence[int]
    delay: Callable[[], object]
    overlaps: bool
    wrong: list[str] = field(default_factory=list)

    def run(self) -> dict[str, tuple[int, int]]:
        """The number of late copies and of fetches, by case. One in which nothing is copied or fetched that
        should be shows nothing: it is wrong, too.
        """
        first = self._alone([list(self.tokens[:FIRST_TOKENS])])[0]
        context = [*self.tokens[:FIRST_TOKENS], *first]
        more = list(self.tokens[FIRST_TOKENS:])
        near = [*context, *more[:NEAR_TOKENS]]
        far = [*context, *more[:FAR_TOKENS]]
        other = more[: 3 * PAGE_TOKENS - 8]
        counted: dict[str, tuple[int, int]] = {}
        for name, prompts, choices, least in (
            ("far", [far], 1, (0, 1)),
            ("near", [near], 1, (1, 0)),
            ("near beside far", [near, other], 1, (1, 1)),
            ("two choices", [far], 2, (1, 0)),
        ):
            copies, fetches = counted[name] = self._case(
                name, context, prompts, self._alone(prompts), choices
            )
            if copies < least[0] or fetches < least[1]:
                self.wrong.append(f"{name}: {copies} copies, {fetches} fetches; at least {least} are wanted")
        return counted

    def _case(
        self,
        name: str,
        context: list[int],
        prompts: list[list[int]],
        wanted: list[list[int]],
        choices: int,
    ) -> tuple[int, int]:
        contents = {tuple(prompt): self._pages_of(prompt) for prompt in prompts}
        fetches = QuickFetches(self.runner.kv_pages, contents)
        engine, given = self._engine(fetches)
        engine.submit(context[:FIRST_TOKENS], ANSWER_TOKENS, _GREEDY)
        engine.run()
        before = self.runner.copies
        self.runner.delay = self.delay
        prefill = _FAR if choices == 1 else ()
        handles = [
            engine.submit(prompt, ANSWER_TOKENS, _GREEDY, choices=choices, prefill=prefill)
            for prompt in prompts
        ]
        engine.run()
        for prompt, order in fetches.orders:
            engine.engine.fetch_ended(prompt, FetchResult(None, computed_tokens=len(order.token_ids)))
        engine.run()
        del self.runner.delay
        for handle, right in zip(handles, wanted, strict=True):
            if list(given[handle].values()) != [right] * choices:
                self.wrong.append(f"{name}: {dict(given[handle])}, not {right}")
        return self.runner.copies - before, len(fetches.orders)

    def _alone(self, prompts: list[list[int]]) -> list[list[int]]:
        """The answers of an engine that has nothing cached and computes one prompt after another."""
        found = []
        for prompt in prompts:
            engine, given = self._engine(QuickFetches(self.runner.kv_pages, {}))
            handle = engine.submit(prompt, ANSWER_TOKENS, _GREEDY)
            engine.run()
            found.append(given[handle][0])
        return found

    def _engine(self, io: QuickFetches) -> tuple[EngineAlone, Answers]:
        """An engine over pages that hold nothing of what was computed before, which might be right."""
        self.runner.kv_pages.fill_(_STALE)
        given = Answers()
        alone = EngineAlone(self.runner, self.sampler, PAGES, _LIMITS, io, given.take, overlaps=self.overlaps)
        return alone, given

    def _pages_of(self, prompt: list[int]) -> Tensor:
        """What a prefill worker would have in its pages."""
        pages = list(range(-(-len(prompt) // PAGE_TOKENS)))
        batch = BatchBuilder()
        batch.add(prompt, 0, pages, wants_logits=False)
        self.runner.forward(batch.build(self.runner.batch_device))
        self.runner.mark().wait()
        return self.runner.kv_pages[pages].clone()
