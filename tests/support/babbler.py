"""A model without weights that generates random text, to be held by grammars."""

from __future__ import annotations

import torch

from tests.support.fake_runner import FakeRunner, LateRunner, read_context

VOCAB = 2304
"""Number of tokens of the test checkpoint's tokenizer."""


class Babbler(FakeRunner):
    """Normally distributed logits, a function of the context."""

    def logits_of(self, pages, length):
        tokens = read_context(self.kv_pages, pages, length)
        seed = hash(tuple(tokens)) & 0x7FFFFFFF
        return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))

    def forward(self, batch, on_layers=None, late=None, on_scored=None):
        logits = super().forward(batch, on_layers, late, on_scored)
        return logits if len(logits) else torch.zeros(0, VOCAB)


class LateBabbler(Babbler, LateRunner):
    """A Babbler that runs late, like a device."""
