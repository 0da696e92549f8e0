import dataclasses

import pytest

from services.common.errors import InvalidRequest
from services.engine.sampling.spec import SamplingSpec

NAN = float("nan")


def test_the_default_spec_samples_the_models_own_distribution():
    spec = SamplingSpec()
    assert (spec.is_greedy, spec.counts_output, spec.counts_prompt) == (False, False, False)


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingSpec().temperature = 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", NAN),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", NAN),
        ("min_tokens", -1),
        ("top_logprobs", 21),
        ("logit_bias", ((1, 101.0),)),
        ("logit_bias", ((1, NAN),)),
        ("logit_bias", ((1, 1.0), (1, 2.0))),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(InvalidRequest, match=field) as caught:
        SamplingSpec(**{field: value})
    assert caught.value.param == field


def test_the_limits_themselves_are_allowed():
    SamplingSpec(temperature=2.0, top_p=1.0, min_p=1.0, presence_penalty=-2.0, frequency_penalty=2.0)
    SamplingSpec(
        temperature=0.0, repetition_penalty=2.0, logit_bias=((0, -100.0), (1, 100.0)), top_logprobs=20
    )


@pytest.mark.parametrize("token_id", [-1, 10])
def test_token_ids_outside_the_vocabulary_are_refused_by_name(token_id):
    with pytest.raises(InvalidRequest, match="0 to 9") as caught:
        SamplingSpec(logit_bias=((token_id, 1.0),)).check_vocabulary(10)
    assert caught.value.param == "logit_bias"
    with pytest.raises(InvalidRequest) as caught:
        SamplingSpec(stop_token_ids=frozenset([token_id])).check_vocabulary(10)
    assert caught.value.param == "stop_token_ids"
    SamplingSpec(logit_bias=((9, 1.0),), stop_token_ids=frozenset([0])).check_vocabulary(10)
