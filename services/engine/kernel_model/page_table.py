"""The page table of a decode batch, kept on the device from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from services.engine.batch import SequenceSlice
from services.engine.host_copy import to_device


class DevicePageTable:
    """int32 `tensor [rows, columns]` of page ids. A step sends only what differs from the one before.

    If a row's `pages` is the same object as in the last step, it can only have grown. So host work per step
    grows with the number of rows, not with their contexts.
    """

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self.tensor = torch.zeros(rows, columns, dtype=torch.int32, device=device)
        self._known: list[tuple[Sequence[int], int]] = [((), 0)] * rows

    def update(self, sequences: Sequence[SequenceSlice]) -> int:
        """Assigns row i to sequence i; returns how many entries were sent.

        Raises ValueError for too many sequences or pages.
        """
        rows, columns = self.tensor.shape
        longest = max((sequence.num_pages for sequence in sequences), default=0)
        if len(sequences) > rows or longest > columns:
            raise ValueError(
                f"{len(sequences)} sequences of {longest} pages do not fit in a table of {rows} x {columns}"
            )
        places: list[int] = []
        values: list[int] = []
        for row, sequence in enumerate(sequences):
            pages, known = self._known[row]
            if pages is not sequence.pages:
                known = 0
            needed = sequence.num_pages
            if known < needed:
                places.extend(range(row * columns + known, row * columns + needed))
                values.extend(sequence.pages[known:needed])
                self._known[row] = (sequence.pages, needed)
        if places:
            device = self.tensor.device
            index = to_device(places, torch.int64, device)
            self.tensor.view(-1)[index] = to_device(values, torch.int32, device)
        return len(places)
