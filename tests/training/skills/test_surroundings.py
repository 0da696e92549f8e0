from __future__ import annotations

from services.families.kimi.chat.template import lay_out
from training.skills.curriculum import Curriculum
from training.skills.dice import Dice
from training.skills.split import Split
from training.skills.surroundings import with_earlier, with_system

CURRICULUM = Curriculum(1)


def text(sample):
    return "".join(segment.text for segment in lay_out(sample.conversation))


def test_an_earlier_question_is_history_with_its_answer_and_no_reasoning():
    sample, earlier = (CURRICULUM.skills["compare"].make(Dice(n), Split.TRAIN, True) for n in (1, 2))
    both = with_earlier(sample, earlier)
    question = earlier.conversation.messages[0].content[0].text
    assert f"{question}<|im_end|>" in text(both)
    assert f"<think></think>{earlier.answer}<|im_end|>" in text(both)
    assert text(both).endswith(text(sample))
    assert (both.answer, both.reasoning, both.expect) == (sample.answer, sample.reasoning, sample.expect)


def test_a_system_prompt_stands_in_front():
    sample = CURRICULUM.skills["copy"].make(Dice(1), Split.TRAIN, False)
    assert text(with_system(sample, Dice(2), Split.TRAIN)).startswith("<|im_system|>system<|im_middle|>")
    assert text(with_system(sample, Dice(2), Split.TRAIN)).endswith(text(sample))


def test_some_samples_have_each():
    first = [CURRICULUM.sample(number).conversation.messages[0].role for number in range(200)]
    assert 5 < first.count("system") < 40
