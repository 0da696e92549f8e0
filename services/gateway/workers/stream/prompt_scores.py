"""The scores of a prompt's tokens, as they come from a decode worker."""

from __future__ import annotations

from array import array

from perigee.v1 import scores_pb2
from services.common.errors import WorkerLost


class PromptScores:
    """Columns with an entry for each scored token: token `first` of the prompt and all after it.

    `top_ids`, `top_logprobs`: `top` entries for each token. A worker sends all scores before the first token
    of the answer; another worker that gets the request before that begins anew.
    """

    def __init__(self, first: int, count: int, top: int) -> None:
        self.first = first
        self.top = top
        self._count = count
        self._clear()

    @property
    def complete(self) -> bool:
        """Whether all have come, so that no other worker needs to compute them."""
        return len(self.logprobs) == self._count

    def take(self, message: scores_pb2.PromptScores) -> None:
        """Appends a part. Raises WorkerLost for one that does not continue what has come."""
        if message.first_token == self.first:
            self._clear()
        start, count = len(self.logprobs), len(message.logprobs)
        alternatives = len(message.top_ids), len(message.top_logprobs)
        fits = len(message.ranks) == count and alternatives == (count * self.top, count * self.top)
        if not fits or message.first_token != self.first + start or start + count > self._count:
            raise WorkerLost("the decode worker sent scores that were not asked for")
        self.logprobs.extend(message.logprobs)
        self.ranks.extend(message.ranks)
        self.top_ids.extend(message.top_ids)
        self.top_logprobs.extend(message.top_logprobs)

    def _clear(self) -> None:
        self.logprobs, self.ranks = array("f"), array("I")
        self.top_ids, self.top_logprobs = array("I"), array("f")
