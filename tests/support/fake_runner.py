"""A model without weights whose output shows whether the right pages were read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import torch

from services.engine.batch import PAGE_TOKENS, DeviceTokens, ForwardBatch
from services.engine.host_copy import DeviceEvent
from services.engine.kv_cache.kv_format import FLOAT32
from services.engine.kv_cache.kv_pages import allocate_kv_pages

NUM_LAYERS = 2
WIDTH = 4
VOCAB = 64
HIDDEN = 8


def fake_pages(num_pages: int) -> torch.Tensor:
    """[num_pages, 2, 64, 4]: token + 1, position, first value of an embedding, layer."""
    return allocate_kv_pages(num_pages, NUM_LAYERS, WIDTH, FLOAT32)


def next_token(tokens: Sequence[float]) -> int:
    """The token that follows `tokens`: it depends on every position, and on embeddings in place of tokens."""
    state = 7
    for token in tokens:
        state = (state * 31 + int(token) + 1) % 100_003
    return state % VOCAB


def greedy(prompt: Sequence[int], num_tokens: int) -> list[int]:
    """The output of an undisturbed greedy run of `prompt`."""
    context = list(prompt)
    for _ in range(num_tokens):
        context.append(next_token(context))
    return context[len(prompt) :]


class FakeRunner:
    """Writes its inputs into the pages, layer by layer, and computes logits from what it reads there.

    A wrong, missing or foreign entry in a context fails an assertion.
    """

    def __init__(self, kv_pages: torch.Tensor) -> None:
        self.kv_pages = kv_pages
        torch.set_num_threads(1)  # tensors this small gain nothing from more
        self.batches: list[ForwardBatch] = []
        self.copies: list[tuple[int, int]] = []
        self.told: list[int] = []
        self.poison: set[int] = set()
        """Tokens after which the logits are NaN."""

    @property
    def batch_device(self):
        return self.kv_pages.device

    @property
    def interruptible(self):
        return True

    def copy(self, source, destination):
        self.copies.append((source, destination))
        self.kv_pages[destination] = self.kv_pages[source]

    def share_pages(self, pages):
        self.told += pages

    def mark(self):
        return DeviceEvent(self.kv_pages.device)

    def forward(
        self,
        batch: ForwardBatch,
        on_layers: Callable[[int, int], None] | None = None,
        late: DeviceTokens | None = None,
        on_scored: Callable[[torch.Tensor], None] | None = None,
    ):
        if late is not None:
            late.put(batch)
        self.batches.append(batch)
        slots = batch.slot_mapping
        assert len(set(slots.tolist())) == len(slots), "two rows write one slot"
        embeds = None if batch.embeds is None else (batch.embeds.rows, batch.embeds.values)
        for layer in range(NUM_LAYERS):
            write_entries(self.kv_pages, layer, batch.token_ids, batch.positions, slots, embeds)
            if on_layers is not None:
                on_layers(layer, layer + 1)
        ends = torch.tensor([sequence.num_tokens for sequence in batch.sequences]).cumsum(0) - 1
        if on_scored is not None:
            for scored in batch.scored_slices:
                on_scored(torch.stack([self._scored_logits(batch, row) for row in scored.tolist()]))
        wanted = set(batch.logits_rows.tolist())
        rows = [
            self.logits_of(sequence.pages, sequence.context_len)
            for sequence, end in zip(batch.sequences, ends.tolist(), strict=True)
            if end in wanted
        ]
        return torch.stack(rows) if rows else torch.zeros(0, VOCAB)

    def _scored_logits(self, batch: ForwardBatch, row: int) -> torch.Tensor:
        """The logits of a row that need not be its sequence's last."""
        end = 0
        for sequence in batch.sequences:
            end += sequence.num_tokens
            if row < end:
                return self.logits_of(sequence.pages, sequence.context_len - (end - 1 - row))
        raise AssertionError("no such row")

    def logits_of(self, pages: Sequence[int], length: int) -> torch.Tensor:
        """Logits [VOCAB] after the first `length` tokens in these pages."""
        tokens = read_context(self.kv_pages, pages, length)
        logits = torch.zeros(VOCAB)
        logits[next_token(tokens)] = 20.0
        if int(tokens[-1]) in self.poison:
            logits[:] = float("nan")
        return logits


class LateRunner(FakeRunner):
    """Like a device that does its work at the last possible moment: just before the next step, or before the
    host waits for it. A step's entries are written at once, and then once more.
    """

    def __init__(self, kv_pages: torch.Tensor) -> None:
        super().__init__(kv_pages)
        self._late: deque[Callable[[], None]] = deque()
        self._enqueued = 0

    def copy(self, source, destination):
        copy = super().copy
        self._enqueue(lambda: copy(source, destination))

    def forward(
        self,
        batch: ForwardBatch,
        on_layers: Callable[[int, int], None] | None = None,
        late: DeviceTokens | None = None,
        on_scored: Callable[[torch.Tensor], None] | None = None,
    ):
        self._catch_up(self._enqueued)
        logits = super().forward(batch, on_layers, late, on_scored)
        slots = batch.slot_mapping
        pages, places = slots // PAGE_TOKENS, slots % PAGE_TOKENS
        values = self.kv_pages[pages, :, places].clone()

        def write_again() -> None:
            self.kv_pages[pages, :, places] = values

        self._enqueue(write_again)
        return logits

    def mark(self):
        end = self._enqueued

        class Waited:
            @staticmethod
            def wait() -> None:
                self._catch_up(end)

        return Waited()

    def _enqueue(self, operation: Callable[[], None]) -> None:
        self._late.append(operation)
        self._enqueued += 1

    def _catch_up(self, end: int) -> None:
        """Does the work enqueued as the first `end` operations."""
        while self._late and self._enqueued - len(self._late) < end:
            self._late.popleft()()


def write_entries(
    kv_pages: torch.Tensor,
    layer: int,
    token_ids: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    embeds: tuple[torch.Tensor, torch.Tensor] | None,
) -> None:
    """Writes the entries of tokens [T] of a batch; `embeds`: rows [M] and their embeddings [M, hidden]."""
    values = torch.zeros(len(slots), WIDTH)
    values[:, 0] = token_ids + 1
    values[:, 1] = positions
    values[:, 3] = layer
    if embeds is not None:
        values[embeds[0], 2] = embeds[1][:, 0]
    kv_pages[slots // PAGE_TOKENS, layer, slots % PAGE_TOKENS] = values


def write_context(
    kv_pages: torch.Tensor, pages: Sequence[int], tokens: Sequence[int], first_page: int = 0
) -> None:
    """Acts as a prefill worker and a read of all its pages: writes entries of `tokens` from page `first_page`
    on.
    """
    start = first_page * PAGE_TOKENS
    positions = torch.arange(start, len(tokens))
    slots = torch.tensor(pages, dtype=torch.int64)[positions // PAGE_TOKENS - first_page]
    for layer in range(NUM_LAYERS):
        entries = torch.zeros(len(positions), WIDTH)
        entries[:, 0] = torch.tensor(tokens[start:]) + 1
        entries[:, 1] = positions
        entries[:, 3] = layer
        kv_pages[slots, layer, positions % PAGE_TOKENS] = entries


def read_context(kv_pages: torch.Tensor, pages: Sequence[int], length: int) -> list[float]:
    """The tokens in the pages, plus the embedding where there is one; asserts that they form a context."""
    entries = kv_pages[list(pages)].transpose(1, 2).flatten(0, 1)[:length]
    positions = torch.arange(length, dtype=torch.float32)
    for layer in range(NUM_LAYERS):
        assert torch.equal(entries[:, layer, 1], positions), "a page from another position"
        assert torch.equal(entries[:, layer, 3], torch.full((length,), float(layer))), "an unwritten entry"
        assert torch.equal(entries[:, layer, :3], entries[:, 0, :3]), "layers of different contexts"
    assert bool((entries[:, 0, 0] > 0).all()), "an unwritten entry"
    return (entries[:, 0, 0] - 1 + entries[:, 0, 2]).tolist()
