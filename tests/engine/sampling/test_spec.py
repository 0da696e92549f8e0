import dataclasses

import pytest

from perigee.v1.sampling_pb2 import SamplingParams
from services.common.errors import InvalidRequest
from services.common.sampling.control import AppliesTo
from services.common.sampling.controls import CONTROLS
from services.engine.sampling.spec import SamplingSpec


def test_the_default_spec_samples_the_models_own_distribution():
    spec = SamplingSpec()
    assert (spec.is_greedy, spec.counts_output, spec.counts_prompt) == (False, False, False)


def test_a_spec_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingSpec().temperature = 0.5


def test_the_fields_are_all_controls_that_apply_to_a_token():
    of_tokens = [control.name for control in CONTROLS if control.applies_to is AppliesTo.TOKEN]
    assert sorted(field.name for field in dataclasses.fields(SamplingSpec)) == sorted(of_tokens)


def test_every_field_of_a_spec_comes_from_the_message():
    params = SamplingParams(
        temperature=0.5, top_p=0.25, top_k=3, min_p=0.125, presence_penalty=-1.0, frequency_penalty=1.5,
        repetition_penalty=1.25, logit_bias={7: 1.0, 3: -2.0}, min_tokens=4, stop_token_ids=[9, 8],
        logprobs=True, top_logprobs=2, seed=5, n=2,
    )  # fmt: skip
    assert SamplingSpec.from_proto(params, 10) == SamplingSpec(
        temperature=0.5, top_p=0.25, top_k=3, min_p=0.125, presence_penalty=-1.0, frequency_penalty=1.5,
        repetition_penalty=1.25, logit_bias=((3, -2.0), (7, 1.0)), min_tokens=4,
        stop_token_ids=frozenset((8, 9)), logprobs=True, top_logprobs=2,
    )  # fmt: skip


def test_what_the_message_leaves_out_has_its_default():
    assert SamplingSpec.from_proto(SamplingParams(), 10) == SamplingSpec(temperature=1.0, top_p=0.95)
    assert SamplingSpec.from_proto(SamplingParams(temperature=0), 10).is_greedy


def test_stop_ids_of_the_tokenizer_fit_beside_all_that_a_caller_may_give():
    most = next(control.most for control in CONTROLS if control.name == "stop_token_ids")
    params = SamplingParams(stop_token_ids=range(most + 2))
    assert SamplingSpec.from_proto(params, 100).stop_token_ids == frozenset(range(most + 2))


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("temperature", 2.5),
        ("top_p", float("nan")),
        ("n", 17),
        ("stop_token_ids", [10]),
        ("logit_bias", {10: 1}),
    ],
)
def test_a_control_out_of_range_is_refused_by_name(control, value):
    with pytest.raises(InvalidRequest, match=rf"{control} is") as caught:
        SamplingSpec.from_proto(SamplingParams(**{control: value}), 10)
    assert caught.value.param == control
