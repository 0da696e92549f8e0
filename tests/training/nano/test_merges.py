from __future__ import annotations

import pytest

from services.families.kimi.added_tokens import AddedTokens
from services.families.kimi.special import NAMES
from services.families.kimi.tokenizer import KimiTokenizer
from training.nano.merges import learn_copyable_ranks

TEXTS = ["the cat and the dog and the bird", 'Zorvel said "Zorvel" and _Zorvel', "the .cat 123 123 4444"] * 4


@pytest.fixture(scope="module")
def tokenizer():
    tokens = learn_copyable_ranks(TEXTS, 256 + 16, 2)
    names = [*NAMES.values(), *(f"<{index}>" for index in range(256 - len(NAMES)))]
    ids = {name: len(tokens) + index for index, name in enumerate(names)}
    return KimiTokenizer({token: rank for rank, token in enumerate(tokens)}, AddedTokens(ids, frozenset()))


def pieces(tokenizer, text):
    return [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode(text)]


@pytest.mark.parametrize("before", ["", " ", '"', "_", "."])
@pytest.mark.parametrize("word", ["Zorvel", "Zorcat", "birdvel"])
def test_a_word_has_the_same_tokens_whatever_stands_before_it(tokenizer, before, word):
    assert pieces(tokenizer, before + word) == [
        *([before.encode()] if before else []),
        *pieces(tokenizer, word),
    ]


def test_frequent_words_have_a_token_with_their_space(tokenizer):
    assert pieces(tokenizer, " the") == [b" the"]


def test_every_digit_is_a_token_of_its_own(tokenizer):
    assert pieces(tokenizer, "123 4444") == [b"1", b"2", b"3", b" ", b"4", b"4", b"4", b"4"]


def test_too_few_words_are_an_error():
    with pytest.raises(ValueError, match="words with a space in front"):
        learn_copyable_ranks(["aa bb aa bb"], 258, 100)
