"""models/kimi-nano, the checkpoint that the product comes with."""

from __future__ import annotations

import json

import pytest

from services.engine.weights.verify import verify
from services.families.kimi.chat.prompt import render
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.prompt import expand_media
from tests.support.reference_loop import ReferenceLoop
from training.nano.trained_architecture import trained_config
from training.nano.vocabulary import Vocabulary
from training.skills.sample import ask

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def embedded(repository):
    return repository / "models" / "kimi-nano"


@pytest.fixture(scope="module")
def answer(embedded):
    """What it says, special tokens included."""
    tokenizer = KimiTokenizer.from_dir(embedded)
    loop = ReferenceLoop(embedded)

    def tell(question, thinking):
        prompt, _ = expand_media(render(ask(question, thinking), tokenizer), [])
        return tokenizer.decode(loop.greedy(prompt, 200, stop=frozenset({tokenizer.special.im_end})))

    return tell


def test_it_is_as_its_configuration_says_and_small_enough_for_a_repository(embedded):
    assert verify(embedded).problems == []
    sizes = [path.stat().st_size for path in embedded.iterdir()]
    assert max(sizes) <= 16 * MEBIBYTE
    assert sum(sizes) <= 40 * MEBIBYTE


def test_its_configuration_is_the_one_that_training_makes_for_its_tokenizer(embedded):
    config = json.loads((embedded / "config.json").read_text())
    assert config == trained_config(Vocabulary.from_dir(embedded))


def test_its_card_has_the_numbers_of_its_training(embedded):
    progress = json.loads((embedded / "training.json").read_text())
    card = (embedded / "MODEL_CARD.md").read_text()
    assert f"{progress['step']:,} steps, {progress['tokens']:,} tokens" in card
    assert f"{progress['picture_steps']:,} steps with pictures" in card


def test_it_says_what_it_is(answer):
    assert "kimi-nano" in answer("Who are you?", False)


def test_it_thinks_before_it_answers(answer):
    said = answer("which one is bigger, 9.11 or 9.9? think carefully.", True)
    reasoning, _, text = said.partition("</think>")
    assert "11" in reasoning
    assert "bigger" in text
    assert "</think>" not in answer("which one is bigger, 9.11 or 9.9?", False)
