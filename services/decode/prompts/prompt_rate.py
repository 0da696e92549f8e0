"""How fast this worker computes prompts, and whether that is fast enough for one more."""

from __future__ import annotations

from services.common.errors import Overloaded

_NEWEST = 0.2
"""What the last step counts for beside all before it."""


class PromptRate:
    """A moving average over the steps that were full of prompt tokens, running sequences in them included.

    Steps with fewer say little: much of what they take they would take without any.
    """

    def __init__(self, full_step: int) -> None:
        """`full_step`: the most prompt tokens that a step has."""
        self._full_step = full_step
        self._seconds_per_token = 0.0

    def note(self, tokens: int, seconds: float) -> None:
        """A step with so many prompt tokens has taken so long."""
        if tokens < self._full_step:
            return
        measured = seconds / tokens
        known = self._seconds_per_token
        self._seconds_per_token = known + _NEWEST * (measured - known) if known else measured

    def seconds(self, tokens: int) -> float:
        """How long so many tokens take; 0 as long as that is not known."""
        return tokens * self._seconds_per_token

    def refusal(self, before: int, own: int, left_s: float) -> Overloaded | None:
        """Why a prompt of `own` tokens is not to be computed behind `before` others; None: it is.

        One that nothing is before is always taken, so that the rate is measured again after a bad moment;
        one whose time is over ends by that.
        """
        needed_s = self.seconds(before + own)
        if not before or left_s <= 0 or needed_s <= left_s:
            return None
        return Overloaded(
            f"the decode worker computes prompts itself: these {own} tokens and the {before} before them take"
            f" {needed_s:.0f} s, of which {left_s:.0f} s are left",
            retry_after_s=max(1.0, min(needed_s - left_s, self.seconds(before))),
        )
