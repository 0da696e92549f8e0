"""What decides how much GPU memory a worker takes beside the model's sizes."""

from __future__ import annotations

from dataclasses import dataclass

from services.engine.model.rank import Rank


@dataclass(frozen=True)
class WorkerShape:
    """`rank`: any one of the group, for all have equal shares. `chunk_tokens`: most prompt tokens of a pass.
    `rows`: most sequences decoded together; 0: the worker does not decode. `deterministic`: as in the model.
    """

    rank: Rank
    chunk_tokens: int
    rows: int
    deterministic: bool = False
