"""Every state of a choice survives its move to another worker: `make resume` tries many more."""

from __future__ import annotations

from tests.decode.resume import compare


async def test_choices_moved_after_every_token_are_answered_as_if_left_in_peace():
    seen = await compare(choices=30, seed=1)
    assert seen["moves"] > 10 * seen["requests"]
    assert seen["closed in haste"] > 0, "the case that once was lost is not among them"
