"""Every sample's own answer is right, and what is held out never occurs in training."""

from __future__ import annotations

import pytest

from services.families.kimi.chat.template import lay_out
from training.skills.curriculum import (
    COPY_BATCHES,
    DRILL_BATCHES,
    READ_BATCHES,
    READ_SHARE,
    Curriculum,
)
from training.skills.split import Split

SKILLS = tuple(Curriculum(1).skills)


@pytest.fixture(scope="module")
def curriculum():
    return Curriculum(1)


def prompt(sample):
    pictures = [getattr(part, "data", b"") for turn in sample.conversation.messages for part in turn.content]
    return tuple(segment.text for segment in lay_out(sample.conversation)), b"".join(pictures)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_worked_answer_meets_its_own_expectation(curriculum, skill):
    for number in range(40):
        sample = curriculum.case(skill, number)
        assert sample.expect.met_by(sample.answer, sample.calls)
        assert bool(sample.reasoning) == sample.conversation.thinking


@pytest.mark.parametrize("skill", SKILLS)
def test_another_answer_does_not_meet_the_expectation(curriculum, skill):
    for number in range(10):
        sample = curriculum.case(skill, number)
        assert not sample.expect.met_by("Something else.", ())


def test_a_number_always_gives_the_same_sample(curriculum):
    assert [Curriculum(1).sample(number) for number in range(20)] == [curriculum.sample(n) for n in range(20)]
    assert Curriculum(2).sample(0) != curriculum.sample(0)


def test_no_held_out_case_occurs_in_the_training_stream(curriculum):
    seen = {prompt(curriculum.sample(number)) for number in range(1_000)}
    cases = {prompt(curriculum.case(skill, number)) for skill in SKILLS for number in range(40)}
    assert len(seen) > 900
    assert not seen & cases


def test_the_two_splits_never_share_a_thing():
    things = [("name", f"name {index}") for index in range(400)]
    train = {thing for thing in things if Split.TRAIN.accepts(*thing)}
    held_out = {thing for thing in things if Split.HELD_OUT.accepts(*thing)}
    assert train | held_out == set(things)
    assert not train & held_out
    assert len(held_out) > 20


def test_names_tools_and_wordings_of_cases_are_held_out(curriculum):
    for number in range(40):
        call = curriculum.case("tool call", number).calls[0]
        assert Split.HELD_OUT.accepts("tool", call.name)
        for name in call.arguments:
            assert name == "unit" or name == "currency" or Split.HELD_OUT.accepts("parameter", name)


def test_a_split_that_has_nothing_says_so():
    with pytest.raises(ValueError, match="no colour of 10000 drawn belongs to held-out"):
        Split.HELD_OUT.draw("colour", lambda: "red" if Split.TRAIN.accepts("colour", "red") else "blue")


def test_training_begins_with_drills_and_goes_on_with_all_skills(curriculum):
    assert set(curriculum.weights(0)) == set(curriculum.weights(COPY_BATCHES - 1)) == {"copy"}
    assert curriculum.weights(COPY_BATCHES)["stories"] == 0
    end = COPY_BATCHES + DRILL_BATCHES
    assert curriculum.weights(end)["stories"] == curriculum.skills["stories"].weight
    assert curriculum.weights(10 * end)["read"] == curriculum.skills["read"].weight
    assert "describe" in curriculum.weights(end)


@pytest.mark.parametrize("pictures_from", [0, 5000])
def test_pictures_begin_with_notes_to_be_read(curriculum, pictures_from):
    end = COPY_BATCHES + DRILL_BATCHES
    first = max(end, pictures_from)
    assert "describe" not in curriculum.weights(pictures_from - 1, pictures_from)
    weights = curriculum.weights(first, pictures_from)
    assert weights["read"] == pytest.approx(READ_SHARE * sum(weights.values()))
    after = curriculum.weights(first + READ_BATCHES, pictures_from)
    assert after == {name: skill.weight for name, skill in curriculum.skills.items()}
