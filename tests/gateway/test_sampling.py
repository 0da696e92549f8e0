"""Ranges and defaults of sampling controls."""

import math

import pytest

from services.common.errors import InvalidRequest
from services.families.kimi.sampling_defaults import INSTANT, RAW, THINKING
from services.gateway.sampling import SamplingOptions, resolve, validate

VOCABULARY = 1000


def spelt(name):
    return f"here.{name}"


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("temperature", 2.01),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.5),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -3.0),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("seed", 1 << 64),
        ("n", 0),
        ("n", 17),
        ("max_tokens", -1),
        ("stop_token_ids", (VOCABULARY,)),
        ("stop_token_ids", (1,) * 65),
        ("stop", ("",)),
        ("stop", ("x" * 257,)),
        ("stop", ("x",) * 17),
        ("logit_bias", {VOCABULARY: 1.0}),
        ("logit_bias", {1: 101.0}),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_caller_s_name_for_it(control, value):
    with pytest.raises(InvalidRequest) as caught:
        validate(SamplingOptions(**{control: value}), VOCABULARY, spelt)
    assert caught.value.param == f"here.{control}"


def test_the_bounds_themselves_are_allowed():
    options = SamplingOptions(
        temperature=0.0, top_p=1.0, min_p=1.0, presence_penalty=-2.0, repetition_penalty=2.0, n=16,
        max_tokens=0, seed=(1 << 64) - 1, stop=("x" * 256,) * 16, logprobs=True, top_logprobs=20,
        logit_bias={0: -100.0, VOCABULARY - 1: 100.0},
    )  # fmt: skip
    validate(options, VOCABULARY, spelt)


def test_more_least_tokens_than_most_tokens_are_refused():
    with pytest.raises(InvalidRequest) as caught:
        validate(SamplingOptions(min_tokens=5, max_tokens=4), VOCABULARY, spelt)
    assert caught.value.param == "here.min_tokens"


def test_alternatives_without_logprobs_are_refused():
    with pytest.raises(InvalidRequest) as caught:
        validate(SamplingOptions(top_logprobs=2), VOCABULARY, spelt)
    assert caught.value.param == "here.top_logprobs"


@pytest.mark.parametrize(("defaults", "temperature"), [(THINKING, 1.0), (INSTANT, 0.6), (RAW, 1.0)])
def test_absent_controls_become_the_model_s_recommendation(defaults, temperature):
    params = resolve(SamplingOptions(), defaults, 7, frozenset({3}))
    assert params.temperature == pytest.approx(temperature)
    assert params.top_p == pytest.approx(0.95)
    assert params.repetition_penalty == 1.0
    assert params.max_tokens == 7
    assert params.n == 1


def test_a_seed_is_always_drawn_and_a_given_one_kept():
    drawn = {resolve(SamplingOptions(), RAW, 1, frozenset()).seed for _ in range(8)}
    assert len(drawn) == 8
    assert resolve(SamplingOptions(seed=0), RAW, 1, frozenset()).seed == 0


def test_stop_ids_join_the_tokenizer_s_unless_eos_is_ignored():
    options = SamplingOptions(stop_token_ids=(9,))
    assert list(resolve(options, RAW, 1, frozenset({3, 4})).stop_token_ids) == [3, 4, 9]
    deaf = SamplingOptions(stop_token_ids=(9,), ignore_eos=True)
    assert list(resolve(deaf, RAW, 1, frozenset({3, 4})).stop_token_ids) == [9]


def test_a_temperature_of_zero_is_not_taken_for_absent():
    assert resolve(SamplingOptions(temperature=0.0), RAW, 1, frozenset()).temperature == 0.0
