"""The pages that are moved from one process to another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """`pages` of `layers` layers on `device`, in `rounds` measured rounds after an unmeasured one."""

    device: str
    pages: int
    layers: int
    rounds: int

    @property
    def on_gpu(self) -> bool:
        """Whether the pages are in a GPU's memory."""
        return self.device.startswith("cuda")
