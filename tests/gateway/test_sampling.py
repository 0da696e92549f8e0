"""Rules between sampling controls, and what a decode worker gets."""

import pytest

from perigee.v1.sampling_pb2 import SamplingParams
from services.common.errors import InvalidRequest
from services.families.kimi.sampling_defaults import INSTANT, RAW, THINKING
from services.gateway.sampling import check_sampling, resolve

VOCABULARY = 1000


def spelt(name):
    return f"here.{name}"


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (SamplingParams(temperature=2.5), "here.temperature"),
        (SamplingParams(stop_token_ids=[1] * 65), "here.stop_token_ids"),
        (SamplingParams(min_tokens=5, max_tokens=4), "here.min_tokens"),
        (SamplingParams(top_logprobs=2), "here.top_logprobs"),
    ],
)
def test_a_control_that_does_not_fit_is_refused_by_the_caller_s_name_for_it(params, param):
    with pytest.raises(InvalidRequest) as caught:
        check_sampling(params, VOCABULARY, spelt)
    assert caught.value.param == param


def test_controls_that_fit_each_other_are_allowed():
    params = SamplingParams(min_tokens=4, max_tokens=4, logprobs=True, top_logprobs=2)
    check_sampling(params, VOCABULARY, spelt)


@pytest.mark.parametrize(("defaults", "temperature"), [(THINKING, 1.0), (INSTANT, 0.6), (RAW, 1.0)])
def test_absent_controls_become_the_model_s_recommendation(defaults, temperature):
    params = resolve(SamplingParams(), defaults, 7, frozenset({3}))
    assert params.temperature == pytest.approx(temperature)
    assert params.top_p == pytest.approx(0.95)
    assert params.repetition_penalty == 1.0
    assert params.max_tokens == 7
    assert params.n == 1


def test_a_seed_is_always_drawn_and_a_given_one_kept():
    drawn = {resolve(SamplingParams(), RAW, 1, frozenset()).seed for _ in range(8)}
    assert len(drawn) == 8
    assert resolve(SamplingParams(seed=0), RAW, 1, frozenset()).seed == 0


def test_stop_ids_join_the_tokenizer_s_unless_eos_is_ignored():
    params = SamplingParams(stop_token_ids=[9])
    assert list(resolve(params, RAW, 1, frozenset({3, 4})).stop_token_ids) == [3, 4, 9]
    deaf = SamplingParams(stop_token_ids=[9], ignore_eos=True)
    assert list(resolve(deaf, RAW, 1, frozenset({3, 4})).stop_token_ids) == [9]


def test_a_temperature_of_zero_is_not_taken_for_absent():
    assert resolve(SamplingParams(temperature=0.0), RAW, 1, frozenset()).temperature == 0.0


def test_what_applies_to_the_text_alone_is_not_sent_and_stays_in_the_request():
    params = SamplingParams(stop=["a"], keep_special_tokens=True)
    sent = resolve(params, RAW, 1, frozenset())
    assert (list(sent.stop), sent.keep_special_tokens) == ([], False)
    assert (list(params.stop), params.keep_special_tokens) == (["a"], True)
