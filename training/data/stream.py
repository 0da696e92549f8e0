"""The training stream: a sequence of batches, each a function of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.families.kimi.tokenizer import KimiTokenizer
from training.data.batch import Rows, make_rows
from training.data.example import Example, encode_sample
from training.data.packing import pack
from training.skills.curriculum import Curriculum

SAMPLES_A_BATCH = 1_000_000
"""Sample numbers reserved for each batch; no batch has as many samples."""


@dataclass(frozen=True)
class StreamPlan:
    """Settings of a Stream.

    A batch ends with the sample that reaches `batch_tokens`. `row_lengths` are those of Packer.
    `micro_tokens` limits the tokens, padding included, that are computed at once. `pictures_from` is the
    first batch with pictures. `rank` of `ranks` makes its share of each batch.
    """

    seed: int
    batch_tokens: int
    row_lengths: tuple[int, ...]
    micro_tokens: int
    pictures_from: int = 0
    rank: int = 0
    ranks: int = 1


class Stream:
    """Makes batches by number."""

    def __init__(self, plan: StreamPlan, tokenizer: KimiTokenizer) -> None:
        self._plan = plan
        self._tokenizer = tokenizer
        self._curriculum = Curriculum(plan.seed)

    def batch(self, number: int) -> list[Rows]:
        """The micro-batches of a batch, computed one after the other."""
        packed = pack(self._examples(number), self._plan.row_lengths)
        return [rows for length, found in packed.items() for rows in self._parts(found, length)]

    def _examples(self, number: int) -> Iterator[Example]:
        tokens = 0
        weights = self._curriculum.weights(number, self._plan.pictures_from)
        for index in range(self._plan.rank, SAMPLES_A_BATCH, self._plan.ranks):
            if tokens >= self._plan.batch_tokens // self._plan.ranks:
                return
            sample = self._curriculum.sample(number * SAMPLES_A_BATCH + index, weights)
            example = encode_sample(sample, self._tokenizer)
            tokens += len(example.token_ids)
            yield example

    def _parts(self, rows: Sequence[Sequence[Example]], length: int) -> Iterator[Rows]:
        step = max(1, self._plan.micro_tokens // length)
        for start in range(0, len(rows), step):
            yield make_rows(rows[start : start + step], length, self._tokenizer.special.media_pad)
