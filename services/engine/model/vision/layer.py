"""One pre-norm transformer block of the vision tower."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from services.engine.model.vision.media import joined
from services.engine.model.vision.rope import RopeTable, rotate

NORM_EPS = 1e-5


class VisionMlp(nn.Module):
    """Two linear layers with the tanh approximation of GELU between them."""

    def __init__(self, width: int, intermediate: int) -> None:
        super().__init__()
        self.fc0 = nn.Linear(width, intermediate)
        self.fc1 = nn.Linear(intermediate, width)

    def forward(self, x: Tensor) -> Tensor:
        """[patches, width] -> [patches, width]."""
        hidden: Tensor = self.fc1(functional.gelu(self.fc0(x), approximate="tanh"))
        return hidden


class VisionLayer(nn.Module):
    """Attention over the patches of each medium, then the MLP; submodules have the published tensor names."""

    def __init__(self, width: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm0 = nn.LayerNorm(width, eps=NORM_EPS)
        self.wqkv = nn.Linear(width, 3 * width)
        self.wo = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = VisionMlp(width, intermediate)

    def forward(self, x: Tensor, rope: RopeTable, lengths: Sequence[int]) -> Tensor:
        """[patches, width] -> [patches, width]; `rope` has one row per patch. `lengths`: the patches of each
        medium, one medium after another.
        """
        x = x + self.attention(self.norm0(x), rope, lengths)
        hidden: Tensor = x + self.mlp(self.norm1(x))
        return hidden

    def attention(self, x: Tensor, rope: RopeTable, lengths: Sequence[int]) -> Tensor:
        """Not causal: every patch of a medium attends to every other of that medium, across frames."""
        query, key, value = self.wqkv(x).view(x.shape[0], 3, self.heads, -1).unbind(1)
        query, key = rotate(query, rope), rotate(key, rope)
        media = zip(*(each.split(list(lengths)) for each in (query, key, value)), strict=True)
        projected: Tensor = self.wo(joined([_attended(*medium) for medium in media]).flatten(1))
        return projected


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[patches, heads, head_dim] each, of one medium -> [patches, heads, head_dim]."""
    mixed = functional.scaled_dot_product_attention(
        query.transpose(0, 1)[None], key.transpose(0, 1)[None], value.transpose(0, 1)[None]
    )
    return mixed[0].transpose(0, 1)
