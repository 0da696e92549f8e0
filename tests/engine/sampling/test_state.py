import pytest

from services.common.errors import InternalError
from services.engine.sampling.spec import SamplingSpec
from services.engine.sampling.state import SamplingState


def test_a_state_restored_from_its_outputs_is_the_same():
    spec = SamplingSpec(presence_penalty=1.0, repetition_penalty=1.5)
    lived = SamplingState(spec, 5, 1, [1, 2, 2])
    for token_id in (7, 2, 7):
        lived.append(token_id)
    restored = SamplingState(spec, 5, 1, [1, 2, 2], [7, 2, 7])
    assert restored.output_ids == lived.output_ids == [7, 2, 7]
    assert restored.uniform() == lived.uniform()
    assert restored.generated.ids.tolist() == lived.generated.ids.tolist() == [7, 2]
    assert restored.generated.counts.tolist() == lived.generated.counts.tolist() == [2, 1]
    assert restored.seen.ids.tolist() == lived.seen.ids.tolist() == [1, 2, 7]


def test_the_prompt_has_no_part_in_the_draw():
    states = [SamplingState(SamplingSpec(), 5, 0, prompt) for prompt in ([1], [1, 2, 3])]
    assert states[0].uniform() == states[1].uniform()


def test_each_output_moves_the_draw_on():
    state = SamplingState(SamplingSpec(), 5, 0, [1])
    draws = []
    for _ in range(5):
        assert state.uniform() == state.uniform()
        draws.append(state.uniform())
        state.append(3)
    assert len(set(draws)) == 5


def test_nothing_is_counted_that_no_penalty_asks_for():
    state = SamplingState(SamplingSpec(), 5, 0, [1])
    assert state.generated is None
    assert state.seen is None
    assert not state.adjusts


def test_stops_are_withheld_until_there_are_min_tokens():
    spec = SamplingSpec(min_tokens=2, stop_token_ids=frozenset([9]))
    state = SamplingState(spec, 0, 0, [1])
    seen = []
    for _ in range(3):
        seen.append((state.withholds_stops, state.adjusts))
        state.append(4)
    assert seen == [(True, True), (True, True), (False, False)]


@pytest.mark.parametrize(("seed", "choice"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**32)])
def test_a_key_that_does_not_fit_the_generator_is_a_defect(seed, choice):
    with pytest.raises(InternalError):
        SamplingState(SamplingSpec(), seed, choice, [1])
