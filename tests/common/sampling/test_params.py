"""What the table of controls does for doors and workers."""

import math

import pytest

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest
from services.common.sampling.controls import BY_NAME, CONTROLS
from services.common.sampling.params import check, check_callers, fill_defaults, from_json

VOCABULARY = 1000
OUT_OF_RANGE = [
    ("temperature", 2.01),
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("top_p", 0.0),
    ("top_p", 1.1),
    ("min_p", 1.5),
    ("min_p", -0.1),
    ("presence_penalty", 2.5),
    ("frequency_penalty", -3.0),
    ("repetition_penalty", 0.0),
    ("repetition_penalty", math.nan),
    ("n", 17),
    ("top_k", 1 << 31),
    ("top_logprobs", 21),
    ("min_tokens", 1 << 31),
    ("stop_token_ids", [VOCABULARY]),
    ("stop", [""]),
    ("stop", ["x" * 257]),
    ("logit_bias", {VOCABULARY: 1.0}),
    ("logit_bias", {1: 101.0}),
    ("logit_bias", {1: math.nan}),
]
TOO_MANY = [
    ("stop_token_ids", [1] * 65),
    ("stop", ["x"] * 17),
    ("logit_bias", dict.fromkeys(range(1025), 1.0)),
]
# What the message has no place for.
NO_VALUE = [
    ("top_k", -2),
    ("seed", -(1 << 63) - 1),
    ("seed", 1 << 64),
    ("n", 0),
    ("max_tokens", -1),
    ("min_tokens", -1),
    ("top_logprobs", -1),
    ("stop_token_ids", [-1]),
    ("stop_token_ids", [1 << 40]),
    ("logit_bias", {-1: 1.0}),
]


@pytest.mark.parametrize("key", ["", "x", " 1", "1 ", "+1", "-1", "1_0", "\u0661", "1.0", "1234567890"])
def test_a_key_that_is_no_token_id_in_decimal_digits_is_refused(key):
    """A guard for the first two, and the negative one."""
    with pytest.raises(InvalidRequest) as caught:
        from_json({"logit_bias": {key: 1.0}}, VOCABULARY, spelt)
    assert caught.value.param == "here.logit_bias"


def test_keys_in_decimal_digits_are_token_ids():
    biases = from_json({"logit_bias": {"0": 1.0, "999": -2.0}}, VOCABULARY, spelt).logit_bias
    assert dict(biases) == {0: 1.0, 999: -2.0}


def spelt(name):
    return f"here.{name}"


def message(**given):
    return from_json(given, VOCABULARY, spelt)


def test_every_field_of_the_message_is_a_control():
    fields = [field.name for field in sampling_pb2.SamplingParams.DESCRIPTOR.fields]
    assert sorted(fields) == sorted(control.name for control in CONTROLS)


@pytest.mark.parametrize(("control", "value"), OUT_OF_RANGE + TOO_MANY + NO_VALUE)
def test_a_json_value_out_of_range_is_refused_by_the_caller_s_name_for_it(control, value):
    if isinstance(value, dict):
        value = {str(token_id): number for token_id, number in value.items()}
    with pytest.raises(InvalidRequest, match=f"here.{control}|at most|stop string") as caught:
        message(**{control: value})
    assert caught.value.param == f"here.{control}"


@pytest.mark.parametrize(("control", "value"), OUT_OF_RANGE)
def test_a_field_out_of_range_is_refused_by_the_caller_s_name_for_it(control, value):
    with pytest.raises(InvalidRequest) as caught:
        check(sampling_pb2.SamplingParams(**{control: value}), VOCABULARY, spelt)
    assert caught.value.param == f"here.{control}"


@pytest.mark.parametrize(("control", "value"), TOO_MANY)
def test_a_field_with_too_many_entries_is_refused_by_the_caller_s_name_for_it(control, value):
    with pytest.raises(InvalidRequest, match=f"at most .*, {len(value)} given") as caught:
        check_callers(sampling_pb2.SamplingParams(**{control: value}), VOCABULARY, spelt)
    assert caught.value.param == f"here.{control}"


def test_an_error_shows_the_value_as_it_was_given_and_the_range():
    for control, value, text in [
        ("temperature", 2.01, "here.temperature is 2.01; it must be in [0.0, 2.0]"),
        ("top_p", 0, "here.top_p is 0; it must be in (0.0, 1.0]"),
        ("stop_token_ids", [-1], "here.stop_token_ids is -1; it must be in [0, 999]"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            message(**{control: value})
        assert caught.value.message == text


def test_the_bounds_themselves_are_allowed():
    params = message(
        temperature=0.0, top_p=1.0, min_p=1.0, presence_penalty=-2.0, repetition_penalty=2.0, n=16,
        max_tokens=0, seed=(1 << 64) - 1, stop=["x" * 256] * 16, logprobs=True, top_logprobs=20,
        logit_bias={"0": -100.0, str(VOCABULARY - 1): 100.0}, stop_token_ids=[VOCABULARY - 1] * 64,
    )  # fmt: skip
    check(params, VOCABULARY)


def test_what_clients_write_in_other_ways_means_the_same():
    assert message(top_k=-1) == message() == sampling_pb2.SamplingParams()
    assert message(seed=-1).seed == (1 << 64) - 1
    assert message(stop="a") == message(stop=["a"])
    assert message(logit_bias={"7": -3}).logit_bias == {7: -3.0}
    assert message(keep_special_tokens=False).keep_special_tokens is True
    assert message(keep_special_tokens=True).keep_special_tokens is False
    assert message(temperature=0).HasField("temperature")


def test_the_names_of_json_fields_are_those_of_each_door():
    assert BY_NAME["seed"].spelt("openai") == "seed"
    assert BY_NAME["seed"].spelt("sglang") == "sampling_seed"
    assert BY_NAME["logprobs"].spelt("openai") == "", "the routes declare it themselves"


def test_absent_controls_get_what_is_recommended_or_their_default():
    params = sampling_pb2.SamplingParams(top_p=0.5, temperature=0.0)
    fill_defaults(params, {"temperature": 0.6, "top_p": 0.9, "min_p": 0.25})
    assert params == sampling_pb2.SamplingParams(
        top_p=0.5, temperature=0.0, min_p=0.25, repetition_penalty=1.0, n=1
    )
