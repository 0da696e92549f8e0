"""One compiler for all: the vocabulary takes a while to build."""

from __future__ import annotations

import pytest

from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.vocabulary import GrammarVocabulary
from services.families.kimi.family import KIMI
from services.families.kimi.tokenizer import KimiTokenizer
from tests.support.constrained import RandomSpeaker


@pytest.fixture(scope="session")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


@pytest.fixture(scope="session")
def compiler(nano_dir, tokenizer) -> GrammarCompiler:
    return GrammarCompiler(GrammarVocabulary(KIMI.read_grammar_tokens(nano_dir), tokenizer.vocab_size))


@pytest.fixture(scope="session")
def speaker(compiler) -> RandomSpeaker:
    return RandomSpeaker(compiler)
