"""Estimates how fast this worker computes prompts, to refuse those that would miss their deadline."""

from __future__ import annotations

from services.common.errors import Overloaded

_NEWEST = 0.2
"""Weight of the newest step in the moving average."""


class PromptRate:
    """A moving average of seconds per prompt token, over steps with the full number of prompt tokens.

    Their running sequences are included. Steps with fewer prompt tokens are ignored: most of their time does
    not depend on them.
    """

    def __init__(self) -> None:
        self._seconds_per_token = 0.0

    def note(self, tokens: int, most: int, seconds: float) -> None:
        """Records a step with `tokens` prompt tokens, of `most` that it might have had."""
        if tokens < most:
            return
        measured = seconds / tokens
        known = self._seconds_per_token
        self._seconds_per_token = known + _NEWEST * (measured - known) if known else measured

    def seconds(self, tokens: int) -> float:
        """Returns the estimated time for `tokens`; 0 while no full step was measured."""
        return tokens * self._seconds_per_token

    def refusal(self, before: int, own: int, left_s: float) -> Overloaded | None:
        """Returns why a prompt of `own` tokens is refused behind `before` others, or None if it is accepted.

        A prompt with none before it is always accepted, so that the rate is measured again after a slow
        moment. So is one whose time is over (`left_s` <= 0): its deadline ends it.
        """
        needed_s = self.seconds(before + own)
        if not before or left_s <= 0 or needed_s <= left_s:
            return None
        return Overloaded(
            f"the decode worker computes prompts itself: these {own} tokens and the {before} before them take"
            f" {needed_s:.0f} s, of which {left_s:.0f} s are left",
            retry_after_s=max(1.0, min(needed_s - left_s, self.seconds(before))),
        )
