"""A layer that feeds forward before it attends."""

from __future__ import annotations

from torch import Tensor

from services.engine.model.attention.attention_share import AttentionShare
from services.engine.model.text_layer import TextLayer


class TernLayer(TextLayer):
    """x + feed_forward(norm(x)), then x + attention(norm(x))."""

    def __call__(self, x: Tensor, share: AttentionShare) -> Tensor:
        x = x + self._group.sum(self.feed_forward(self.post_norm(x)))
        return x + self._group.sum(self._attend(self.input_norm(x), share))
