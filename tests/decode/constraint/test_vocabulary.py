"""The tokens as the grammar library sees them, of the embedded and of the published files."""

from __future__ import annotations

import pytest

from services.common.errors import CheckpointError
from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.vocabulary import GrammarVocabulary
from services.families.kimi.family import KIMI


def allowed(mask: bytes) -> set[int]:
    return {token for token in range(8 * len(mask)) if mask[token >> 3] >> (token & 7) & 1}


def check(vocabulary: GrammarVocabulary, num_ranks: int) -> None:
    anything = GrammarCompiler(vocabulary).compile("start: /(?s:.*)/").matcher.deep_copy()
    tokens = allowed(anything.compute_bitmask())
    assert {token for token in tokens if token >= num_ranks} == {vocabulary.markers.end}
    assert len(tokens) > num_ranks * 0.9
    begin = vocabulary.markers.section.opening[0]
    marker = GrammarCompiler(vocabulary).compile(f"start: <[{begin}]>")
    assert allowed(marker.matcher.deep_copy().compute_bitmask()) == {begin}
    word = GrammarCompiler(vocabulary).compile('start: "<|tool_call_begin|>"').matcher.deep_copy()
    assert all(token < num_ranks for token in allowed(word.compute_bitmask()))


def test_special_tokens_match_no_text_and_text_no_special_token(compiler, tokenizer):
    check(compiler.vocabulary, tokenizer.num_ranks)


def test_the_published_files_are_understood(shared_dir):
    vocabulary = GrammarVocabulary(KIMI.read_grammar_tokens(shared_dir / "data" / "kimi-k2.5"), 163840)
    assert vocabulary.markers.end == 163586
    check(vocabulary, 163584)


def test_a_vocabulary_larger_than_the_tokenizer_has_masks_of_its_size(nano_dir):
    vocabulary = GrammarVocabulary(KIMI.read_grammar_tokens(nano_dir), 4096)
    mask = GrammarCompiler(vocabulary).compile("start: /a*/").matcher.deep_copy().compute_bitmask()
    assert len(mask) >= 4096 // 8
    assert max(allowed(mask)) < 2304


def test_missing_tokenizer_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"tiktoken\.model"):
        GrammarVocabulary(KIMI.read_grammar_tokens(tmp_path), 2304)
