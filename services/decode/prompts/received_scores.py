"""The scores that a prefill worker sends for a fetch, checked."""

from __future__ import annotations

from perigee.v1 import scores_pb2
from services.common.errors import TransferFailed
from services.decode.prompts.fetch import FetchOrder
from services.engine.sampling.scores import Scores


class ReceivedScores:
    """Parts that follow one another, from the first token that is scored to the last. Event loop only."""

    def __init__(self, order: FetchOrder, name: str) -> None:
        """`name`: the worker's, for errors."""
        self._order = order
        self._name = name
        self.parts: list[Scores] = []

    @property
    def is_complete(self) -> bool:
        """Whether all have come that were ordered."""
        return self._count == self._order.num_scores

    @property
    def _count(self) -> int:
        return sum(map(len, self.parts))

    def take(self, message: scores_pb2.PromptScores) -> None:
        """Appends a part. Raises TransferFailed for one that was not ordered."""
        scoring = self._order.scoring
        try:
            scores = Scores.from_proto(message)
        except ValueError as error:
            raise TransferFailed(f"{self._name} sent scores that do not fit together") from error
        end = self._count + len(scores)
        follows = scoring is not None and scores.first == scoring.first + self._count
        if scoring is None or not follows or end > self._order.num_scores:
            raise TransferFailed(f"{self._name} sent scores that were not asked for")
        top = scores.top_ids.shape[1]
        if (top, scores.top_logprobs.shape[1]) != (scoring.top, scoring.top):
            raise TransferFailed(f"{self._name} sent {top} alternatives, not {scoring.top}")
        self.parts.append(scores)
