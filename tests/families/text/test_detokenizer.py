from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import InvalidRequest
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.text.detokenizer import Detokenizer


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


def pieces(tokenizer, token_ids, **options):
    detokenizer = Detokenizer(tokenizer, **options)
    return [detokenizer.feed(token_id) for token_id in token_ids] + [detokenizer.flush()]


@settings(deadline=None)
@given(data=st.data())
def test_the_pieces_join_to_the_whole_decode_whatever_the_ids(tokenizer, data):
    ids = data.draw(
        st.lists(st.one_of(st.integers(0, tokenizer.vocab_size - 1), st.integers(94, 255)), max_size=40)
    )
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids, skip_flagged=True)


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_text_comes_back_without_replacement_characters(tokenizer, text):
    out = pieces(tokenizer, tokenizer.encode(text))
    assert "".join(out) == text
    assert all("\ufffd" not in piece for piece in out) or "\ufffd" in text


def test_a_character_of_several_tokens_appears_whole_with_its_last_one(tokenizer):
    ids = tokenizer.encode("🦉")
    assert len(ids) > 1
    assert pieces(tokenizer, ids) == [""] * (len(ids) - 1) + ["🦉", ""]


def test_an_unfinished_character_becomes_a_replacement_at_the_end(tokenizer):
    ids = tokenizer.encode("a🦉")[:-1]
    assert "".join(pieces(tokenizer, ids)) == "a\ufffd"


def test_a_flushed_detokenizer_begins_afresh(tokenizer):
    detokenizer = Detokenizer(tokenizer)
    first, *_ = tokenizer.encode("🦉")
    detokenizer.feed(first)
    detokenizer.flush()
    assert "".join(detokenizer.feed(token_id) for token_id in tokenizer.encode("x")) == "x"


def test_flagged_tokens_are_hidden_and_tool_markers_are_not(tokenizer):
    special = tokenizer.special
    ids = [special.media_pad, special.tool_call_begin, special.im_end, special.end_think]
    assert pieces(tokenizer, ids) == ["", "<|tool_call_begin|>", "", "</think>", ""]


def test_the_caller_may_hide_other_tokens(tokenizer):
    special = tokenizer.special
    assert pieces(tokenizer, [special.tool_call_end, special.im_end], hidden={special.tool_call_end}) == [
        "",
        "<|im_end|>",
        "",
    ]


def test_an_id_outside_the_vocabulary_is_refused(tokenizer):
    with pytest.raises(InvalidRequest, match="2304"):
        Detokenizer(tokenizer).feed(tokenizer.vocab_size)
