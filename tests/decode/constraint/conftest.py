"""One compiler for all: the vocabulary takes a while to build."""

from __future__ import annotations

import pytest

from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.vocabulary import GrammarVocabulary
from services.families.kimi.tokenizer import Tokenizer
from tests.support.constrained import RandomSpeaker


@pytest.fixture(scope="session")
def tokenizer(nano_dir) -> Tokenizer:
    return Tokenizer.from_dir(nano_dir)


@pytest.fixture(scope="session")
def compiler(nano_dir, tokenizer) -> GrammarCompiler:
    return GrammarCompiler(GrammarVocabulary(nano_dir, tokenizer.vocab_size))


@pytest.fixture(scope="session")
def speaker(compiler) -> RandomSpeaker:
    return RandomSpeaker(compiler)
