"""Forged messages without a reader's token change nothing."""

from __future__ import annotations

from tests.decode.forgery import serve


async def test_forged_hello_settled_start_and_release_are_refused_and_every_text_is_right():
    answers = await serve(40)
    assert {(kind, code) for kind, code in answers} == {
        ("hello", "ALREADY_EXISTS"),
        ("settled", "UNAVAILABLE"),
        ("start", "UNAVAILABLE"),
        ("release", "REFUSED"),
    }
