"""FlashMLA's dense decode kernel for Hopper, from its own package or from the wheel `sgl-flash-mla`."""

from __future__ import annotations

import importlib
import inspect

from torch import Tensor

from kernels.benchmarks.inputs import DecodeInputs
from kernels.benchmarks.run import Run


def check() -> None:
    """Raises the error that prevents loading it."""
    importlib.import_module("flash_mla")


def decode(inputs: DecodeInputs) -> Run:
    """`[B, H, latent]`; takes our pages and tables unchanged."""
    flash_mla = importlib.import_module("flash_mla")
    attend = flash_mla.flash_mla_with_kvcache
    query, pages = inputs.query[:, None], inputs.pages[:, :, None]
    # Older versions plan here, newer ones in the first call.
    plan = flash_mla.get_mla_metadata(inputs.context_lens, query.shape[2], 1)
    # Some versions split the kernels into current and former ones; dense decode is among the former.
    former = {"use_legacy": True} if "use_legacy" in inspect.signature(attend).parameters else {}

    def run(copy: int) -> tuple[Tensor, ...]:
        table = inputs.tables[copy]
        out, _ = attend(
            *(query, pages, table, inputs.context_lens, inputs.latent, *plan),
            softmax_scale=inputs.scale,
            **former,
        )
        return (out[:, 0],)

    return run
