"""The shapes to check: Kimi-K2.5's, or tiny ones to test the checks themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """`batches` of new tokens, `contexts` of the tokens that attention sees. `heads` on 1 GPU and split over
    4 and 8, expert `widths` on 1 and split over 8. `dense_width` is that of the dense layer, `cache_bytes` is
    the size of the L2.
    """

    cache_bytes: int
    hidden: int = 7168
    latent: int = 512
    rope: int = 64
    layers: int = 61
    far_page: int = 1100
    max_positions: int = 262144
    num_experts: int = 384
    top_k: int = 8
    batches: tuple[int, ...] = (1, 16, 64, 256)
    prompt: int = 8192
    contexts: tuple[int, ...] = (1024, 8192, 32768)
    heads: tuple[int, ...] = (64, 16, 8)
    widths: tuple[int, ...] = (2048, 256)
    dense_width: int = 18432
    vocabulary: int = 163840

    @classmethod
    def tiny(cls) -> Sizes:
        """Sizes for Triton's interpreter, which takes a millisecond per program."""
        return cls(
            cache_bytes=0,
            hidden=64,
            layers=2,
            far_page=2,
            max_positions=256,
            num_experts=4,
            top_k=2,
            batches=(2,),
            prompt=3,
            contexts=(70,),
            heads=(2,),
            widths=(64,),
            dense_width=128,
            vocabulary=1100,
        )

    @property
    def width(self) -> int:
        """Values of a token in one layer's cache."""
        return self.latent + self.rope

    def copies(self, num_bytes: int) -> int:
        """How many sets of inputs of num_bytes exceed the L2.

        At most 128: even smaller inputs are bound by the launch, not by memory.
        """
        return min(max(-(-3 * self.cache_bytes // num_bytes), 1), 128)
